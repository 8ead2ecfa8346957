/**
 * For tests and benchmarks only: a node without a coordinator, on a real disk folder and real TLS sockets of this process, and
 * tokens and tickets as a coordinator would make them.
 */
import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileDisk } from '@collective/base/disk/file-disk';
import type { ChunkId, Epoch } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { makeTicket } from '@collective/protocol/access/ticket';
import { rawPublicKey, signAccess } from '@collective/protocol/access/token';
import type { BulkTarget } from '@collective/protocol/bulk/connection';
import { TlsBulkAcceptor } from '@collective/protocol/bulk/tls-acceptor';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { type AccessClaims, AccessRights, type Welcome } from '@collective/protocol/gen/node';
import type { Trust } from '@collective/protocol/tls/trust-files';
import { parseTrustSet, type TrustPems, type TrustSet } from '@collective/protocol/tls/trust-set';
import { FileChunkStore } from '../chunk-store/file-chunk-store.ts';
import { AccessControl } from './access-control.ts';
import { BulkService } from './bulk-service.ts';
import { FORWARD_CONNECTIONS_MAX, Forwarder } from './forwarder.ts';
import { NodeMetrics } from './node-metrics.ts';
import { PeerConnections } from './peer-connections.ts';

export const SCRATCH_EPOCH: Epoch = { generation: 1_700_000_000, start: 1 };
const FAR_SECONDS = 4_000_000_000;

export function fixedTrust(set: TrustSet): Trust {
  return { current: set, onChange: () => () => undefined };
}

/** Signs as the coordinator does (D7). */
export class ScratchCoordinator {
  readonly #signingKey: KeyObject;
  readonly #publicKey: Buffer;
  readonly epoch: Epoch;

  constructor(epoch: Epoch = SCRATCH_EPOCH) {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    this.#signingKey = privateKey;
    this.#publicKey = rawPublicKey(publicKey);
    this.epoch = epoch;
  }

  token(subject: string, claims: Partial<AccessClaims> = {}): Buffer {
    return signAccess(
      {
        subject,
        session: 7,
        rights: AccessRights.ACCESS_READ_WRITE,
        epoch: this.epoch,
        firstChunk: 1,
        lastChunk: 1_000_000_000,
        expires: { seconds: FAR_SECONDS, nanos: 0 },
        keyId: 'k1',
        ...claims,
      },
      this.#signingKey,
    );
  }

  ticketKeyOf(node: string): Buffer {
    return createHmac('sha256', 'scratch').update(node).digest();
  }

  ticket(
    node: string,
    chunk: ChunkId,
    session = 7,
    expiresSeconds = FAR_SECONDS,
  ): { ticket: Buffer; ticketExpires: { seconds: number; nanos: number } } {
    const ticket = makeTicket(this.ticketKeyOf(node), { chunk, session, expiresSeconds });
    return { ticket, ticketExpires: { seconds: expiresSeconds, nanos: 0 } };
  }

  welcome(node: string, nodes: readonly BulkTarget[] = []): Welcome {
    return {
      epoch: this.epoch,
      heartbeatIntervalMs: 2000,
      signingKeys: [{ id: 'k1', publicKey: this.#publicKey }],
      ticketKey: this.ticketKeyOf(node),
      previousTicketKey: Buffer.alloc(0),
      nodes: nodes.map(({ name, host, port }) => ({ name, host, port, state: 1, zone: '' })),
      member: 'alice',
      time: undefined,
      scrubPeriodSeconds: 0,
      trust: undefined,
    };
  }
}

export interface ScratchNodeOptions {
  readonly name: string;
  readonly identity: TrustPems;
  readonly welcome: Welcome;
  readonly capacityBytes?: number;
  readonly reserveBytes?: number;
  /** Kept at the end, opened if it exists. Default: a new one, removed. */
  readonly folder?: string;
}

export interface ScratchNode extends AsyncDisposable {
  readonly target: BulkTarget;
  readonly store: FileChunkStore;
  readonly access: AccessControl;
  readonly service: BulkService;
  readonly folder: string;
  readonly metrics: NodeMetrics;
  setRoutes(nodes: readonly BulkTarget[]): void;
}

export async function startScratchNode(options: ScratchNodeOptions): Promise<ScratchNode> {
  const { name, identity, welcome, capacityBytes = 20 * 2 ** 30, reserveBytes } = options;
  await using parts = new AsyncDisposableStack();
  const clock = new SystemClock();
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'collective-node-')));
  if (options.folder === undefined) parts.defer(() => rm(folder, { recursive: true, force: true }));
  const disk = await FileDisk.at(folder);
  const store = parts.use(
    await FileChunkStore.open({
      disk,
      clock,
      random: new SystemRandom(),
      capacityBytes,
      ...(reserveBytes === undefined ? {} : { reserveBytes }),
    }),
  );
  const access = await AccessControl.open(disk, clock);
  await access.welcome(welcome);
  const trust = fixedTrust(parseTrustSet(identity, `node ${name}`));
  const connector = new TlsBulkConnector({ trust, clock });
  const peers = parts.use(
    new PeerConnections({ connector, clock, program: name, connectionsPerNodeMax: FORWARD_CONNECTIONS_MAX }),
  );
  const forwarder = new Forwarder(peers);
  const metrics = new NodeMetrics();
  const service = new BulkService({ store, access, forwarder, node: name, metrics, clock, log: silentLog });
  const acceptor = parts.use(
    await TlsBulkAcceptor.listen({
      trust,
      clock,
      host: '127.0.0.1',
      port: 0,
      accept: (connection, peer) => service.accept(connection, peer),
    }),
  );
  const running = parts.move();
  return {
    target: { name, host: '127.0.0.1', port: acceptor.port },
    store,
    access,
    service,
    folder,
    metrics,
    setRoutes: (nodes) => peers.setRoutes(nodes),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}
