import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { chunkIdFromBytes } from '@collective/base/ids';
import { BLOCK_BYTES, FRAME_BYTES } from '@collective/base/limits';
import { SeededRandom } from '@collective/base/random';
import { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { NodeState } from '@collective/protocol/gen/common';
import type { ChunkCommit, ChunkLocation, Replenished, Slice } from '@collective/protocol/gen/session';
import { attachedBy, ScriptedCoordinator } from '../session/scripted-coordinator.ts';
import type { Session } from '../session/session.ts';
import { AccessTokens } from './access-tokens.ts';
import { BulkPool } from './bulk-pool.ts';
import { ByteBudget } from './byte-budget.ts';
import { ChunkStock } from './chunk-stock.ts';
import { ChunkWriter } from './chunk-writer.ts';
import { ReplicaReader } from './replica-reader.ts';
import { accessToken, ScriptedNodes } from './scripted-nodes.ts';
import { commitBlocks, forgetBytes, storeBlock, type UploadPorts } from './upload.ts';

const never = new AbortController().signal;
const place = { realm: 1, inode: 0, block: 0, stable: true };
const storing = { realm: 1, inode: 0, compress: false, stable: true };

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof CollectiveError && error.code === expected;
}

class World implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly coordinator = new ScriptedCoordinator(this.clock);
  readonly nodes: ScriptedNodes;
  readonly tokens = new AccessTokens(this.clock);
  readonly pool: BulkPool;
  placement: string[];
  wanted = 2;
  needed = 1;
  /** Of the ids handed out next. */
  epochStart = 1;
  #nextChunk = 1;
  session!: Session;
  writer!: ChunkWriter;
  reader!: ReplicaReader;

  static async create(names: readonly string[], placement: readonly string[]): Promise<World> {
    const world = new World(names, placement);
    const { clock, coordinator, nodes, tokens, pool } = world;
    coordinator.nodes = () => nodes.routes();
    coordinator.access = () => accessToken(clock, world.epochStart, 1, 1_000_000);
    coordinator.attached = attachedBy(1, { nodes: nodes.routes() });
    coordinator.answer = ({ op }) =>
      op?.$case === 'replenish'
        ? { result: { $case: 'replenished', value: world.#replenished(op.value.bytes, op.value.chunks) } }
        : undefined;
    const session = await coordinator.session({
      onEvent: (event) => {
        if (event.kind === 'routes') pool.setRoutes(event.nodes);
        if (event.kind === 'access') tokens.add(event.access);
      },
    });
    const stock = new ChunkStock({ session, tokens, realm: 1, onRoutes: (routes) => pool.setRoutes(routes) });
    world.session = session;
    world.writer = new ChunkWriter({ clock, session, pool, tokens, stockOf: () => stock });
    world.reader = new ReplicaReader({ clock, session, pool, tokens });
    return world;
  }

  private constructor(names: readonly string[], placement: readonly string[]) {
    this.nodes = new ScriptedNodes(this.clock, names);
    this.pool = new BulkPool({ clock: this.clock, connector: this.nodes, program: 'test' });
    this.placement = [...placement];
  }

  async store(bytes: Buffer): Promise<ChunkCommit> {
    const chunk = encodeChunk([bytes], { compress: true });
    return await this.clock.finish(this.writer.store(chunk, place, never));
  }

  async read(location: ChunkLocation, offset: number, length: number): Promise<Buffer> {
    const collect = async (): Promise<Buffer> => {
      const pieces: Buffer[] = [];
      for await (const { bytes } of this.reader.read(location, offset, length, never)) pieces.push(bytes);
      return Buffer.concat(pieces);
    };
    return await this.clock.finish(collect());
  }

  uploadPorts(): UploadPorts {
    const budget = (): ByteBudget => new ByteBudget(8 * BLOCK_BYTES);
    const { session, writer: chunks } = this;
    return { session, chunks, inFlight: budget(), kept: budget(), buffers: new ChunkBuffers(4) };
  }

  locationOf(commit: ChunkCommit): ChunkLocation {
    const expires = { seconds: this.clock.now().seconds + 300, nanos: 0 };
    const replicas = commit.replicas.map(({ node }) => ({ node, ticket: Buffer.alloc(16), expires }));
    return { chunk: commit.chunk, length: commit.length, replicas };
  }

  #replenished(bytes: number, chunks: number): Replenished {
    const firstChunk = this.#nextChunk;
    this.#nextChunk += chunks;
    return {
      bytes,
      epoch: { generation: 1000, start: this.epochStart },
      firstChunk,
      chunks,
      placements: [{ nodes: this.placement }],
      access: accessToken(this.clock, this.epochStart, firstChunk, firstChunk + chunks - 1),
      wanted: this.wanted,
      needed: this.needed,
      nodes: this.nodes.routes(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.clock.finish(this.session.close());
    this.pool[Symbol.dispose]();
  }
}

const nodesOf = (commit: ChunkCommit): string[] => commit.replicas.map(({ node }) => node).sort();
const content = new SeededRandom(4).bytes(5 * FRAME_BYTES + 77);

test('D2, D6: a chunk goes to the first node, which forwards; no round trip to the coordinator for the next', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const commit = await world.store(content);
  assert.deepEqual(nodesOf(commit), ['a', 'b']);
  assert.deepEqual(
    world.nodes.node('a').puts.map(({ forwardTo }) => forwardTo),
    [['b']],
  );
  assert.equal(world.nodes.node('b').puts.length, 0);
  const asked = world.coordinator.operations.length;
  await world.store(content);
  assert.equal(world.coordinator.operations.length, asked);
});

test('D2: a replica that failed is replaced by a put to another node', async () => {
  await using world = await World.create(['a', 'b', 'c'], ['a', 'b']);
  world.nodes.node('b').put = 'disk_failed';
  assert.deepEqual(nodesOf(await world.store(content)), ['a', 'c']);
  assert.deepEqual(world.nodes.node('c').puts[0]?.forwardTo, []);
});

test('D8: the replacement for a failed replica comes from another zone where one has room', async () => {
  await using world = await World.create(['a', 'b', 'c', 'd'], ['a', 'd']);
  for (const [name, zone] of Object.entries({ a: 'cellar', b: 'cellar', c: 'attic', d: 'attic' }))
    world.nodes.node(name).zone = zone;
  world.nodes.node('d').put = 'disk_failed';
  for (let i = 0; i < 4; i++) assert.deepEqual(nodesOf(await world.store(content)), ['a', 'c']);
  world.nodes.node('c').isUp = false;
  assert.deepEqual(nodesOf(await world.store(content)), ['a', 'b'], 'the same zone is better than none');
});

test('D2: when the first node cannot be reached, the others that were handed out are used without it', async () => {
  await using world = await World.create(['a', 'b', 'c'], ['a', 'b']);
  world.nodes.node('a').isUp = false;
  assert.deepEqual(nodesOf(await world.store(content)), ['b', 'c']);
});

test('D8: a node that was closed since placements were handed out gets no chunk, neither first nor as a replacement', async () => {
  await using world = await World.create(['a', 'b', 'c'], ['a', 'b']);
  world.nodes.node('b').state = NodeState.CLOSED;
  world.pool.setRoutes(world.nodes.routes());
  assert.deepEqual(nodesOf(await world.store(content)), ['a', 'c']);
  world.nodes.node('c').state = NodeState.CLOSED;
  world.pool.setRoutes(world.nodes.routes());
  assert.deepEqual(nodesOf(await world.store(content)), ['a'], 'as if it were away');
  assert.equal(world.nodes.node('b').puts.length, 0);
});

test('a node that just failed is not asked first for the next chunk', async () => {
  await using world = await World.create(['a', 'b', 'c'], ['a', 'b']);
  world.nodes.node('a').put = 'silent';
  await world.store(content);
  const before = world.clock.bootMs();
  await world.store(content);
  assert.ok(world.clock.bootMs() - before < 1_000);
  assert.equal(world.nodes.node('a').puts.length, 1);
});

test('D8: a write waits for the missing node until the coordinator has given it up, then is taken on fewer', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const gone = world.nodes.node('b');
  gone.isUp = false;
  world.clock.setTimer(5_000, () => {
    gone.state = NodeState.AWAY;
  });
  const before = world.clock.bootMs();
  assert.deepEqual(nodesOf(await world.store(content)), ['a']);
  const waitedMs = world.clock.bootMs() - before;
  assert.ok(waitedMs >= 5_000 && waitedMs < 6_000, `it waited ${waitedMs} ms`);
  const next = world.clock.bootMs();
  await world.store(content);
  assert.ok(world.clock.bootMs() - next < 100, 'the next does not wait');
});

test('D8: a realm that needs two replicas waits for the second, and gives up after its time', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  world.needed = 2;
  const gone = world.nodes.node('b');
  gone.isUp = false;
  gone.state = NodeState.AWAY;
  world.clock.setTimer(20_000, () => {
    gone.isUp = true;
    gone.state = NodeState.READY;
  });
  assert.deepEqual(nodesOf(await world.store(content)), ['a', 'b']);
  gone.isUp = false;
  gone.state = NodeState.AWAY;
  await assert.rejects(world.store(content), code('unavailable'));
});

test('D8: a write waits for nodes that the coordinator has given up before we know it', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const { answer } = world.coordinator;
  const nodes = [...world.nodes.nodes.values()];
  for (const node of nodes) node.state = NodeState.AWAY;
  world.coordinator.answer = () => ({
    result: { $case: 'failure', value: { code: 'no_space', message: '', details: {} } },
  });
  world.clock.setTimer(10_000, () => {
    for (const node of nodes) node.state = NodeState.READY;
    world.coordinator.answer = answer;
  });
  assert.deepEqual(nodesOf(await world.store(content)), ['a', 'b']);
});

test('M10: when every node is full the write fails with no_space at once', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  for (const node of world.nodes.nodes.values()) node.put = 'no_space';
  const before = world.clock.bootMs();
  await assert.rejects(world.store(content), code('no_space'));
  assert.ok(world.clock.bootMs() - before < 1_000);
});

test('D7: a chunk whose right is refused is stored again under a fresh id', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const first = world.nodes.node('a');
  first.put = 'token_invalid';
  world.clock.setTimer(1, () => {
    first.put = 'ok';
  });
  const commit = await world.store(content);
  assert.deepEqual(nodesOf(commit), ['a', 'b']);
  assert.notDeepEqual(first.puts[0]?.chunk, commit.chunk);
});

test('a replica that lacks the chunk or has it damaged is passed over', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const commit = await world.store(content);
  const location = world.locationOf(commit);
  world.nodes.node('a').chunks.delete(chunkIdFromBytes(commit.chunk));
  assert.ok((await world.read(location, 0, content.length)).equals(content));
  world.nodes.node('b').get = 'chunk_corrupt';
  await assert.rejects(world.read(location, 0, content.length), code('chunk_corrupt'));
  world.nodes.node('b').chunks.clear();
  world.nodes.node('b').get = 'ok';
  await assert.rejects(world.read(location, 0, content.length), code('chunk_missing'));
});

test('D6: a read that breaks off in the middle goes on elsewhere where it was', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const location = world.locationOf(await world.store(content));
  world.nodes.node('a').breakAfterFrames = 2;
  assert.ok(
    (await world.read(location, 1_000, content.length - 1_500)).equals(content.subarray(1_000, content.length - 500)),
  );
  assert.equal(world.nodes.node('b').gets[0]?.offset, 2 * FRAME_BYTES);
});

test('D6: a slow replica gets a rival after a while, and the first to answer is read', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const location = world.locationOf(await world.store(content));
  world.nodes.node('a').get = 'silent';
  const before = world.clock.bootMs();
  assert.ok((await world.read(location, 0, content.length)).equals(content));
  const tookMs = world.clock.bootMs() - before;
  assert.ok(tookMs >= 300 && tookMs < 400, `it took ${tookMs} ms`);
});

test('a read of one byte costs one frame', async () => {
  await using world = await World.create(['a'], ['a']);
  world.wanted = 1;
  const whole = new SeededRandom(1).bytes(BLOCK_BYTES);
  const location = world.locationOf(await world.store(whole));
  assert.ok(
    (await world.read(location, 3 * FRAME_BYTES + 5, 1)).equals(
      whole.subarray(3 * FRAME_BYTES + 5, 3 * FRAME_BYTES + 6),
    ),
  );
  assert.deepEqual(
    world.nodes.node('a').gets.map(({ offset, length }) => [offset, length]),
    [[3 * FRAME_BYTES + 5, 1]],
  );
});

for (const refusal of ['chunk_condemned', 'chunk_foreign', 'chunk_missing'] as const)
  test(`D2, D3: a commit that is refused for its chunks (${refusal}) stores the same bytes under new ids`, async () => {
    await using world = await World.create(['a', 'b'], ['a', 'b']);
    const ports = world.uploadPorts();
    const block = await world.clock.finish(
      storeBlock(ports, { index: 0, pieces: [content], length: content.length }, storing, never),
    );
    const tried: string[] = [];
    const commit = (slices: readonly Slice[], chunks: readonly ChunkCommit[]): Promise<string> => {
      assert.deepEqual(
        slices.map(({ chunk }) => chunk),
        chunks.map(({ chunk }) => chunk),
      );
      tried.push(...chunks.map(({ chunk }) => chunkIdFromBytes(chunk)));
      if (tried.length < 3) return Promise.reject(new CollectiveError(refusal, 'Commit'));
      return Promise.resolve('done');
    };
    assert.equal(await world.clock.finish(commitBlocks(ports, [block], commit, never)), 'done');
    assert.equal(new Set(tried).size, 3);
    const last = block.commit;
    assert.ok(last !== undefined && chunkIdFromBytes(last.chunk) === tried[2]);
    assert.deepEqual(await world.read(world.locationOf(last), 0, content.length), content);
    forgetBytes(ports, block);
    assert.equal(ports.kept.usedBytes, 0);
  });

test('D2: a commit that is refused for what it does, or again and again, is not repeated for ever', async () => {
  await using world = await World.create(['a', 'b'], ['a', 'b']);
  const ports = world.uploadPorts();
  for (const [refusal, tries] of [
    ['permission_denied', 1],
    ['chunk_foreign', 4],
  ] as const) {
    const block = await world.clock.finish(
      storeBlock(ports, { index: 0, pieces: [content], length: content.length }, storing, never),
    );
    let tried = 0;
    const commit = (): Promise<never> => {
      tried += 1;
      return Promise.reject(new CollectiveError(refusal, 'Commit'));
    };
    await assert.rejects(world.clock.finish(commitBlocks(ports, [block], commit, never)), code(refusal));
    assert.equal(tried, tries);
    forgetBytes(ports, block);
  }
});
