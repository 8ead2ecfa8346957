/** How a node holds its bounds and what it does with peers that stop, lag or break the rules: on fake clock, disk and network. */
import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { type ChunkId, chunkIdOf, chunkIdToBytes } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import type { BulkConnection } from '@collective/protocol/bulk/connection';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import type { BulkExchange } from '@collective/protocol/bulk/exchange';
import { encodeControlFrame, FRAME_TYPES, payloadOf } from '@collective/protocol/bulk/frame';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import { Failure } from '@collective/protocol/gen/common';
import { BulkHello, GetBegin, PutBegin } from '@collective/protocol/gen/node';
import type { BulkPeer } from './access-control.ts';
import { SESSION_STREAMS_MAX } from './bulk-session.ts';
import { FakeMember } from './fake-node.ts';
import { SCRATCH_EPOCH, ScratchCoordinator } from './scratch-node.ts';

const MiB = 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const ANN: BulkPeer = { uri: 'spiffe://alice.home/user/ann', role: 'user', name: 'ann' };
const never = new AbortController().signal;
let nextChunk = 0;
const newChunk = (): ChunkId => chunkIdOf(SCRATCH_EPOCH, ++nextChunk);

/** Small, so that filling it is quick. */
const MEMORY = {
  clientPutBytes: 16 * CHUNK_BYTES,
  nodePutBytes: 8 * CHUNK_BYTES,
  readBytes: 2 * MiB,
  readBytesPerConnection: MiB,
};

function newMember(): FakeMember {
  return new FakeMember(new FakeClock({ startSeconds: 1_800_000_000 }), new ScratchCoordinator(), MEMORY);
}

function put(
  member: FakeMember,
  exchange: BulkExchange,
  length: number,
  forwardTo: readonly string[] = [],
): Promise<ReplicaOutcome[]> {
  const encoded = encodeChunk([Buffer.alloc(length, 1)], { compress: false });
  return exchange.put(
    {
      token: member.coordinator.token(ANN.uri),
      chunk: newChunk(),
      length,
      inode: 1,
      block: 0,
      forwardTo,
      stable: false,
    },
    encoded,
    { signal: never },
  );
}

/** Speaks frames by hand. */
class RawClient {
  readonly connection: BulkConnection;
  readonly frames: { readonly type: number; readonly stream: number; readonly payload: Buffer }[] = [];
  closed = false;

  constructor(connection: BulkConnection) {
    this.connection = connection;
    connection.listen({
      frame: (frame) => this.frames.push({ type: frame.type, stream: frame.stream, payload: payloadOf(frame) }),
      closed: () => {
        this.closed = true;
      },
    });
  }

  hello(): void {
    this.connection.send([
      encodeControlFrame('HELLO', 0, BulkHello.encode({ wireVersion: 1, features: [], program: 'raw' }).finish()),
    ]);
  }

  beginPut(member: FakeMember, stream: number, length: number): void {
    const begin = {
      token: member.coordinator.token(ANN.uri),
      chunk: chunkIdToBytes(newChunk()),
      length,
      inode: 1,
      block: 0,
      forwardTo: [],
      stable: false,
    };
    this.connection.send([encodeControlFrame('PUT_BEGIN', stream, PutBegin.encode(begin).finish())]);
  }

  data(stream: number, length: number): void {
    for (const frames of encodeChunk([Buffer.alloc(length, 2)], { compress: false }).frames)
      this.connection.send([frames], { stream });
  }

  failure(): { readonly stream: number; readonly code: string; readonly message: string } | undefined {
    const frame = this.frames.find(({ type }) => type === FRAME_TYPES.FAILURE);
    if (frame === undefined) return undefined;
    const { code, message } = Failure.decode(frame.payload);
    return { stream: frame.stream, code, message };
  }
}

describe('bulk session', () => {
  test('puts beyond the budget wait until there is room, and all end well', async () => {
    const member = newMember();
    const node = await member.addNode('one', { latencyMs: ({ kind }) => (kind === 'write' ? 20 : 0) });
    const exchanges = await Promise.all([1, 2, 3, 4].map(() => member.exchange('one', ANN)));
    let highest = 0;
    const { bufferedBytes } = node.metrics;
    mock.method(bufferedBytes, 'set', (_labels: unknown, bytes: number) => {
      highest = Math.max(highest, bytes);
    });
    const puts = exchanges.flatMap((exchange) => Array.from({ length: 10 }, () => put(member, exchange, CHUNK_BYTES)));
    const outcomes = (await member.clock.finish(Promise.all(puts), { withinMs: 60_000 })).flat();
    assert.equal(outcomes.length, 40);
    assert.ok(outcomes.every(({ failure }) => failure === undefined));
    assert.ok(highest <= MEMORY.clientPutBytes, `${highest} bytes were held`);
    assert.ok(highest > MEMORY.clientPutBytes - 2 * CHUNK_BYTES, 'the budget was used up');
  });

  test('D6: nodes that are full of puts for each other still go on: forwarded puts have memory of their own', async () => {
    const member = newMember();
    const slow = { latencyMs: ({ kind }: { kind: string }) => (kind === 'write' ? 30 : 0) };
    await member.addNode('one', slow);
    await member.addNode('two', slow);
    const toOne = await Promise.all([1, 2].map(() => member.exchange('one', ANN)));
    const toTwo = await Promise.all([1, 2].map(() => member.exchange('two', ANN)));
    const puts = [
      ...toOne.flatMap((exchange) => Array.from({ length: 10 }, () => put(member, exchange, CHUNK_BYTES, ['two']))),
      ...toTwo.flatMap((exchange) => Array.from({ length: 10 }, () => put(member, exchange, CHUNK_BYTES, ['one']))),
    ];
    const outcomes = (await member.clock.finish(Promise.all(puts), { withinMs: 120_000 })).flat();
    assert.equal(outcomes.length, 80);
    assert.deepEqual([...new Set(outcomes.map(({ failure }) => failure?.message))], [undefined]);
  });

  test('D6: a second replica that dies in the middle is a failed outcome; the first counts, and its memory comes back', async () => {
    const member = newMember();
    const one = await member.addNode('one');
    const two = await member.addNode('two', { latencyMs: ({ kind }) => (kind === 'write' ? 1000 : 0) });
    const exchange = await member.exchange('one', ANN);
    const putting = put(member, exchange, CHUNK_BYTES, ['two']);
    await member.clock.until(() => two.pairs.length === 1, { withinMs: 1000 });
    await member.clock.advance(100);
    for (const pair of two.pairs) pair.cut();
    const [here, there] = await member.clock.finish(putting, { withinMs: 5000 });
    assert.equal(here?.failure, undefined);
    assert.deepEqual([there?.node, there?.failure?.code], ['two', 'unavailable']);
    // All of the budget is free again: this many at once would not fit otherwise.
    await member.clock.finish(Promise.all(Array.from({ length: 20 }, () => put(member, exchange, CHUNK_BYTES))), {
      withinMs: 60_000,
    });
    assert.equal(one.store.stats().chunkCount, 21);
  });

  test('a client that dies in the middle of a put leaves no chunk and no memory taken, here and on the replica', async () => {
    const member = newMember();
    const one = await member.addNode('one');
    const two = await member.addNode('two');
    for (let i = 0; i < 40; i++) {
      const client = new RawClient(member.dial('one', ANN));
      client.hello();
      client.beginPut(member, 1, 4 * CHUNK_BYTES);
      client.data(1, 2 * CHUNK_BYTES);
      await member.clock.settle();
      client.connection.destroy(new CollectiveError('interrupted', 'The client died'));
      await member.clock.settle();
    }
    const exchange = await member.exchange('one', ANN);
    const outcomes = await member.clock.finish(put(member, exchange, CHUNK_BYTES, ['two']));
    assert.ok(outcomes.every(({ failure }) => failure === undefined));
    assert.deepEqual([one.store.stats().chunkCount, two.store.stats().chunkCount], [1, 1]);
  });

  test('a client that stops in the middle of a put loses the connection', async () => {
    const member = newMember();
    await member.addNode('one');
    const client = new RawClient(member.dial('one', ANN));
    client.hello();
    client.beginPut(member, 1, BLOCK_BYTES);
    client.data(1, MiB);
    await member.clock.advance(14_000);
    assert.equal(client.closed, false);
    await member.clock.advance(3_000);
    assert.equal(client.closed, true);
  });

  test('a client that never says hello loses the connection; one that is idle keeps it for ten minutes', async () => {
    const member = newMember();
    await member.addNode('one');
    const mute = new RawClient(member.dial('one', ANN));
    const idle = new RawClient(member.dial('one', ANN));
    idle.hello();
    await member.clock.advance(20_000);
    assert.deepEqual([mute.closed, idle.closed], [true, false]);
    await member.clock.advance(570_000);
    assert.equal(idle.closed, false);
    await member.clock.advance(20_000);
    assert.equal(idle.closed, true);
  });

  test('a reader that takes nothing loses the connection, and the others read on', async () => {
    const member = newMember();
    const node = await member.addNode('one');
    const exchange = await member.exchange('one', ANN);
    const chunk = newChunk();
    const token = member.coordinator.token(ANN.uri);
    const encoded = encodeChunk([Buffer.alloc(BLOCK_BYTES, 5)], { compress: false });
    await member.clock.finish(
      exchange.put({ token, chunk, length: BLOCK_BYTES, inode: 1, block: 0, forwardTo: [], stable: false }, encoded, {
        signal: never,
      }),
    );
    const begin = GetBegin.encode({
      token,
      ...member.coordinator.ticket('one', chunk),
      chunk: chunkIdToBytes(chunk),
      offset: 0,
      length: BLOCK_BYTES,
    }).finish();
    const stuck = Array.from({ length: 4 }, () => new RawClient(member.dial('one', ANN)));
    for (const client of stuck) {
      client.hello();
      client.connection.pause();
      for (let stream = 1; stream <= 20; stream++)
        client.connection.send([encodeControlFrame('GET_BEGIN', stream, begin)]);
    }
    await member.clock.advance(40_000);
    assert.deepEqual(
      stuck.map(({ closed }) => closed),
      [true, true, true, true],
    );
    const read = async (): Promise<number> => {
      let bytes = 0;
      for await (const piece of exchange.get(
        { token, ...member.coordinator.ticket('one', chunk), chunk, offset: 0, length: BLOCK_BYTES },
        { signal: never },
      ))
        bytes += piece.bytes.length;
      return bytes;
    };
    assert.equal(await member.clock.finish(read()), BLOCK_BYTES);
    assert.equal(node.store.stats().chunkCount, 1);
  });

  test('a node that stops ends what is under way and refuses what is new', async () => {
    const member = newMember();
    const node = await member.addNode('one', { latencyMs: ({ kind }) => (kind === 'write' ? 500 : 0) });
    const exchange = await member.exchange('one', ANN);
    const underWay = put(member, exchange, CHUNK_BYTES);
    await member.clock.advance(10);
    const draining = node.service.drain(never);
    await failsWith('shutting_down', member.clock.finish(put(member, exchange, 10)));
    const [outcome] = await member.clock.finish(underWay);
    assert.equal(outcome?.failure, undefined);
    await member.clock.finish(draining);
    await member.clock.until(() => !exchange.isOpen, { withinMs: 1000 });
  });

  test('a node that must stop now cuts what is under way', async () => {
    const member = newMember();
    const node = await member.addNode('one', { latencyMs: ({ kind }) => (kind === 'write' ? 50_000 : 0) });
    const exchange = await member.exchange('one', ANN);
    const underWay = put(member, exchange, CHUNK_BYTES);
    const cut = assert.rejects(underWay, { code: 'unavailable' });
    await member.clock.advance(10);
    const deadline = new AbortController();
    const draining = node.service.drain(deadline.signal);
    deadline.abort();
    await member.clock.finish(draining);
    await member.clock.finish(cut);
  });

  const breaches: readonly {
    name: string;
    code: ErrorCode;
    says: RegExp;
    act: (client: RawClient, member: FakeMember) => void;
  }[] = [
    {
      name: 'no HELLO first',
      code: 'frame_invalid',
      says: /PING came before HELLO/,
      act: (client) => client.connection.send([encodeControlFrame('PING', 0, Buffer.alloc(0))]),
    },
    {
      name: 'a put within a put',
      code: 'frame_invalid',
      says: /PUT_BEGIN came within the put of stream 1/,
      act: (client, member) => {
        client.hello();
        client.beginPut(member, 1, 100);
        client.beginPut(member, 2, 100);
      },
    },
    {
      name: 'data outside a put',
      code: 'frame_invalid',
      says: /DATA came outside a put/,
      act: (client) => {
        client.hello();
        client.data(5, 10);
      },
    },
    {
      name: 'a stream id used twice',
      code: 'frame_invalid',
      says: /PUT_BEGIN came for a stream id that was used/,
      act: (client, member) => {
        client.hello();
        client.beginPut(member, 4, 10);
        client.data(4, 11);
        client.beginPut(member, 4, 10);
      },
    },
    {
      name: 'a frame that only a node sends',
      code: 'frame_invalid',
      says: /WELCOME came from a client/,
      act: (client) => {
        client.hello();
        client.connection.send([encodeControlFrame('WELCOME', 0, Buffer.alloc(0))]);
      },
    },
    {
      name: 'a hello that cannot be read',
      code: 'frame_invalid',
      says: /payload of HELLO/,
      act: (client) => client.connection.send([encodeControlFrame('HELLO', 0, Buffer.from([0xff, 0xff, 0xff]))]),
    },
  ];
  for (const { name, code, says, act } of breaches)
    test(`${name} ends the connection, and the peer is told why`, async () => {
      const member = newMember();
      const node = await member.addNode('one');
      const client = new RawClient(member.dial('one', ANN));
      act(client, member);
      await member.clock.until(() => client.closed, { withinMs: 1000 });
      const failure = client.frames.filter(({ type, stream }) => type === FRAME_TYPES.FAILURE && stream === 0).at(-1);
      assert.ok(failure !== undefined);
      const told = Failure.decode(failure.payload);
      assert.equal(told.code, code);
      assert.match(told.message, says);
      assert.equal(node.store.stats().chunkCount, 0);
    });

  test('a request that cannot be read fails its stream only', async () => {
    const member = newMember();
    await member.addNode('one');
    const client = new RawClient(member.dial('one', ANN));
    client.hello();
    for (const [stream, type] of [
      [1, 'PUT_BEGIN'],
      [2, 'GET_BEGIN'],
      [3, 'SYNC_BEGIN'],
    ] as const)
      client.connection.send([encodeControlFrame(type, stream, Buffer.from([0xff, 0xff, 0xff]))]);
    await member.clock.until(() => client.frames.filter(({ type }) => type === FRAME_TYPES.FAILURE).length === 3, {
      withinMs: 1000,
    });
    assert.deepEqual(
      client.frames.filter(({ type }) => type === FRAME_TYPES.FAILURE).map(({ stream }) => stream),
      [1, 2, 3],
    );
    assert.equal(client.closed, false);
  });

  test('more streams than the bound are refused one by one', async () => {
    const member = newMember();
    await member.addNode('one', { latencyMs: ({ kind }) => (kind === 'sync' ? 1000 : 0) });
    const exchange = await member.exchange('one', ANN);
    await member.clock.finish(put(member, exchange, 10));
    const client = new RawClient(member.dial('one', ANN));
    client.hello();
    for (let stream = 1; stream <= SESSION_STREAMS_MAX + 3; stream++) {
      client.beginPut(member, stream, 10);
      client.data(stream, 10);
      endPut(client, stream);
    }
    await member.clock.until(() => client.frames.length === SESSION_STREAMS_MAX + 4, { withinMs: 10_000 });
    const overloaded = client.frames.filter(
      ({ type, payload }) => type === FRAME_TYPES.FAILURE && Failure.decode(payload).code === 'overloaded',
    );
    assert.ok(overloaded.length <= 3);
    assert.equal(client.closed, false);
  });
});

function endPut(client: RawClient, stream: number): void {
  client.connection.send([
    encodeControlFrame(
      'PUT_END',
      stream,
      Buffer.concat([Buffer.from([0x0a, 8]), encodeChunk([Buffer.alloc(10, 2)], { compress: false }).digest]),
    ),
  ]);
}

async function failsWith(code: ErrorCode, promise: Promise<unknown>): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof CollectiveError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  });
}
