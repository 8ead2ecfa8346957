/** Stands in for the coordinator's membership until that exists. */
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import type { Clock } from '@collective/base/clock';
import { type ChunkId, chunkIdToBytes, type Epoch, type NodeName, type SessionId } from '@collective/base/ids';
import { ACCESS_TOKEN_LIFETIME_MS, HEARTBEAT_INTERVAL_MS, NODE_AWAY_AFTER_MS } from '@collective/base/limits';
import type { Random } from '@collective/base/random';
import { chooseReplicas } from '@collective/coordinator/placement/choose-replicas';
import type { AccessRequest, DataAccess } from '@collective/coordinator/session/data-access';
import { type AccessToken, type NodeRoute, NodeState } from '@collective/protocol/gen/common';
import {
  AccessClaims,
  AccessRights,
  type CoordinatorMessage,
  type NodeMessage,
  type NodeReport,
  SignedAccess,
  type Welcome,
} from '@collective/protocol/gen/node';
import type { Placement, ReplicaTicket } from '@collective/protocol/gen/session';
import type { Link } from '@collective/protocol/link/link';

interface KnownNode {
  report: NodeReport;
  heardMs: number;
  readonly key: Buffer;
  link: Link<CoordinatorMessage, NodeMessage>;
}

export class StandInMembership implements DataAccess {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #epoch: Epoch;
  readonly #nodes = new Map<string, KnownNode>();
  readonly #keys = generateKeyPairSync('ed25519');
  readonly #questions = new Map<number, (held: ReadonlySet<ChunkId>) => void>();
  #question = 0;
  onReport: (node: NodeName, report: NodeReport) => void = () => undefined;

  constructor(clock: Clock, random: Random, epoch: Epoch) {
    this.#clock = clock;
    this.#random = random;
    this.#epoch = epoch;
  }

  async serve(link: Link<CoordinatorMessage, NodeMessage>, name: string): Promise<void> {
    for (;;) {
      const message = (await link.receive())?.message;
      if (message === undefined) return;
      if (message.$case === 'chunksHeld') {
        const held = message.value.held.map((id) => id.toString('hex') as ChunkId);
        this.#questions.get(message.value.question)?.(new Set(held));
        this.#questions.delete(message.value.question);
        continue;
      }
      const known = this.#nodes.get(name);
      const node = {
        report: message.value,
        heardMs: this.#clock.bootMs(),
        key: known?.key ?? this.#random.bytes(32),
        link,
      };
      this.#nodes.set(name, node);
      link.send({
        message: { $case: message.$case === 'register' ? 'welcome' : 'update', value: this.#welcome(node) },
      });
      this.onReport(name as NodeName, message.value);
    }
  }

  askChunks(name: NodeName, chunks: readonly ChunkId[]): Promise<ReadonlySet<ChunkId>> {
    const node = this.#nodes.get(name);
    if (node === undefined) return Promise.reject(new Error('unknown node'));
    const question = ++this.#question;
    return new Promise((resolve) => {
      this.#questions.set(question, resolve);
      node.link.send({ message: { $case: 'askChunks', value: { question, chunks: chunks.map(chunkIdToBytes) } } });
    });
  }

  routes(): NodeRoute[] {
    return [...this.#nodes].map(([name, node]) => ({ name, host: name, port: 1, state: this.#state(node), zone: '' }));
  }

  place(wanted: number, sets: number): Placement[] {
    const ready = [...this.#nodes].filter(([, node]) => this.#state(node) === NodeState.READY);
    const candidates = ready.map(([name, { report }]) => ({ name, zone: '', freeBytes: report.freeBytes }));
    return chooseReplicas(candidates, wanted, sets, this.#random).map((nodes) => ({ nodes }));
  }

  freeBytes(): { capacityBytes: number; freeBytes: number } {
    let capacityBytes = 0;
    let freeBytes = 0;
    for (const { report } of this.#nodes.values()) {
      capacityBytes += report.capacityBytes;
      freeBytes += report.freeBytes;
    }
    return { capacityBytes, freeBytes };
  }

  issueAccess({ subject, session, write, epoch, firstChunk, lastChunk }: AccessRequest): AccessToken {
    const expires = { seconds: this.#clock.now().seconds + ACCESS_TOKEN_LIFETIME_MS / 1000, nanos: 0 };
    const rights = write ? AccessRights.ACCESS_READ_WRITE : AccessRights.ACCESS_READ;
    const claims = Buffer.from(
      AccessClaims.encode({ subject, session, rights, epoch, firstChunk, lastChunk, expires, keyId: 'k' }).finish(),
    );
    const signature = sign(null, Buffer.concat([Buffer.from('collective access v1\0'), claims]), this.#keys.privateKey);
    return { token: Buffer.from(SignedAccess.encode({ claims, signature }).finish()), expires };
  }

  ticket(name: string, chunk: ChunkId, session: SessionId): ReplicaTicket | undefined {
    const node = this.#nodes.get(name);
    if (node === undefined) return undefined;
    const expires = { seconds: this.#clock.now().seconds + 300, nanos: 0 };
    const tail = Buffer.alloc(16);
    tail.writeBigUInt64BE(BigInt(session), 0);
    tail.writeBigUInt64BE(BigInt(expires.seconds), 8);
    const ticket = createHmac('sha256', node.key).update(chunkIdToBytes(chunk)).update(tail).digest().subarray(0, 16);
    return { node: name, ticket, expires };
  }

  #state(node: KnownNode): NodeState {
    return this.#clock.bootMs() - node.heardMs > NODE_AWAY_AFTER_MS ? NodeState.AWAY : NodeState.READY;
  }

  #welcome(node: KnownNode): Welcome {
    const { x } = this.#keys.publicKey.export({ format: 'jwk' });
    return {
      epoch: this.#epoch,
      heartbeatIntervalMs: HEARTBEAT_INTERVAL_MS,
      signingKeys: [{ id: 'k', publicKey: Buffer.from(x ?? '', 'base64url') }],
      ticketKey: node.key,
      previousTicketKey: Buffer.alloc(0),
      nodes: this.routes(),
      member: 'sim',
      time: this.#clock.now(),
    };
  }
}
