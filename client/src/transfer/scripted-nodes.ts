/** For tests: storage nodes in memory that fail as the test says. They speak the real frames over memory connections. */

import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { FakeClock } from '@collective/base/fake-clock';
import { type ChunkId, chunkIdFromBytes } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import type { BulkConnection, BulkConnector, BulkTarget } from '@collective/protocol/bulk/connection';
import {
  copyFrame,
  encodeControlFrame,
  FRAME_HEADER_BYTES,
  FRAME_TYPES,
  type Frame,
  payloadOf,
} from '@collective/protocol/bulk/frame';
import { memoryConnectionPair } from '@collective/protocol/bulk/memory-connection';
import {
  type AccessToken,
  Failure,
  type NodeRoute,
  NodeState,
  type ReplicaOutcome,
} from '@collective/protocol/gen/common';
import {
  AccessClaims,
  BulkWelcome,
  GetBegin,
  GetEnd,
  PutBegin,
  PutOutcome,
  SignedAccess,
} from '@collective/protocol/gen/node';

/** `ok`, a failure by its code, or no answer at all. */
export type Behaviour = 'ok' | 'silent' | ErrorCode;

export interface ScriptedNode {
  readonly name: string;
  state: NodeState;
  isUp: boolean;
  zone: string;
  put: Behaviour;
  get: Behaviour;
  /** Frames of a get after which the connection breaks. */
  breakAfterFrames: number | undefined;
  readonly chunks: Map<ChunkId, Buffer[]>;
  readonly puts: PutBegin[];
  readonly gets: GetBegin[];
}

export class ScriptedNodes implements BulkConnector {
  readonly #clock: FakeClock;
  readonly nodes = new Map<string, ScriptedNode>();

  constructor(clock: FakeClock, names: readonly string[]) {
    this.#clock = clock;
    for (const name of names)
      this.nodes.set(name, {
        name,
        state: NodeState.READY,
        isUp: true,
        zone: '',
        put: 'ok',
        get: 'ok',
        breakAfterFrames: undefined,
        chunks: new Map(),
        puts: [],
        gets: [],
      });
  }

  node(name: string): ScriptedNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new RangeError(`There is no node ${name}`);
    return node;
  }

  routes(): NodeRoute[] {
    return [...this.nodes.values()].map(({ name, state, zone }) => ({ name, host: name, port: 1, state, zone }));
  }

  async connect(target: BulkTarget): Promise<BulkConnection> {
    const node = this.node(target.name);
    if (!node.isUp) throw new CollectiveError('unavailable', `Connect to ${target.name}`);
    const { connector, acceptor, cut } = memoryConnectionPair({
      clock: this.#clock,
      connectorName: 'client',
      acceptorName: node.name,
    });
    const arriving = new Map<number, { begin: PutBegin; frames: Buffer[] }>();
    acceptor.listen({
      frame: (frame) => this.#take(node, acceptor, cut, arriving, frame),
      closed: () => arriving.clear(),
    });
    return connector;
  }

  #take(
    node: ScriptedNode,
    connection: BulkConnection,
    cut: () => void,
    arriving: Map<number, { begin: PutBegin; frames: Buffer[] }>,
    frame: Frame,
  ): void {
    switch (frame.type) {
      case FRAME_TYPES.HELLO: {
        const welcome = { wireVersion: 1, features: [], node: node.name, disk: `disk-${node.name}` };
        connection.send([encodeControlFrame('WELCOME', 0, BulkWelcome.encode(welcome).finish())]);
        return;
      }
      case FRAME_TYPES.PUT_BEGIN:
        arriving.set(frame.stream, { begin: PutBegin.decode(payloadOf(frame)), frames: [] });
        return;
      case FRAME_TYPES.DATA:
        arriving.get(frame.stream)?.frames.push(wholeFrame(frame));
        return;
      case FRAME_TYPES.PUT_END: {
        const put = arriving.get(frame.stream);
        if (put === undefined) return;
        arriving.delete(frame.stream);
        node.puts.push(put.begin);
        if (node.put === 'silent') return;
        const replicas = [node.name, ...put.begin.forwardTo].map((name) => this.#store(name, put.begin, put.frames));
        connection.send([encodeControlFrame('PUT_OUTCOME', frame.stream, PutOutcome.encode({ replicas }).finish())]);
        return;
      }
      case FRAME_TYPES.GET_BEGIN:
        this.#get(node, connection, cut, frame.stream, GetBegin.decode(payloadOf(frame)));
        return;
      default:
        return;
    }
  }

  #store(name: string, begin: PutBegin, frames: readonly Buffer[]): ReplicaOutcome {
    const node = this.node(name);
    const behaviour = node.isUp ? node.put : 'unavailable';
    const outcome = { node: name, disk: `disk-${name}`, incarnation: 1, sequence: node.chunks.size + 1, stable: true };
    if (behaviour !== 'ok')
      return { ...outcome, failure: failureOf(behaviour === 'silent' ? 'deadline_exceeded' : behaviour) };
    node.chunks.set(chunkIdFromBytes(begin.chunk), [...frames]);
    return { ...outcome, failure: undefined };
  }

  #get(node: ScriptedNode, connection: BulkConnection, cut: () => void, stream: number, begin: GetBegin): void {
    node.gets.push(begin);
    if (node.get === 'silent') return;
    const frames = node.chunks.get(chunkIdFromBytes(begin.chunk));
    const behaviour = frames === undefined ? 'chunk_missing' : node.get;
    if (behaviour !== 'ok' || frames === undefined) {
      const failure = failureOf(behaviour === 'ok' ? 'chunk_missing' : behaviour);
      connection.send([encodeControlFrame('FAILURE', stream, Failure.encode(failure).finish())]);
      return;
    }
    const first = Math.floor(begin.offset / FRAME_BYTES);
    const wanted = frames.slice(first, Math.ceil((begin.offset + begin.length) / FRAME_BYTES));
    for (const [index, bytes] of wanted.entries()) {
      if (index === node.breakAfterFrames) {
        this.#clock.defer(() => this.#clock.defer(cut));
        return;
      }
      connection.send([Buffer.from(bytes)], { stream });
    }
    connection.send([encodeControlFrame('GET_END', stream, GetEnd.encode({ frames: wanted.length }).finish())]);
  }
}

/** A token for the chunk ids of one grant, signed by nobody. */
export function accessToken(clock: FakeClock, epochStart: number, firstChunk: number, lastChunk: number): AccessToken {
  const expires = { seconds: clock.now().seconds + 300, nanos: 0 };
  const claims: AccessClaims = {
    subject: 'spiffe://alice.home/user/ann',
    session: 7,
    rights: 3,
    epoch: { generation: 1000, start: epochStart },
    firstChunk,
    lastChunk,
    expires,
    keyId: 'k',
  };
  const token = SignedAccess.encode({
    claims: Buffer.from(AccessClaims.encode(claims).finish()),
    signature: Buffer.alloc(64),
  }).finish();
  return { token: Buffer.from(token), expires };
}

function failureOf(code: ErrorCode): Failure {
  return { code, message: `Scripted: ${code}`, details: {} };
}

function wholeFrame(frame: Frame): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + frame.storedLength);
  copyFrame(frame, bytes, 0);
  return bytes;
}
