import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { chunkIdOf } from '@collective/base/ids';
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';
import { SeededRandom } from '@collective/base/random';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { FRAME_HEADER_BYTES } from '@collective/protocol/bulk/frame';
import { type BlockPage, InodeType, type Slice } from '@collective/protocol/gen/session';
import { attachedBy, ScriptedCoordinator } from '../session/scripted-coordinator.ts';
import type { Session } from '../session/session.ts';
import { AccessTokens } from './access-tokens.ts';
import { BulkPool } from './bulk-pool.ts';
import { ByteBudget } from './byte-budget.ts';
import { type DownloadPorts, READ_AHEAD_BYTES_MAX, READ_PATIENCE_MS, readBorrowed, readWhole } from './download.ts';
import { ReplicaReader } from './replica-reader.ts';
import { accessToken, ScriptedNodes } from './scripted-nodes.ts';

const INODE = 5;

/** A file whose block map a test changes while it is read. */
class World implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly coordinator = new ScriptedCoordinator(this.clock);
  readonly nodes = new ScriptedNodes(this.clock, ['a', 'b']);
  readonly pool = new BulkPool({ clock: this.clock, connector: this.nodes, program: 'test' });
  /** Block maps in the order in which they are given; the last stays. */
  readonly maps: { readonly slices: readonly Slice[]; readonly size: number }[] = [];
  mapsRead = 0;
  session!: Session;

  static async create(): Promise<World> {
    const world = new World();
    const { clock, coordinator, nodes, pool } = world;
    coordinator.attached = attachedBy(1, { nodes: nodes.routes(), access: accessToken(clock, 1, 1, 1_000) });
    coordinator.answer = ({ op }) =>
      op?.$case === 'readBlocks' ? { result: { $case: 'blocks', value: world.#page() } } : undefined;
    const tokens = new AccessTokens(clock);
    world.session = await coordinator.session({
      onEvent: (event) => {
        if (event.kind === 'routes') pool.setRoutes(event.nodes);
        if (event.kind === 'access') tokens.add(event.access);
      },
    });
    world.#tokens = tokens;
    return world;
  }

  #tokens!: AccessTokens;

  /** Puts a chunk on both nodes. */
  chunk(number: number, bytes: Buffer): Buffer {
    const id = chunkIdOf({ generation: 1000, start: 1 }, number);
    const { frames } = encodeChunk([bytes], { compress: false });
    for (const node of this.nodes.nodes.values()) node.chunks.set(id, splitFrames(Buffer.concat(frames)));
    return Buffer.from(id, 'hex');
  }

  forget(chunk: Buffer): void {
    for (const node of this.nodes.nodes.values()) node.chunks.delete(chunk.toString('hex') as never);
  }

  read(end: number, offset = 0): Promise<Buffer> {
    const range = { inode: INODE, offset, end };
    return this.clock.finish(readWhole(this.ports(1 << 24), range, new AbortController().signal));
  }

  ports(aheadBytes: number): DownloadPorts {
    const { clock, session, pool } = this;
    const reader = new ReplicaReader({ clock, session, pool, tokens: this.#tokens });
    return { clock, session, reader, ahead: new ByteBudget(aheadBytes) };
  }

  #page(): BlockPage {
    const map = this.maps[Math.min(this.mapsRead++, this.maps.length - 1)];
    assert(map !== undefined);
    const named = map.slices.filter(({ chunk }) => chunk.length > 0);
    const expires = { seconds: this.clock.now().seconds + 300, nanos: 0 };
    const replicas = ['a', 'b'].map((node) => ({ node, ticket: Buffer.alloc(16), expires }));
    const blockCount = Math.ceil(map.size / BLOCK_BYTES);
    const slicesOf = (index: number): Slice[] =>
      map.slices.filter(({ offset }) => Math.floor(offset / BLOCK_BYTES) === index);
    return {
      blocks: Array.from({ length: blockCount }, (_unused, index) => ({ index, version: 1, slices: slicesOf(index) })),
      chunks: named.map(({ chunk, length }) => ({ chunk, length, replicas })),
      attributes: { inode: INODE, type: InodeType.FILE, size: map.size } as BlockPage['attributes'],
      next: blockCount,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.clock.finish(this.session.close());
    this.pool[Symbol.dispose]();
  }
}

/** As a node sends them: one frame a buffer. */
function splitFrames(whole: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  const step = FRAME_HEADER_BYTES + FRAME_BYTES;
  for (let at = 0; at < whole.length; at += step) frames.push(whole.subarray(at, at + step));
  return frames;
}

const random = new SeededRandom(8);
const LENGTH = 3 * FRAME_BYTES + 77;
const content = random.bytes(LENGTH);
const slice = (chunk: Buffer, offset: number, length: number, chunkOffset = 0): Slice => ({
  offset,
  length,
  chunk,
  chunkOffset,
});

test('D8: a reader whose map is old finds the chunks that its block was folded into', async () => {
  await using world = await World.create();
  const old = [world.chunk(1, content.subarray(0, 1_000)), world.chunk(2, content.subarray(1_000))];
  const folded = world.chunk(3, content);
  world.maps.push({
    slices: [slice(old[0] as Buffer, 0, 1_000), slice(old[1] as Buffer, 1_000, LENGTH - 1_000)],
    size: LENGTH,
  });
  world.maps.push({ slices: [slice(folded, 0, LENGTH)], size: LENGTH });
  for (const chunk of old) world.forget(chunk);
  assert.ok((await world.read(LENGTH)).equals(content));
  assert.equal(world.mapsRead, 4, 'one look, one fresh look for each part that was not there, and one for all of it');
});

test('D8: a chunk that goes in the middle of a read is gone on with where the block lies now', async () => {
  await using world = await World.create();
  const old = world.chunk(1, content);
  const folded = world.chunk(2, content);
  world.maps.push({ slices: [slice(old, 0, LENGTH)], size: LENGTH });
  world.maps.push({ slices: [slice(folded, 0, LENGTH)], size: LENGTH });
  for (const node of world.nodes.nodes.values()) {
    const frames = node.chunks.get(old.toString('hex') as never);
    node.chunks.set(old.toString('hex') as never, frames?.slice(0, 1) ?? []);
  }
  assert.ok((await world.read(LENGTH)).equals(content));
});

test('a chunk that is still named and nowhere is missing, after one fresh look', async () => {
  await using world = await World.create();
  const chunk = world.chunk(1, content);
  world.maps.push({ slices: [slice(chunk, 0, LENGTH)], size: LENGTH });
  world.forget(chunk);
  await assert.rejects(
    world.read(LENGTH),
    (error) => error instanceof CollectiveError && error.code === 'chunk_missing',
  );
  assert.equal(world.mapsRead, 2);
});

test('a read waits for nodes that are all away, and goes on where it stopped when one is back', async () => {
  await using world = await World.create();
  const chunk = world.chunk(1, content);
  world.maps.push({ slices: [slice(chunk, 0, LENGTH)], size: LENGTH });
  for (const node of world.nodes.nodes.values()) node.breakAfterFrames = 1;
  const pieces = readBorrowed(
    world.ports(1 << 24),
    { inode: INODE, offset: 0, end: LENGTH },
    new AbortController().signal,
  );
  const first = await world.clock.finish(pieces.next());
  // Lent until the next one is asked for.
  const arrived = [Buffer.from(first.value ?? [])];
  for (const node of world.nodes.nodes.values()) node.isUp = false;
  const rest = (async () => {
    for await (const piece of pieces) arrived.push(Buffer.from(piece));
  })();
  await world.clock.advance(READ_PATIENCE_MS / 2);
  for (const node of world.nodes.nodes.values()) {
    node.isUp = true;
    node.breakAfterFrames = undefined;
  }
  await world.clock.finish(rest);
  assert.ok(Buffer.concat(arrived).equals(content));
});

test('a read whose nodes stay away ends with unavailable after its patience', async () => {
  await using world = await World.create();
  const chunk = world.chunk(1, content);
  world.maps.push({ slices: [slice(chunk, 0, LENGTH)], size: LENGTH });
  for (const node of world.nodes.nodes.values()) node.isUp = false;
  const beganMs = world.clock.bootMs();
  await assert.rejects(world.read(LENGTH), (error) => error instanceof CollectiveError && error.code === 'unavailable');
  const tookMs = world.clock.bootMs() - beganMs;
  assert.ok(tookMs >= READ_PATIENCE_MS && tookMs < 2 * READ_PATIENCE_MS, `${tookMs} ms`);
});

test('a read that meets a cut gets the bytes up to the new end, and no zeros are made up', async () => {
  await using world = await World.create();
  const [gone, left] = [world.chunk(1, content), world.chunk(2, content.subarray(0, 1_000))];
  world.maps.push({ slices: [slice(left, 0, 1_000), slice(gone, 1_000, LENGTH - 1_000)], size: LENGTH });
  world.maps.push({ slices: [slice(left, 0, 10)], size: 10 });
  world.forget(gone);
  assert.ok((await world.read(LENGTH)).equals(content.subarray(0, 10)));
});

test('a read that meets a cut before its beginning gets nothing', async () => {
  await using world = await World.create();
  const gone = world.chunk(1, content);
  world.maps.push({ slices: [slice(gone, 0, LENGTH)], size: LENGTH });
  world.maps.push({ slices: [], size: 10 });
  world.forget(gone);
  assert.equal((await world.read(LENGTH, 20)).length, 0);
});

test('a read that meets a write gets all of it: nothing that was there before goes with it', async () => {
  await using world = await World.create();
  const written = random.bytes(LENGTH);
  const [first, gone, now] = [world.chunk(1, content), world.chunk(2, content), world.chunk(3, written)];
  world.maps.push({
    slices: [slice(first, 0, 1_000), slice(gone, 1_000, LENGTH - 1_000, 1_000)],
    size: LENGTH,
  });
  world.maps.push({ slices: [slice(now, 0, LENGTH)], size: LENGTH });
  world.forget(gone);
  assert.ok((await world.read(LENGTH)).equals(written));
});

test('a read goes on where it stopped when the same bytes lie on other nodes by now', async () => {
  await using world = await World.create();
  const chunk = world.chunk(1, content);
  world.maps.push({ slices: [slice(chunk, 0, LENGTH)], size: LENGTH });
  for (const node of world.nodes.nodes.values()) node.breakAfterFrames = 1;
  assert.ok((await world.read(LENGTH)).equals(content));
  const frames = Math.ceil(LENGTH / FRAME_BYTES);
  const offsets = [...world.nodes.nodes.values()].flatMap(({ gets }) => gets.map(({ offset }) => offset));
  assert.deepEqual(
    offsets.sort((a, b) => a - b),
    Array.from({ length: frames }, (_unused, i) => i * FRAME_BYTES),
  );
});

test('a read whose file changes at every look ends with what it finds at the last', async () => {
  await using world = await World.create();
  for (let number = 1; number <= 20; number++) {
    const chunk = world.chunk(number, content);
    world.maps.push({ slices: [slice(chunk, 0, LENGTH)], size: LENGTH });
    world.forget(chunk);
  }
  await assert.rejects(world.read(LENGTH), { code: 'chunk_missing' });
  assert.equal(world.mapsRead, 8, 'four tries of two looks');
});

test('a stream of a file that is cut short meanwhile ends where the file ends', async () => {
  await using world = await World.create();
  const [gone, ahead] = [world.chunk(1, content), world.chunk(2, content)];
  world.maps.push({
    slices: [slice(gone, 0, LENGTH), slice(ahead, BLOCK_BYTES, LENGTH)],
    size: BLOCK_BYTES + LENGTH,
  });
  // Two frames have come by then, one from each node.
  const end = 2 * FRAME_BYTES + 5;
  world.maps.push({ slices: [slice(gone, 0, end)], size: end });
  for (const node of world.nodes.nodes.values()) node.breakAfterFrames = 1;
  const range = { inode: INODE, offset: 0, end: 2 * BLOCK_BYTES };
  const arrived: Buffer[] = [];
  const reading = (async () => {
    for await (const piece of readBorrowed(world.ports(1 << 24), range, new AbortController().signal))
      arrived.push(Buffer.from(piece));
  })();
  await world.clock.finish(reading);
  assert.ok(Buffer.concat(arrived).equals(content.subarray(0, end)));
});

test('a reader asks for few blocks ahead of the one it wants, however much memory all readers have', async () => {
  await using world = await World.create();
  const blocks = 10;
  const chunks = Array.from({ length: blocks }, (_unused, i) => world.chunk(i + 1, content));
  world.maps.push({
    slices: chunks.map((chunk, i) => slice(chunk, i * BLOCK_BYTES, BLOCK_BYTES)),
    size: blocks * BLOCK_BYTES,
  });
  for (const node of world.nodes.nodes.values()) node.get = 'silent';
  const stop = new AbortController();
  const range = { inode: INODE, offset: 0, end: blocks * BLOCK_BYTES };
  const pieces = readBorrowed(world.ports(1 << 30), range, stop.signal);
  const first = pieces.next();
  const asked = (): number => [...world.nodes.nodes.values()].reduce((sum, { gets }) => sum + gets.length, 0);
  await world.clock.settle();
  assert.equal(asked(), 1 + READ_AHEAD_BYTES_MAX / BLOCK_BYTES);
  stop.abort(new CollectiveError('interrupted', 'Enough'));
  await assert.rejects(world.clock.finish(first), { code: 'interrupted' });
});
