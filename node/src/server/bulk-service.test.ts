import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import { type ChunkId, chunkIdOf } from '@collective/base/ids';
import { SystemClock } from '@collective/base/system-clock';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { BulkExchange, type GetRequest, type PutRequest } from '@collective/protocol/bulk/exchange';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { AccessRights } from '@collective/protocol/gen/node';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { fixedTrust, SCRATCH_EPOCH, ScratchCoordinator, type ScratchNode, startScratchNode } from './scratch-node.ts';

const SUBJECT = 'spiffe://alice.home/user/ann';
const clock = new SystemClock();
const signal = (): AbortSignal => AbortSignal.timeout(20_000);
let nextChunk = 0;
const newChunk = (): ChunkId => chunkIdOf(SCRATCH_EPOCH, ++nextChunk);

describe('bulk service over real TLS', () => {
  let authority: ScratchAuthority;
  let coordinator: ScratchCoordinator;
  let one: ScratchNode;
  let two: ScratchNode;
  let exchange: BulkExchange;

  before(async () => {
    authority = await ScratchAuthority.create('alice.home' as TrustDomain);
    coordinator = new ScratchCoordinator();
    one = await startScratchNode({
      name: 'one',
      identity: await authority.peer('node', 'one'),
      welcome: coordinator.welcome('one'),
    });
    two = await startScratchNode({
      name: 'two',
      identity: await authority.peer('node', 'two'),
      welcome: coordinator.welcome('two'),
    });
    one.setRoutes([one.target, two.target]);
    two.setRoutes([one.target, two.target]);
    exchange = await connect(one);
  });

  after(async () => {
    exchange?.close();
    await one?.[Symbol.asyncDispose]();
    await two?.[Symbol.asyncDispose]();
  });

  async function connect(
    node: ScratchNode,
    role: 'user' | 'client' | 'coordinator' | 'node' = 'user',
    name = 'ann',
  ): Promise<BulkExchange> {
    const trust = fixedTrust(await authority.peer(role, name));
    const connection = await new TlsBulkConnector({ trust, clock }).connect(node.target, signal());
    return await BulkExchange.open(connection, { clock, program: 'test' }, signal());
  }

  function putRequest(chunk: ChunkId, length: number, change: Partial<PutRequest> = {}): PutRequest {
    return {
      token: coordinator.token(SUBJECT),
      chunk,
      length,
      inode: 9,
      block: 2,
      forwardTo: [],
      stable: false,
      ...change,
    };
  }

  function getRequest(
    node: string,
    chunk: ChunkId,
    offset: number,
    length: number,
    change: Partial<GetRequest> = {},
  ): GetRequest {
    return { token: coordinator.token(SUBJECT), chunk, offset, length, ...coordinator.ticket(node, chunk), ...change };
  }

  async function getAll(from: BulkExchange, request: GetRequest): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let at = request.offset;
    for await (const piece of from.get(request, { signal: signal() })) {
      assert.equal(piece.offset, at);
      at += piece.bytes.length;
      pieces.push(Buffer.from(piece.bytes));
      piece.release();
    }
    return Buffer.concat(pieces);
  }

  test('D6: a chunk put with a second replica is on both disks, byte for byte', async () => {
    const raw = randomBytes(4 * 1024 * 1024);
    const chunk = newChunk();
    const outcomes = await exchange.put(
      putRequest(chunk, raw.length, { forwardTo: ['two'] }),
      encodeChunk([raw], { compress: true }),
      { signal: signal() },
    );
    assert.deepEqual(
      outcomes.map(({ node, disk, failure }) => ({ node, disk, failure })),
      [
        { node: 'one', disk: one.store.disk, failure: undefined },
        { node: 'two', disk: two.store.disk, failure: undefined },
      ],
    );
    assert.ok((await getAll(exchange, getRequest('one', chunk, 0, raw.length))).equals(raw));
    const second = await connect(two);
    assert.ok((await getAll(second, getRequest('two', chunk, 0, raw.length))).equals(raw));
    second.close();
    const { inode, block } = await two.store.describe(chunk);
    assert.deepEqual([inode, block], [9, 2], 'D1: the hints travel with the chunk');
  });

  test('D5: any range of a compressible chunk comes back exact', async () => {
    const raw = Buffer.alloc(1_000_003, 'collective ');
    const chunk = newChunk();
    const encoded = encodeChunk([raw], { compress: true });
    assert.ok(encoded.storedLength < raw.length / 10);
    await exchange.put(putRequest(chunk, raw.length), encoded, { signal: signal() });
    for (const [offset, length] of [
      [0, 1],
      [0, raw.length],
      [131_071, 2],
      [131_072, 4096],
      [raw.length - 1, 1],
      [500_000, 300_000],
    ] as const)
      assert.ok(
        (await getAll(exchange, getRequest('one', chunk, offset, length))).equals(
          raw.subarray(offset, offset + length),
        ),
        `${offset}+${length}`,
      );
  });

  test('D3: a put that asks for it is answered when stable, and a sync makes an older one stable', async () => {
    const raw = randomBytes(4096);
    const [stable] = await exchange.put(
      putRequest(newChunk(), raw.length, { stable: true, forwardTo: ['two'] }),
      encodeChunk([raw], { compress: false }),
      { signal: signal() },
    );
    assert.equal(stable?.stable, true);
    const [written] = await exchange.put(putRequest(newChunk(), raw.length), encodeChunk([raw], { compress: false }), {
      signal: signal(),
    });
    assert.ok(written !== undefined);
    const done = await exchange.sync(
      { token: coordinator.token(SUBJECT), sequence: written.sequence, incarnation: written.incarnation },
      { signal: signal() },
    );
    assert.ok(done.stableSequence >= written.sequence);
    assert.equal(done.incarnation, written.incarnation);
  });

  test('D2: the same put again gives the same outcome; other bytes under its id are a conflict', async () => {
    const raw = randomBytes(10_000);
    const chunk = newChunk();
    const [first] = await exchange.put(putRequest(chunk, raw.length), encodeChunk([raw], { compress: false }), {
      signal: signal(),
    });
    const [again] = await exchange.put(putRequest(chunk, raw.length), encodeChunk([raw], { compress: false }), {
      signal: signal(),
    });
    assert.equal(again?.sequence, first?.sequence);
    const [other] = await exchange.put(
      putRequest(chunk, raw.length),
      encodeChunk([randomBytes(10_000)], { compress: false }),
      { signal: signal() },
    );
    assert.equal(other?.failure?.code, 'chunk_conflict');
  });

  test('many small puts at once on one connection all end well', async () => {
    const chunks = Array.from({ length: 300 }, newChunk);
    const outcomes = await Promise.all(
      chunks.map((chunk, i) =>
        exchange.put(
          putRequest(chunk, 100 + i, { forwardTo: ['two'], stable: true }),
          encodeChunk([Buffer.alloc(100 + i, i)], { compress: false }),
          { signal: signal() },
        ),
      ),
    );
    for (const replicas of outcomes)
      assert.deepEqual(
        replicas.map((replica) => [replica.failure, replica.stable]),
        [
          [undefined, true],
          [undefined, true],
        ],
      );
    const reads = await Promise.all(chunks.map((chunk, i) => getAll(exchange, getRequest('one', chunk, 0, 100 + i))));
    reads.forEach((bytes, i) => {
      assert.ok(bytes.equals(Buffer.alloc(100 + i, i)));
    });
  });

  test('D6: a replica that cannot be reached is an outcome with a failure; the local one counts', async () => {
    const raw = randomBytes(200_000);
    const [here, away] = await exchange.put(
      putRequest(newChunk(), raw.length, { forwardTo: ['nowhere'] }),
      encodeChunk([raw], { compress: false }),
      { signal: signal() },
    );
    assert.equal(here?.failure, undefined);
    assert.equal(away?.node, 'nowhere');
    assert.equal(away?.failure?.code, 'unavailable');
  });

  const refusedPuts: readonly { name: string; code: ErrorCode; request: () => PutRequest }[] = [
    {
      name: 'a token of another subject',
      code: 'token_invalid',
      request: () => putRequest(newChunk(), 10, { token: coordinator.token('spiffe://alice.home/user/bea') }),
    },
    {
      name: 'a token signed by another coordinator',
      code: 'token_invalid',
      request: () => putRequest(newChunk(), 10, { token: new ScratchCoordinator().token(SUBJECT) }),
    },
    {
      name: 'an expired token',
      code: 'token_invalid',
      request: () =>
        putRequest(newChunk(), 10, {
          token: coordinator.token(SUBJECT, { expires: { seconds: 1_700_000_000, nanos: 0 } }),
        }),
    },
    {
      name: 'a token of an older epoch',
      code: 'token_invalid',
      request: () =>
        putRequest(newChunk(), 10, {
          token: coordinator.token(SUBJECT, { epoch: { generation: 1_600_000_000, start: 9 } }),
        }),
    },
    {
      name: 'a token without the right to write',
      code: 'permission_denied',
      request: () =>
        putRequest(newChunk(), 10, { token: coordinator.token(SUBJECT, { rights: AccessRights.ACCESS_READ }) }),
    },
    {
      name: 'a chunk id outside the range',
      code: 'token_invalid',
      request: () =>
        putRequest(newChunk(), 10, { token: coordinator.token(SUBJECT, { firstChunk: 900_000, lastChunk: 900_001 }) }),
    },
    {
      name: 'a chunk id of another epoch',
      code: 'token_invalid',
      request: () => putRequest(chunkIdOf({ generation: 1_700_000_000, start: 2 }, 5), 10),
    },
    {
      name: 'an unreadable token',
      code: 'token_invalid',
      request: () => putRequest(newChunk(), 10, { token: Buffer.from([0x0a, 0xff]) }),
    },
    {
      name: 'a forward to itself',
      code: 'invalid_argument',
      request: () => putRequest(newChunk(), 10, { forwardTo: ['one'] }),
    },
    {
      name: 'a length beyond a block',
      code: 'invalid_argument',
      request: () => putRequest(newChunk(), 4 * 1024 * 1024 + 1),
    },
    {
      name: 'frames that are not the announced length',
      code: 'frame_invalid',
      request: () => putRequest(newChunk(), 11),
    },
  ];
  for (const { name, code, request } of refusedPuts)
    test(`D7: a put with ${name} is refused with ${code}, and the connection goes on`, async () => {
      const wanted = request();
      await failsWith(
        code,
        exchange.put(wanted, encodeChunk([Buffer.alloc(10)], { compress: false }), { signal: signal() }),
      );
      assert.equal(one.store.has(wanted.chunk), false);
      assert.equal(exchange.isOpen, true);
    });

  test('D7: a read needs token and ticket of this chunk, session and node, in time', async () => {
    const raw = randomBytes(5000);
    const chunk = newChunk();
    const other = newChunk();
    await exchange.put(putRequest(chunk, raw.length), encodeChunk([raw], { compress: false }), { signal: signal() });
    await exchange.put(putRequest(other, raw.length), encodeChunk([raw], { compress: false }), { signal: signal() });
    const bad: readonly [string, ErrorCode, Partial<GetRequest>][] = [
      ['no ticket', 'token_invalid', { ticket: Buffer.alloc(0) }],
      ['ticket of another chunk', 'token_invalid', coordinator.ticket('one', other)],
      ['ticket of another node', 'token_invalid', coordinator.ticket('two', chunk)],
      ['ticket of another session', 'token_invalid', coordinator.ticket('one', chunk, 8)],
      ['expired ticket', 'token_invalid', coordinator.ticket('one', chunk, 7, 1_700_000_000)],
      ['a longer life than the ticket has', 'token_invalid', { ticketExpires: { seconds: 4_100_000_000, nanos: 0 } }],
      [
        'token without the right to read',
        'permission_denied',
        { token: coordinator.token(SUBJECT, { rights: AccessRights.ACCESS_WRITE }) },
      ],
      ['a range beyond the end', 'range', { length: 5001 }],
    ];
    for (const [name, code, change] of bad)
      await failsWith(code, getAll(exchange, getRequest('one', chunk, 0, 5000, change)), name);
    assert.ok((await getAll(exchange, getRequest('one', chunk, 0, 5000))).equals(raw));
    await failsWith('chunk_missing', getAll(exchange, getRequest('one', newChunk(), 0, 1)));
  });

  test('D7: a node hands on the token of a client, but may not ask for a second forward', async () => {
    const asNode = await connect(one, 'node', 'two');
    const raw = randomBytes(100);
    const [outcome] = await asNode.put(putRequest(newChunk(), 100), encodeChunk([raw], { compress: false }), {
      signal: signal(),
    });
    assert.equal(outcome?.failure, undefined);
    await failsWith(
      'permission_denied',
      asNode.put(putRequest(newChunk(), 100, { forwardTo: ['two'] }), encodeChunk([raw], { compress: false }), {
        signal: signal(),
      }),
    );
    asNode.close();
  });

  test('T3: a coordinator has no business on a bulk connection', async () => {
    await failsWith('permission_denied', connect(one, 'coordinator', ''));
  });

  test('T1: a peer of another member is refused at the handshake, also when its authority signs our names', async () => {
    for (const unconstrained of [false, true]) {
      const bob = await ScratchAuthority.create('bob.home' as TrustDomain, { unconstrained });
      const pems = await bob.leaf({ names: [{ type: 'url', value: SUBJECT }], serverAuth: false });
      const peer = await authority.peer('user', 'ann');
      const trust = fixedTrust({ ...peer, certificatePem: pems.certificatePem, keyPem: pems.keyPem });
      await assert.rejects(async () => {
        const connection = await new TlsBulkConnector({ trust, clock }).connect(one.target, signal());
        await BulkExchange.open(connection, { clock, program: 'test' }, signal());
      }, CollectiveError);
    }
  });

  test('T2: a node with another name than the dialled one is refused', async () => {
    const trust = fixedTrust(await authority.peer('user', 'ann'));
    await failsWith(
      'unauthenticated',
      new TlsBulkConnector({ trust, clock }).connect({ ...one.target, name: 'two' }, signal()),
    );
  });

  test('a cancelled put leaves nothing behind and the connection goes on', async () => {
    const raw = randomBytes(4 * 1024 * 1024);
    const chunk = newChunk();
    const cancel = new AbortController();
    const put = exchange.put(
      putRequest(chunk, raw.length, { forwardTo: ['two'] }),
      encodeChunk([raw], { compress: false }),
      { signal: cancel.signal },
    );
    cancel.abort(new CollectiveError('interrupted', 'enough'));
    await failsWith('interrupted', put);
    const again = await exchange.put(putRequest(newChunk(), 10), encodeChunk([Buffer.alloc(10)], { compress: false }), {
      signal: signal(),
    });
    assert.equal(again[0]?.failure, undefined);
  });
});

async function failsWith(code: ErrorCode, promise: Promise<unknown>, what = code as string): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof CollectiveError, `${what}: ${String(error)}`);
    assert.equal(error.code, code, `${what}: ${error.message}`);
    return true;
  });
}
