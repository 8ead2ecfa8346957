/** The asking side against a peer that does whatever a test wants, on fake clock and memory connections. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { crc32 } from '@collective/base/crc';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { chunkIdOf } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import { Failure } from '../gen/common.ts';
import { BulkWelcome, GetBegin, GetEnd, PutBegin, PutOutcome, SyncDone } from '../gen/node.ts';
import type { BulkConnection } from './connection.ts';
import { type EncodedChunk, encodeChunk } from './encode-chunk.ts';
import { type ArrivingChunk, BulkExchange, type GetRequest, type PutRequest, STREAMS_MAX } from './exchange.ts';
import { encodeControlFrame, FRAME_TYPES, type Frame, frameTypeName, payloadOf } from './frame.ts';
import { memoryConnectionPair } from './memory-connection.ts';

const never = new AbortController().signal;
const chunk = chunkIdOf({ generation: 1, start: 1 }, 1);

class Peer {
  readonly clock: FakeClock;
  readonly connection: BulkConnection;
  readonly seen: string[] = [];
  readonly frames: Frame[] = [];
  /** What to do with each frame. */
  answer: (frame: Frame) => void = () => undefined;

  constructor(clock: FakeClock, connection: BulkConnection) {
    this.clock = clock;
    this.connection = connection;
    connection.listen({
      frame: (frame) => {
        this.frames.push(frame);
        this.seen.push(`${frameTypeName(frame.type)} ${frame.stream}`);
        if (frame.type === FRAME_TYPES.HELLO)
          this.send(
            'WELCOME',
            0,
            BulkWelcome.encode({ wireVersion: 1, features: [], node: 'one', disk: 'd' }).finish(),
          );
        else this.answer(frame);
      },
      closed: (error) => this.seen.push(`closed ${error?.code}`),
    });
  }

  send(type: Parameters<typeof encodeControlFrame>[0], stream: number, payload: Uint8Array = new Uint8Array(0)): void {
    this.connection.send([encodeControlFrame(type, stream, payload)]);
  }

  outcome(stream: number): void {
    const replica = { node: 'one', disk: 'd', incarnation: 1, sequence: stream, stable: false, failure: undefined };
    this.send('PUT_OUTCOME', stream, PutOutcome.encode({ replicas: [replica] }).finish());
  }

  failure(stream: number, code: ErrorCode): void {
    this.send('FAILURE', stream, Failure.encode({ code, message: 'No', details: {} }).finish());
  }

  data(stream: number, encoded: EncodedChunk, pick: (frame: Buffer, index: number) => boolean = () => true): void {
    let index = 0;
    const bytes = Buffer.concat(encoded.frames);
    for (let at = 0; at < bytes.length; ) {
      const end = at + 24 + bytes.readUInt32LE(at + 12);
      const frame = Buffer.from(bytes.subarray(at, end));
      if (pick(frame, index++)) this.connection.send([frame], { stream });
      at = end;
    }
  }

  getEnd(stream: number, frames: number): void {
    this.send('GET_END', stream, GetEnd.encode({ frames }).finish());
  }
}

async function open(): Promise<{ clock: FakeClock; peer: Peer; exchange: BulkExchange; cut: () => void }> {
  const clock = new FakeClock();
  const { connector, acceptor, cut } = memoryConnectionPair({ clock, connectorName: 'client', acceptorName: 'one' });
  const peer = new Peer(clock, acceptor);
  const exchange = await clock.finish(BulkExchange.open(connector, { clock, program: 'test' }, never));
  return { clock, peer, exchange, cut };
}

function putRequest(length: number): PutRequest {
  return { token: Buffer.from('t'), chunk, length, inode: 1, block: 0, forwardTo: [], stable: false };
}

function getRequest(offset: number, length: number): GetRequest {
  return {
    token: Buffer.from('t'),
    ticket: Buffer.alloc(16),
    ticketExpires: { seconds: 9, nanos: 0 },
    chunk,
    offset,
    length,
  };
}

async function readAll(exchange: BulkExchange, request: GetRequest, signal = never): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of exchange.get(request, { signal })) pieces.push(Buffer.from(piece.bytes));
  return Buffer.concat(pieces);
}

describe('bulk exchange', () => {
  test('says hello and knows whom it talks to', async () => {
    const { exchange, peer } = await open();
    assert.deepEqual([exchange.node, exchange.disk, exchange.isOpen], ['one', 'd', true]);
    assert.deepEqual(peer.seen, ['HELLO 0']);
  });

  test('a caller that gave up before the greeting is told, and nothing is left to fail later', async () => {
    const clock = new FakeClock();
    const { connector } = memoryConnectionPair({ clock, connectorName: 'client', acceptorName: 'one' });
    const signal = AbortSignal.abort(new CollectiveError('interrupted', 'Too late'));
    await failsWith('interrupted', clock.finish(BulkExchange.open(connector, { clock, program: 'test' }, signal)));
    await clock.settle();
  });

  test('a peer that refuses, hangs up or says nothing fails the greeting', async () => {
    for (const [code, act] of [
      ['permission_denied', (peer: Peer) => peer.failure(0, 'permission_denied')],
      ['unavailable', (peer: Peer) => peer.connection.close()],
      ['unavailable', () => undefined],
      ['frame_invalid', (peer: Peer) => peer.send('PUT_OUTCOME', 0)],
    ] as const) {
      const clock = new FakeClock();
      const { connector, acceptor } = memoryConnectionPair({ clock, connectorName: 'client', acceptorName: 'one' });
      acceptor.listen({
        frame: () => act({ failure: Peer.prototype.failure, send: Peer.prototype.send, connection: acceptor } as Peer),
        closed: () => undefined,
      });
      await failsWith(code, clock.finish(BulkExchange.open(connector, { clock, program: 'test' }, never)));
    }
  });

  test('closed while a stuck peer takes no bytes: the put under way fails, and so do those that wait for their turn', async () => {
    const { exchange, peer, clock } = await open();
    peer.connection.pause();
    const raw = randomBytes(4 * 1024 * 1024);
    const puts = [1, 2, 3].map(() =>
      exchange.put(putRequest(raw.length), encodeChunk([raw], { compress: false }), { signal: never }),
    );
    const ended = Promise.all(puts.map((put) => failsWith('unavailable', put)));
    await clock.settle();
    exchange.close();
    await clock.finish(ended);
  });

  test('the frames of one put are never mixed with those of another, and answers may come in any order', async () => {
    const { exchange, peer, clock } = await open();
    const lengths = [300_000, 10, 400_000, 200];
    const puts = lengths.map((length) =>
      exchange.put(putRequest(length), encodeChunk([randomBytes(length)], { compress: false }), { signal: never }),
    );
    await clock.until(() => peer.seen.filter((line) => line.startsWith('PUT_END')).length === 4);
    const streams = peer.seen.slice(1).map((line) => Number(line.split(' ')[1]));
    assert.deepEqual(
      streams,
      [...streams].sort((a, b) => a - b),
    );
    assert.deepEqual(
      peer.frames
        .filter(({ type }) => type === FRAME_TYPES.PUT_BEGIN)
        .map((frame) => PutBegin.decode(payloadOf(frame)).length),
      lengths,
    );
    for (const stream of [3, 1, 4, 2]) peer.outcome(stream);
    const outcomes = await clock.finish(Promise.all(puts));
    assert.deepEqual(
      outcomes.map(([replica]) => replica?.sequence),
      [1, 2, 3, 4],
    );
    assert.equal(exchange.activeStreams, 0);
  });

  test('a put that is refused early stops sending and cancels nothing; the next goes on', async () => {
    const { exchange, peer, clock } = await open();
    peer.answer = (frame) => {
      if (frame.type === FRAME_TYPES.PUT_BEGIN && frame.stream === 1) peer.failure(1, 'no_space');
      if (frame.type === FRAME_TYPES.PUT_END && frame.stream === 2) peer.outcome(2);
    };
    const source = slowly(clock, encodeChunk([randomBytes(1_000_000)], { compress: false }));
    const refused = exchange.put(putRequest(1_000_000), source, { signal: never });
    const next = exchange.put(putRequest(10), encodeChunk([randomBytes(10)], { compress: false }), { signal: never });
    await failsWith('no_space', clock.finish(refused));
    await clock.finish(next);
    assert.ok(!peer.seen.includes('PUT_END 1') && !peer.seen.includes('CANCEL 1'), peer.seen.join(', '));
  });

  test('a source that fails cancels the put', async () => {
    const { exchange, peer, clock } = await open();
    const source = slowly(clock, encodeChunk([randomBytes(1_000_000)], { compress: false }), 1);
    await failsWith('interrupted', clock.finish(exchange.put(putRequest(1_000_000), source, { signal: never })));
    await clock.settle();
    assert.equal(peer.seen.at(-1), 'CANCEL 1');
    peer.answer = (frame) => frame.type === FRAME_TYPES.PUT_END && peer.outcome(frame.stream);
    await clock.finish(
      exchange.put(putRequest(10), encodeChunk([randomBytes(10)], { compress: false }), { signal: never }),
    );
  });

  test('a caller that gives up is told at once and the peer is told, too', async () => {
    const { exchange, peer, clock } = await open();
    const caller = new AbortController();
    const put = exchange.put(putRequest(10), encodeChunk([randomBytes(10)], { compress: false }), {
      signal: caller.signal,
    });
    await clock.until(() => peer.seen.includes('PUT_END 1'));
    caller.abort(new CollectiveError('interrupted', 'Enough'));
    await failsWith('interrupted', put);
    const reading = readAll(exchange, getRequest(0, 10), caller.signal);
    await failsWith('interrupted', reading);
    await clock.settle();
    assert.ok(peer.seen.includes('CANCEL 1'));
    peer.outcome(1);
    await clock.settle();
    assert.equal(exchange.isOpen, true, 'an answer that comes too late does no harm');
  });

  test('a reader that stops reading cancels', async () => {
    const { exchange, peer, clock } = await open();
    peer.answer = (frame) =>
      frame.type === FRAME_TYPES.GET_BEGIN &&
      peer.data(frame.stream, encodeChunk([randomBytes(500_000)], { compress: false }));
    const first = async (): Promise<number> => {
      for await (const piece of exchange.get(getRequest(0, 500_000), { signal: never })) return piece.bytes.length;
      return 0;
    };
    assert.equal(await clock.finish(first()), FRAME_BYTES);
    await clock.settle();
    assert.equal(peer.seen.at(-1), 'CANCEL 1');
    assert.equal(exchange.activeStreams, 0);
  });

  test('D5: a range is unpacked and trimmed at both ends', async () => {
    const { exchange, peer, clock } = await open();
    const raw = Buffer.concat([Buffer.alloc(200_000, 'text '), randomBytes(200_000)]);
    const encoded = encodeChunk([raw], { compress: true });
    peer.answer = (frame) => {
      if (frame.type !== FRAME_TYPES.GET_BEGIN) return;
      const { offset, length } = GetBegin.decode(payloadOf(frame));
      const [first, last] = [Math.floor(offset / FRAME_BYTES), Math.floor((offset + length - 1) / FRAME_BYTES)];
      peer.data(frame.stream, encoded, (_bytes, index) => index >= first && index <= last);
      peer.getEnd(frame.stream, last - first + 1);
    };
    for (const [offset, length] of [
      [0, 1],
      [0, 400_000],
      [131_070, 4],
      [399_999, 1],
      [150_000, 240_000],
    ] as const)
      assert.ok(
        (await clock.finish(readAll(exchange, getRequest(offset, length)))).equals(
          raw.subarray(offset, offset + length),
        ),
      );
    assert.equal((await readAll(exchange, getRequest(5, 0))).length, 0);
  });

  const wrongAnswers: readonly { name: string; code: ErrorCode; act: (peer: Peer, stream: number) => void }[] = [
    {
      name: 'misses a frame',
      code: 'frame_invalid',
      act: (peer, stream) => peer.data(stream, encoded, (_frame, i) => i !== 1),
    },
    {
      name: 'sends a frame twice',
      code: 'frame_invalid',
      act: (peer, stream) => {
        peer.data(stream, encoded, (_frame, i) => i === 0);
        peer.data(stream, encoded);
      },
    },
    {
      name: 'ends too early',
      code: 'frame_invalid',
      act: (peer, stream) => {
        peer.data(stream, encoded, (_frame, i) => i < 2);
        peer.getEnd(stream, 2);
      },
    },
    {
      name: 'miscounts',
      code: 'frame_invalid',
      act: (peer, stream) => {
        peer.data(stream, encoded);
        peer.getEnd(stream, 9);
      },
    },
    {
      name: 'sends more than was asked for',
      code: 'frame_invalid',
      act: (peer, stream) => {
        peer.data(stream, long);
        peer.getEnd(stream, 4);
      },
    },
    {
      name: 'sends a chunk that is too short',
      code: 'frame_invalid',
      act: (peer, stream) => {
        peer.data(stream, short);
        peer.getEnd(stream, 1);
      },
    },
    { name: 'sends another kind of frame', code: 'frame_invalid', act: (peer, stream) => peer.outcome(stream) },
    {
      name: 'sends a frame that does not unpack',
      code: 'chunk_corrupt',
      act: (peer, stream) => peer.data(stream, unpackable()),
    },
    { name: 'fails', code: 'chunk_missing', act: (peer, stream) => peer.failure(stream, 'chunk_missing') },
    {
      name: 'fails in the middle',
      code: 'chunk_corrupt',
      act: (peer, stream) => {
        peer.data(stream, encoded, (_frame, i) => i < 2);
        peer.failure(stream, 'chunk_corrupt');
      },
    },
  ];
  const encoded = encodeChunk([randomBytes(300_000)], { compress: false });
  const long = encodeChunk([randomBytes(500_000)], { compress: false });
  const short = encodeChunk([randomBytes(100_000)], { compress: false });
  for (const { name, code, act } of wrongAnswers)
    test(`D5: a get fails with ${code} when the node ${name}, and the connection stays`, async () => {
      const { exchange, peer, clock } = await open();
      peer.answer = (frame) => frame.type === FRAME_TYPES.GET_BEGIN && frame.stream === 1 && act(peer, 1);
      await failsWith(code, clock.finish(readAll(exchange, getRequest(0, 300_000))));
      await clock.settle();
      assert.equal(exchange.isOpen, true);
      peer.answer = (frame) =>
        frame.type === FRAME_TYPES.SYNC_BEGIN &&
        peer.send('SYNC_DONE', frame.stream, SyncDone.encode({ stableSequence: 5, incarnation: 1 }).finish());
      assert.equal(
        (await clock.finish(exchange.sync({ token: Buffer.from('t'), sequence: 5, incarnation: 1 }, { signal: never })))
          .stableSequence,
        5,
      );
    });

  test('an answer of the wrong kind to a put ends the connection: nothing after it can be trusted', async () => {
    const { exchange, peer, clock } = await open();
    peer.answer = (frame) => frame.type === FRAME_TYPES.PUT_END && peer.send('SYNC_DONE', frame.stream);
    await failsWith(
      'frame_invalid',
      clock.finish(
        exchange.put(putRequest(10), encodeChunk([randomBytes(10)], { compress: false }), { signal: never }),
      ),
    );
    assert.equal(exchange.isOpen, false);
  });

  test('a stream without progress fails after its time; others that move go on', async () => {
    const { exchange, peer, clock } = await open();
    const stuck = readAll(exchange, getRequest(0, 10));
    const outcome = failsWith('deadline_exceeded', stuck);
    await clock.advance(14_000);
    peer.answer = (frame) => frame.type === FRAME_TYPES.PUT_END && peer.outcome(frame.stream);
    await clock.finish(
      exchange.put(putRequest(10), encodeChunk([randomBytes(10)], { compress: false }), { signal: never }),
    );
    await clock.advance(3_000);
    await outcome;
    assert.equal(exchange.isOpen, true);
    assert.ok(exchange.idleSinceMs !== undefined);
  });

  test('a peer that takes no bytes loses the connection, and all that waits on it fails', async () => {
    const { exchange, peer, clock } = await open();
    peer.connection.pause();
    const puts = Array.from({ length: 5 }, () =>
      failsWith(
        'unavailable',
        exchange.put(putRequest(4_000_000), encodeChunk([Buffer.alloc(4_000_000)], { compress: false }), {
          signal: never,
        }),
        'deadline_exceeded',
      ),
    );
    await clock.advance(40_000);
    await Promise.all(puts);
    assert.equal(exchange.isOpen, false);
  });

  test('a broken connection fails everything under way and everything after', async () => {
    const { exchange, clock, cut } = await open();
    const waiting = [
      failsWith(
        'unavailable',
        exchange.put(putRequest(10), encodeChunk([randomBytes(10)], { compress: false }), { signal: never }),
      ),
      failsWith('unavailable', readAll(exchange, getRequest(0, 10))),
      failsWith(
        'unavailable',
        exchange.sync({ token: Buffer.from('t'), sequence: 1, incarnation: 1 }, { signal: never }),
      ),
    ];
    await clock.settle();
    cut();
    await Promise.all(waiting);
    await failsWith('unavailable', readAll(exchange, getRequest(0, 10)));
    assert.equal((await exchange.closed)?.code, 'unavailable');
  });

  test('streams beyond the bound wait for their turn', async () => {
    const { exchange, peer, clock } = await open();
    const puts = Array.from({ length: STREAMS_MAX + 10 }, () =>
      exchange.put(putRequest(10), encodeChunk([Buffer.alloc(10)], { compress: false }), { signal: never }),
    );
    await clock.settle();
    assert.equal(exchange.activeStreams, STREAMS_MAX);
    assert.equal(peer.seen.filter((line) => line.startsWith('PUT_BEGIN')).length, STREAMS_MAX);
    peer.answer = (frame) => frame.type === FRAME_TYPES.PUT_END && peer.outcome(frame.stream);
    for (let stream = 1; stream <= STREAMS_MAX; stream++) peer.outcome(stream);
    await clock.finish(Promise.all(puts));
    assert.equal(exchange.activeStreams, 0);
  });
});

/** Frames that come one by one; after `failAfter` of them the source fails. */
function slowly(clock: FakeClock, encoded: EncodedChunk, failAfter = Number.POSITIVE_INFINITY): ArrivingChunk {
  async function* arrive(): AsyncGenerator<Buffer> {
    for (const [index, frames] of encoded.frames.entries()) {
      if (index >= failAfter) throw new CollectiveError('interrupted', 'The source broke');
      await new Promise<void>((resolve) => clock.setTimer(10, resolve));
      yield frames;
    }
  }
  return { arriving: arrive(), digest: () => encoded.digest };
}

/** A frame with a right checksum over bytes that are not zstd. */
function unpackable(): EncodedChunk {
  const chunkOfText = encodeChunk([Buffer.alloc(300_000, 'text ')], { compress: true });
  const frames = Buffer.concat(chunkOfText.frames);
  const decoded: Buffer[] = [];
  for (let at = 0; at < frames.length; ) {
    const end = at + 24 + frames.readUInt32LE(at + 12);
    const frame = Buffer.from(frames.subarray(at, end));
    frame.fill(0x55, 24);
    frame.writeUInt32LE(crc32(frame.subarray(8)), 4);
    decoded.push(frame);
    at = end;
  }
  return { ...chunkOfText, frames: decoded };
}

async function failsWith(code: ErrorCode, promise: Promise<unknown>, orCode: ErrorCode = code): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof CollectiveError, String(error));
    assert.ok(error.code === code || error.code === orCode, `${error.code}: ${error.message}`);
    return true;
  });
}
