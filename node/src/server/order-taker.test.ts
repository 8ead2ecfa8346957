/** Orders of the coordinator, done by nodes on fake clock, disk and network: fetch, verify, list, forget, fold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { type ChunkId, chunkIdFromBytes, chunkIdToBytes } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import { AccessRights, type Answer, type FetchChunk, type Order } from '@collective/protocol/gen/node';
import { readRaw, SCRATCH_EPOCH, type ScratchChunk, scratchChunk, scratchId } from '../chunk-store/scratch-chunk.ts';
import { BlockFolder } from './block-folder.ts';
import { ChunkFetcher } from './chunk-fetcher.ts';
import { FakeMember, type FakeNode } from './fake-node.ts';
import { OrderTaker } from './order-taker.ts';
import { ScratchCoordinator } from './scratch-node.ts';

type OrderBody = NonNullable<Order['order']>;
const NO_SESSION = 0;

class World {
  readonly clock = new FakeClock({ startSeconds: 1_800_000_000 });
  readonly coordinator = new ScratchCoordinator(SCRATCH_EPOCH);
  readonly member = new FakeMember(this.clock, this.coordinator);
  readonly answers: Answer[] = [];
  scrubs = 0;
  #number = 0;

  async start(...names: readonly string[]): Promise<this> {
    for (const name of names) await this.member.addNode(name);
    return this;
  }

  node(name: string): FakeNode {
    const node = this.member.nodes.get(name);
    assert.ok(node !== undefined);
    return node;
  }

  async put(name: string, chunk: ScratchChunk): Promise<void> {
    await this.clock.finish(this.node(name).store.put(chunk.facts, chunk.frames));
  }

  desk(name: string) {
    const { store, peers } = this.node(name);
    const fetcher = new ChunkFetcher({ store, peers });
    const folder = new BlockFolder(store, peers);
    const scrubNow = (): void => {
      this.scrubs++;
    };
    const { clock } = this;
    const taker = new OrderTaker({ clock, store, fetcher, folder, node: name, log: silentLog, scrubNow });
    return taker.desk((answer) => this.answers.push(answer));
  }

  async order(name: string, order: OrderBody): Promise<NonNullable<Answer['answer']>> {
    const number = ++this.#number;
    this.desk(name).take({ number, order });
    await this.clock.until(() => this.answers.some((answer) => answer.number === number));
    const answer = this.answers.find((each) => each.number === number)?.answer;
    assert.ok(answer !== undefined);
    return answer;
  }

  source(node: string, chunk: ChunkId) {
    return { node, ...this.coordinator.ticket(node, chunk, NO_SESSION) };
  }

  token(): Buffer {
    return this.coordinator.token('spiffe://alice.home/coordinator', {
      session: NO_SESSION,
      rights: AccessRights.ACCESS_READ,
      firstChunk: 0,
      lastChunk: 0,
    });
  }

  wanted({ facts }: ScratchChunk, sources: readonly string[], more: Partial<FetchChunk> = {}): FetchChunk {
    return {
      chunk: chunkIdToBytes(facts.chunk),
      length: facts.rawLength,
      digest: facts.digest,
      inode: facts.inode,
      block: facts.block,
      sources: sources.map((node) => this.source(node, facts.chunk)),
      replace: false,
      ...more,
    };
  }

  async fetch(name: string, ...chunks: FetchChunk[]) {
    const answer = await this.order(name, { $case: 'fetch', value: { token: this.token(), chunks } });
    assert.ok(answer.$case === 'outcomes', answer.$case);
    return answer.value.outcomes.map(({ chunk, replica, digest, storedLength }) => ({
      chunk: chunkIdFromBytes(chunk),
      code: replica?.failure?.code,
      node: replica?.node,
      disk: replica?.disk,
      stable: replica?.stable,
      digest,
      storedLength,
    }));
  }

  read(name: string, chunk: ScratchChunk): Promise<Buffer> {
    return this.clock.finish(readRaw(this.node(name).store, chunk.facts.chunk, 0, chunk.facts.rawLength));
  }
}

test('D8: a node fetches chunks from another, byte for byte as they lie there, and answers when they are stable', async () => {
  const world = await new World().start('one', 'two');
  const chunks = [scratchChunk(1, 4 * 1024 * 1024), scratchChunk(2, 300_000, 'text'), scratchChunk(3, 1)];
  for (const chunk of chunks) await world.put('one', chunk);
  const outcomes = await world.fetch('two', ...chunks.map((chunk) => world.wanted(chunk, ['one'])));
  const { store } = world.node('two');
  for (const [i, chunk] of chunks.entries()) {
    const there = await world.clock.finish(world.node('one').store.describe(chunk.facts.chunk));
    const here = await world.clock.finish(store.describe(chunk.facts.chunk));
    assert.deepEqual(await world.read('two', chunk), chunk.raw);
    assert.equal(here.storedLength, there.storedLength, 'compressed as it was');
    const { inode, block, digest } = chunk.facts;
    assert.deepEqual([here.inode, here.block, here.digest], [inode, block, digest]);
    assert.ok(here.sequence <= store.stableSequence);
    const { chunk: id, storedLength } = { chunk: chunk.facts.chunk, storedLength: there.storedLength };
    const expected = { chunk: id, code: undefined, node: 'two', disk: store.disk, stable: true, digest, storedLength };
    assert.deepEqual(outcomes[i], expected);
  }
});

test('D8: an order that comes twice does the work once', async () => {
  const world = await new World().start('one', 'two');
  const chunk = scratchChunk(1, 1_000);
  await world.put('one', chunk);
  await world.fetch('two', world.wanted(chunk, ['one']));
  const { usedBytes } = world.node('two').store.stats();
  const [again] = await world.fetch('two', world.wanted(chunk, []));
  assert.equal(again?.code, undefined);
  assert.equal(world.node('two').store.stats().usedBytes, usedBytes);
});

test('D8: a source that is away, lacks the chunk or has other bytes costs a try of the next', async () => {
  const world = await new World().start('one', 'two', 'three', 'four');
  const chunk = scratchChunk(1, 200_000);
  await world.put('three', scratchChunk(1, 200_000, 'noise', 99));
  await world.put('four', chunk);
  const [outcome] = await world.fetch('one', world.wanted(chunk, ['nowhere', 'two', 'three', 'four']));
  assert.equal(outcome?.code, undefined);
  assert.deepEqual(await world.read('one', chunk), chunk.raw);
});

test('D8: without a good source a fetch fails for that chunk alone, and leaves nothing', async () => {
  const world = await new World().start('one', 'two', 'three');
  const [bad, good] = [scratchChunk(1, 5_000), scratchChunk(2, 5_000)];
  await world.put('three', scratchChunk(1, 5_000, 'noise', 99));
  await world.put('three', good);
  const outcomes = await world.fetch('one', world.wanted(bad, ['two', 'three']), world.wanted(good, ['three']));
  assert.deepEqual(
    outcomes.map(({ code }) => code),
    ['chunk_corrupt', undefined],
  );
  assert.equal(world.node('one').store.has(bad.facts.chunk), false);
  const [unnamed] = await world.fetch('one', world.wanted(bad, []));
  assert.equal(unnamed?.code, 'unavailable');
});

test('D7: a fetch needs a ticket of that chunk and node, and a token', async () => {
  const world = await new World().start('one', 'two');
  const chunk = scratchChunk(1, 5_000);
  await world.put('one', chunk);
  const other = { ...world.source('one', scratchId(2)), node: 'one' };
  const [outcome] = await world.fetch('two', world.wanted(chunk, [], { sources: [other] }));
  assert.equal(outcome?.code, 'token_invalid');
});

test('D8: a chunk that is here with other bytes is not fetched over, unless it is to be replaced', async () => {
  const world = await new World().start('one', 'two');
  const chunk = scratchChunk(1, 5_000);
  await world.put('one', chunk);
  await world.put('two', scratchChunk(1, 5_000, 'noise', 99));
  const [outcome] = await world.fetch('two', world.wanted(chunk, ['one']));
  assert.equal(outcome?.code, 'chunk_conflict');
});

test('D8: what a node lists is what it has, page by page in order', async () => {
  const world = await new World().start('one');
  for (const number of [5, 1, 9, 3]) await world.put('one', scratchChunk(number, 100));
  const pages: ChunkId[][] = [];
  for (let after: ChunkId | undefined, end = false; !end; ) {
    const value = { after: after === undefined ? Buffer.alloc(0) : chunkIdToBytes(after), limit: 3 };
    const answer = await world.order('one', { $case: 'list', value });
    assert.ok(answer.$case === 'list');
    const ids: ChunkId[] = [];
    for (let at = 0; at < answer.value.chunks.length; at += 16)
      ids.push(chunkIdFromBytes(answer.value.chunks.subarray(at, at + 16)));
    assert.equal(answer.value.incarnation, world.node('one').store.incarnation);
    const described = await Promise.all(ids.map((id) => world.clock.finish(world.node('one').store.describe(id))));
    assert.ok(described.every(({ sequence }) => sequence <= answer.value.sequence));
    pages.push(ids);
    end = answer.value.end;
    after = ids.at(-1);
  }
  assert.deepEqual(pages, [[1, 3, 5].map(scratchId), [9].map(scratchId)]);
});

test('D8: verify reads each chunk and tells good from missing', async () => {
  const world = await new World().start('one');
  const chunk = scratchChunk(1, 700_000);
  await world.put('one', chunk);
  const chunks = [chunk.facts.chunk, scratchId(2)].map((id) => chunkIdToBytes(id));
  const answer = await world.order('one', { $case: 'verify', value: { chunks } });
  assert.ok(answer.$case === 'outcomes');
  const [good, missing] = answer.value.outcomes;
  assert.deepEqual([good?.replica?.failure, good?.digest], [undefined, chunk.facts.digest]);
  assert.equal(missing?.replica?.failure?.code, 'chunk_missing');
});

test('D8: what is forgotten is gone when it is answered, and may come again', async () => {
  const world = await new World().start('one', 'two');
  const chunk = scratchChunk(1, 700_000);
  for (const name of ['one', 'two']) await world.put(name, chunk);
  const forget: OrderBody = { $case: 'forget', value: { chunks: [chunkIdToBytes(chunk.facts.chunk)] } };
  for (let time = 0; time < 2; time++) assert.equal((await world.order('one', forget)).$case, 'done');
  assert.equal(world.node('one').store.has(chunk.facts.chunk), false);
  const [outcome] = await world.fetch('one', world.wanted(chunk, ['two']));
  assert.equal(outcome?.code, undefined);
  assert.deepEqual(await world.read('one', chunk), chunk.raw);
});

test('D8: pieces of many chunks, here and elsewhere, and zeros between become one chunk', async () => {
  const world = await new World().start('one', 'two');
  const [here, there, text] = [scratchChunk(1, 400_000), scratchChunk(2, 300_000), scratchChunk(3, 200_000, 'text')];
  await world.put('one', here);
  await world.put('two', there);
  await world.put('two', text);
  const piece = ({ facts }: ScratchChunk, chunkOffset: number, length: number, sources: string[]) => ({
    length,
    chunk: chunkIdToBytes(facts.chunk),
    chunkOffset,
    sources: sources.map((node) => world.source(node, facts.chunk)),
  });
  const value = {
    token: world.token(),
    chunk: chunkIdToBytes(scratchId(50)),
    inode: 7,
    block: 3,
    compress: true,
    pieces: [
      piece(there, 131_000, 150_000, ['two']),
      { length: 5_000, chunk: Buffer.alloc(0), chunkOffset: 0, sources: [] },
      piece(here, 1, 399_999, []),
      piece(text, 0, 200_000, ['nowhere', 'two']),
    ],
  };
  const answer = await world.order('one', { $case: 'fold', value });
  assert.ok(answer.$case === 'folded', JSON.stringify(answer));
  const raw = Buffer.concat([
    there.raw.subarray(131_000, 281_000),
    Buffer.alloc(5_000),
    here.raw.subarray(1),
    text.raw,
  ]);
  const { store } = world.node('one');
  assert.equal(answer.value.length, raw.length);
  assert.deepEqual(await world.clock.finish(readRaw(store, scratchId(50), 0, raw.length)), raw);
  const stored = await world.clock.finish(store.describe(scratchId(50)));
  assert.deepEqual([stored.inode, stored.block, stored.rawLength], [7, 3, raw.length]);
  assert.deepEqual(answer.value.outcome?.digest, stored.digest);
  assert.ok(stored.sequence <= store.stableSequence);
});

test('D8: a fold whose piece cannot be read fails and keeps nothing', async () => {
  const world = await new World().start('one', 'two');
  const pieces = [
    { length: 100, chunk: chunkIdToBytes(scratchId(1)), chunkOffset: 0, sources: [world.source('two', scratchId(1))] },
  ];
  const value = {
    token: world.token(),
    chunk: chunkIdToBytes(scratchId(50)),
    inode: 7,
    block: 3,
    compress: true,
    pieces,
  };
  const answer = await world.order('one', { $case: 'fold', value });
  assert.ok(answer.$case === 'failure');
  assert.equal(answer.value.code, 'chunk_missing');
  assert.equal(world.node('one').store.has(scratchId(50)), false);
});

test('D8: an order that is called off, or whose link ends, is not answered', async () => {
  const world = await new World().start('one', 'two');
  const chunk = scratchChunk(1, 5_000);
  await world.put('two', chunk);
  const desk = world.desk('one');
  const fetch: OrderBody = { $case: 'fetch', value: { token: world.token(), chunks: [world.wanted(chunk, ['two'])] } };
  desk.take({ number: 1, order: fetch });
  desk.take({ number: 2, order: { $case: 'cancel', value: { number: 1 } } });
  desk.take({ number: 3, order: fetch });
  desk.linkEnded();
  await world.clock.advance(60_000);
  assert.deepEqual(world.answers, []);
});

test('D8: an order of a newer coordinator that this version does not know is answered as such; a scrub begins', async () => {
  const world = await new World().start('one');
  const desk = world.desk('one');
  desk.take({ number: 77, order: undefined });
  assert.deepEqual(world.answers, [{ number: 77, answer: undefined }]);
  assert.equal((await world.order('one', { $case: 'scrub', value: {} })).$case, 'done');
  assert.equal(world.scrubs, 1);
});
