import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, type NodeName } from '@collective/base/ids';
import { CreateRealmRequest } from '@collective/protocol/gen/admin';
import { Existing, RenameMode, type Reply } from '@collective/protocol/gen/session';
import { blocks, count } from '../ops/one-file.ts';
import { doubtfulReplicas, markStable, settleDoubt } from '../ops/replica-stability.ts';
import { STABLE_STEP_CHUNKS } from '../ops/stable-content.ts';
import { CHUNKS, UNFIRM, UNSTABLE } from '../tables/tables.ts';
import {
  chunkOf,
  code,
  commitOp,
  contentOf,
  ROOT,
  renameOp,
  replicaOf,
  resultOf,
  sliceOf,
  testChunk,
} from './scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from './session-harness.ts';
import { STABLE_PASSES_MAX, type StableAnswer } from './stability-proof.ts';
import { STABLE_WITHIN_MS } from './stable-content.ts';

const SYNC: { $case: 'sync'; value: { inode: number } } = { $case: 'sync', value: { inode: ROOT } };
const syncOf = (inode: number): typeof SYNC => ({ ...SYNC, value: { inode } });

/** Nodes that are asked to sync and answer when the test says so. */
class AskedNodes {
  readonly questions: { readonly node: string; readonly chunks: readonly ChunkId[] }[] = [];
  readonly #waiting = new Map<string, PromiseWithResolvers<StableAnswer>>();
  readonly #world: SessionWorld;
  /** Every node answers at once that it has all. */
  prompt = false;

  constructor(world: SessionWorld) {
    this.#world = world;
    world.nodes.onMakeStable = (node, chunks) => {
      this.questions.push({ node, chunks });
      if (this.prompt) return Promise.resolve(answerOf(node, chunks));
      const answer = Promise.withResolvers<StableAnswer>();
      this.#waiting.set(node, answer);
      return answer.promise;
    };
  }

  get asked(): string[] {
    return this.questions.map(({ node }) => node);
  }

  async untilAsked(count: number): Promise<void> {
    await this.#world.clock.until(() => this.questions.length >= count, { withinMs: 1_000 });
  }

  /** The node has synced; it has these of the chunks that it was asked for. */
  async answer(node: string, held?: readonly ChunkId[]): Promise<void> {
    const question = this.questions.findLast((each) => each.node === node);
    this.#waiting.get(node)?.resolve(answerOf(node, held ?? question?.chunks ?? []));
    await this.#world.clock.settle();
  }

  async refuse(node: string): Promise<void> {
    this.#waiting.get(node)?.reject(new CollectiveError('unavailable', `Ask node ${node}: its link ended`));
    await this.#world.clock.settle();
  }
}

/** Of a store that was started anew since, so that only what is named as held counts. */
function answerOf(node: string, held: readonly ChunkId[]): StableAnswer {
  return { store: { disk: `disk-${node}`, incarnation: 9, stableSequence: 0 }, held: new Set(held) };
}

const WRITTEN = [replicaOf('n1', { stable: false }), replicaOf('n2', { stable: false })];
const idOf = (number: number): ChunkId => chunkIdFromBytes(testChunk(number));
const written = (chunk: number, length = 100) =>
  contentOf([{ offset: 0, length, chunk }], { replicas: WRITTEN, size: length });

/** A file 'old' with stable content of chunk 1, a file 'new' with merely written content of chunk 2. */
async function twoFiles(): Promise<{
  world: SessionWorld;
  nodes: AskedNodes;
  client: ScriptedClient;
  old: number;
  fresh: number;
  [Symbol.asyncDispose](): Promise<void>;
}> {
  const world = await SessionWorld.start();
  const nodes = new AskedNodes(world);
  const client = await world.client();
  const old = await client.make(ROOT, 'old', { content: contentOf([{ offset: 0, length: 50, chunk: 1 }]) });
  const fresh = await client.make(ROOT, 'new', { content: written(2) });
  return {
    world,
    nodes,
    client,
    old: old.inode,
    fresh: fresh.inode,
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

function watch(reply: Promise<Reply>): { answered: boolean } {
  const state = { answered: false };
  void reply.then(() => {
    state.answered = true;
  });
  return state;
}

test('D3: a rename over a file is made only when a node has made the source stable', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, old, fresh } = parts;
  const renaming = client.send(renameOp(ROOT, 'new', ROOT, 'old'));
  const renamed = watch(renaming);
  await nodes.untilAsked(2);
  assert.deepEqual(nodes.questions, [
    { node: 'n1', chunks: [idOf(2)] },
    { node: 'n2', chunks: [idOf(2)] },
  ]);
  const other = await world.client();
  await world.clock.advance(2_000);
  assert.equal(renamed.answered, false);
  assert.equal((await other.lookup(ROOT, 'old')).inode, old);
  assert.equal((await other.lookup(ROOT, 'new')).inode, fresh);
  // One node is enough in a realm of minReplicas 1.
  await nodes.answer('n2');
  resultOf(await world.finish(renaming), 'empty');
  assert.equal((await other.lookup(ROOT, 'old')).inode, fresh);
  await assert.rejects(other.lookup(ROOT, 'new'), code('not_found'));
  assert.equal(await count(world, UNFIRM), 0);
  assert.equal(await count(world, UNSTABLE), 1);
  assert.deepEqual(world.core.figures.stableWaits, 1);
});

test('D3: nobody is asked where nothing is lost by a power loss', async () => {
  await using parts = await twoFiles();
  const { nodes, client, world } = parts;
  // A free name, a name for a directory, content that is stable, and no content at all.
  await client.rename(ROOT, 'new', ROOT, 'free', RenameMode.RENAME_NOREPLACE);
  await client.rename(ROOT, 'free', ROOT, 'new');
  await client.make(ROOT, 'stable', { content: contentOf([{ offset: 0, length: 10, chunk: 3 }]) });
  await client.rename(ROOT, 'stable', ROOT, 'old');
  await client.make(ROOT, 'empty');
  await client.rename(ROOT, 'empty', ROOT, 'old');
  await client.mkdir(ROOT, 'd1');
  await client.mkdir(ROOT, 'd2');
  await client.rename(ROOT, 'd1', ROOT, 'd2');
  // The node has reported meanwhile that it synced so far.
  world.nodes.stores.set('n1', { disk: 'disk-n1', incarnation: 1, stableSequence: 1 });
  await client.rename(ROOT, 'new', ROOT, 'old');
  assert.deepEqual(nodes.questions, []);
  assert.equal(await count(world, UNFIRM), 0);
});

test('D3: what a node has told before the commit need not be told again', async () => {
  await using parts = await twoFiles();
  const { nodes, client, world } = parts;
  world.nodes.stores.set('n1', { disk: 'disk-n1', incarnation: 1, stableSequence: 1 });
  await client.make(ROOT, 'old', { content: written(5), existing: Existing.REPLACE });
  assert.deepEqual(nodes.questions, []);
  const row = await world.finish(world.core.engine.run((tx) => tx.get(CHUNKS, idOf(5))));
  assert.deepEqual(
    row?.replicas.map(({ node, stable }) => [node, stable]),
    [
      ['n1', true],
      ['n2', false],
    ],
  );
});

test('D3, D8: in a realm of minReplicas 2 both nodes must have answered', async () => {
  await using world = await SessionWorld.start();
  const nodes = new AskedNodes(world);
  const realm = CreateRealmRequest.fromPartial({ path: '/safe', replicas: 2, minReplicas: 2 });
  await world.finish(world.core.createRealm(realm));
  await world.subject('root', { admin: true });
  const client = await world.client();
  const { inode: dir } = await client.lookup(ROOT, 'safe');
  await client.make(dir, 'old', { content: contentOf([{ offset: 0, length: 50, chunk: 1 }]) });
  await client.make(dir, 'new', { content: written(2) });
  const renaming = client.send(renameOp(dir, 'new', dir, 'old'));
  const renamed = watch(renaming);
  await nodes.untilAsked(2);
  await nodes.answer('n1');
  await world.clock.advance(100);
  assert.equal(renamed.answered, false);
  await nodes.answer('n2');
  resultOf(await world.finish(renaming), 'empty');
});

test('D3: nodes that stay away refuse the rename in bounded time, and nothing has changed', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, old, fresh } = parts;
  const startedMs = world.clock.elapsedMs;
  const renaming = client.send(renameOp(ROOT, 'new', ROOT, 'old'));
  await nodes.untilAsked(2);
  await nodes.refuse('n1');
  const refused = await world.finish(renaming);
  assert.throws(() => resultOf(refused, 'empty'), code('unavailable'));
  const tookMs = world.clock.elapsedMs - startedMs;
  assert.ok(tookMs >= STABLE_WITHIN_MS && tookMs < STABLE_WITHIN_MS + 1_000, `${tookMs} ms`);
  assert.equal((await client.lookup(ROOT, 'old')).inode, old);
  assert.equal((await client.lookup(ROOT, 'new')).inode, fresh);
  assert.equal(world.core.figures.stableRefused, 1);
  nodes.prompt = true;
  await client.rename(ROOT, 'new', ROOT, 'old');
  assert.equal((await client.lookup(ROOT, 'old')).inode, fresh);
});

test('D3: a node that comes back is asked again, and one that only reports is believed', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client } = parts;
  const first = client.send(renameOp(ROOT, 'new', ROOT, 'old'));
  await nodes.untilAsked(2);
  await nodes.refuse('n1');
  await nodes.refuse('n2');
  await world.clock.advance(1_000);
  assert.deepEqual(nodes.asked, ['n1', 'n2']);
  world.core.nodeReported();
  await nodes.untilAsked(4);
  await nodes.answer('n1');
  resultOf(await world.finish(first), 'empty');

  await client.make(ROOT, 'new', { content: written(3) });
  const second = client.send(renameOp(ROOT, 'new', ROOT, 'old'));
  await nodes.untilAsked(6);
  // A node of an earlier version knows no such question.
  world.nodes.stores.set('n2', { disk: 'disk-n2', incarnation: 1, stableSequence: 1 });
  world.core.nodeReported();
  resultOf(await world.finish(second, 100), 'empty');
});

test('D3: EXCHANGE waits for both files', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, fresh } = parts;
  const third = await client.make(ROOT, 'third', { content: written(3) });
  const exchanging = client.send(renameOp(ROOT, 'new', ROOT, 'third', RenameMode.RENAME_EXCHANGE));
  const exchanged = watch(exchanging);
  await nodes.untilAsked(2);
  await nodes.answer('n1');
  await nodes.untilAsked(4);
  assert.equal(exchanged.answered, false);
  assert.deepEqual(
    nodes.questions.map(({ chunks }) => chunks[0]),
    [idOf(2), idOf(2), idOf(3), idOf(3)],
  );
  await nodes.answer('n2');
  resultOf(await world.finish(exchanging), 'empty');
  assert.equal((await client.lookup(ROOT, 'third')).inode, fresh);
  assert.equal((await client.lookup(ROOT, 'new')).inode, third.inode);
});

for (const existing of [Existing.REPLACE, Existing.REPLACE_WITH_MODE])
  test(`D3, D2: content that is created over a file is stable before it takes the name (mode ${existing})`, async () => {
    await using parts = await twoFiles();
    const { world, nodes, client, old } = parts;
    const making = client.make(ROOT, 'old', { content: written(4), existing });
    await nodes.untilAsked(2);
    assert.deepEqual(nodes.questions[0], { node: 'n1', chunks: [idOf(4)] });
    const other = await world.client();
    assert.equal((await other.lookup(ROOT, 'old')).inode, old);
    await nodes.answer('n1');
    const made = await world.finish(making);
    assert.equal((await other.lookup(ROOT, 'old')).inode, made.inode);
    assert.deepEqual(
      (await blocks(client, made.inode)).blocks.map(({ slices }) => slices),
      [[sliceOf({ offset: 0, length: 100, chunk: 4 })]],
    );
  });

test('D3, D2: created content that its nodes have lost is refused: the client puts it again', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, old } = parts;
  const making = client.make(ROOT, 'old', { content: written(4), existing: Existing.REPLACE });
  const refused = assert.rejects(making, code('chunk_missing'));
  await nodes.untilAsked(2);
  await nodes.answer('n1', []);
  await world.clock.advance(100);
  await nodes.answer('n2', []);
  await refused;
  assert.equal((await client.lookup(ROOT, 'old')).inode, old);
  assert.equal(await world.finish(world.core.engine.run((tx) => tx.get(CHUNKS, idOf(4)))), undefined);
});

test('D3: a source that is lost while it is waited for leaves the old file in its place', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, old } = parts;
  const renaming = client.send(renameOp(ROOT, 'new', ROOT, 'old'));
  await nodes.untilAsked(2);
  await nodes.refuse('n1');
  await nodes.refuse('n2');
  // Both come back from a power loss without it.
  const { engine } = world.core;
  for (const node of ['n1', 'n2'] as NodeName[]) {
    const store = { node, disk: `disk-${node}`, incarnation: 2 };
    const asked = await world.finish(engine.run((tx) => doubtfulReplicas(tx, store)));
    await world.finish(engine.run((tx) => settleDoubt(tx, store, asked, new Set())));
  }
  world.core.nodeReported();
  await nodes.untilAsked(4);
  await nodes.answer('n1', []);
  await nodes.answer('n2', []);
  const refused = await world.finish(renaming);
  assert.throws(() => resultOf(refused, 'empty'), code('chunk_missing'));
  assert.equal((await client.lookup(ROOT, 'old')).inode, old);
  assert.equal(await count(world, UNFIRM), 0);
});

test('D3: fsync of a file says that its content is kept only when it is', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, fresh, old } = parts;
  const syncing = client.send(syncOf(fresh));
  const synced = watch(syncing);
  await nodes.untilAsked(2);
  await world.clock.advance(1_000);
  assert.equal(synced.answered, false);
  await nodes.answer('n1');
  resultOf(await world.finish(syncing), 'empty');
  await client.call(syncOf(old), 'empty');
  await client.call(syncOf(fresh), 'empty');
  await client.call(SYNC, 'empty');
  assert.equal(nodes.questions.length, 2);
});

test('M3: what the session does next in these directories comes after a rename that waits; others go on', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, fresh } = parts;
  const other = await world.client();
  const renaming = client.send(renameOp(ROOT, 'new', ROOT, 'old'));
  const looking = client.send({ $case: 'lookup', value: { parent: ROOT, name: Buffer.from('old') } });
  const looked = watch(looking);
  await nodes.untilAsked(2);
  await other.mkdir(ROOT, 'theirs');
  await world.clock.advance(500);
  assert.equal(looked.answered, false);
  await nodes.answer('n1');
  resultOf(await world.finish(renaming), 'empty');
  assert.equal(resultOf(await world.finish(looking), 'attributes').inode, fresh);
});

test('M5: a rename whose stream breaks while it waits is made once, by the next stream', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, fresh } = parts;
  const number = client.draw();
  void client.send(renameOp(ROOT, 'new', ROOT, 'old'), { number });
  await nodes.untilAsked(2);
  client.breakLink();
  await client.attach();
  const again = client.send(renameOp(ROOT, 'new', ROOT, 'old'), { number });
  await nodes.untilAsked(4);
  await nodes.answer('n1');
  resultOf(await world.finish(again), 'empty');
  assert.equal((await client.lookup(ROOT, 'old')).inode, fresh);
  // Its answer is kept: asked once more it does not say that the source is missing.
  resultOf(await client.reply(renameOp(ROOT, 'new', ROOT, 'old'), { number }), 'empty');
});

test('M5: a rename that is given up while it waits never happens', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, old } = parts;
  const number = client.draw();
  const renaming = client.send(renameOp(ROOT, 'new', ROOT, 'old'), { number });
  await nodes.untilAsked(2);
  await client.call({ $case: 'cancel', value: { number, step: 0 } }, 'empty');
  const given = await world.finish(renaming);
  assert.throws(() => resultOf(given, 'empty'), code('interrupted'));
  await nodes.answer('n1');
  await world.clock.advance(1_000);
  assert.equal((await client.lookup(ROOT, 'old')).inode, old);
});

test('M4, D3: a rename that is made again after a power loss of the coordinator waits for no node', async () => {
  let replayed = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const world = await SessionWorld.start({ seed, syncMs: 40 });
    const client = await world.client();
    await client.make(ROOT, 'old', { content: contentOf([{ offset: 0, length: 50, chunk: 1 }]) });
    const { inode } = await client.make(ROOT, 'new');
    // Stable on its nodes before it is committed; the log is not, and goes.
    world.nodes.stores.set('n1', { disk: 'disk-n1', incarnation: 1, stableSequence: 1 });
    await world.clock.advance(300);
    const changes = [
      commitOp(inode, [{ offset: 0, length: 100, chunk: 2 }], { replicas: WRITTEN }),
      renameOp(ROOT, 'new', ROOT, 'old'),
    ].map((op) => ({ op, number: client.draw() }));
    const before: Reply[] = [];
    for (const { op, number } of changes) before.push(await client.reply(op, { number }));
    world.nodes.stores.clear();
    await world.restart('power-loss');
    const { recoveredPosition } = await client.attach();
    for (const [i, { op, number }] of changes.entries()) {
      if ((before[i]?.position ?? 0) <= recoveredPosition) continue;
      replayed += 1;
      const again = client.send(op, { number, replay: before[i]?.drawn });
      resultOf(await world.finish(again, 1_000), i === 0 ? 'committed' : 'empty');
    }
    client.replayed();
    assert.equal((await client.lookup(ROOT, 'old')).inode, inode);
    await world[Symbol.asyncDispose]();
  }
  assert.ok(replayed > 0, 'some seed loses something');
});

test('D3: a file of many unstable chunks is made stable in bounded steps', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, fresh } = parts;
  const chunks = 2 * STABLE_STEP_CHUNKS + 10;
  for (let i = 0; i < chunks; i++)
    await client.call(
      commitOp(fresh, [{ offset: 1_000 * i, length: 10, chunk: 100 + i }], { replicas: WRITTEN }),
      'committed',
    );
  nodes.prompt = true;
  await client.rename(ROOT, 'new', ROOT, 'old');
  assert.equal(await count(world, UNFIRM), 0);
  assert.ok(nodes.questions.every((question) => question.chunks.length <= STABLE_STEP_CHUNKS));
  const asked = new Set(nodes.questions.flatMap((question) => question.chunks));
  assert.equal(asked.size, chunks + 1);
});

test('D3: a rename comes to its end while another session goes on writing to the source', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, fresh } = parts;
  const writer = await world.client();
  let chunk = 10;
  const { onMakeStable } = world.nodes;
  world.nodes.onMakeStable = async (node, chunks) => {
    chunk += 1;
    const piece = { offset: 1_000 * chunk, length: 10, chunk: chunkOf(2, chunk) };
    await writer.send(commitOp(fresh, [piece], { replicas: WRITTEN }));
    return onMakeStable(node, chunks);
  };
  nodes.prompt = true;
  await client.rename(ROOT, 'new', ROOT, 'old');
  assert.equal(nodes.questions.length, 2 * STABLE_PASSES_MAX);
  assert.equal((await client.lookup(ROOT, 'old')).inode, fresh);
});

test('D3: what was cut away is not waited for', async () => {
  await using parts = await twoFiles();
  const { world, nodes, client, fresh } = parts;
  await client.set(fresh, { size: 0 });
  await client.call(commitOp(fresh, [{ offset: 0, length: 10, chunk: 7 }]), 'committed');
  await client.rename(ROOT, 'new', ROOT, 'old');
  assert.deepEqual(nodes.questions, []);
  assert.equal(await count(world, UNFIRM), 0);
});

test('D3: a covered slice of a chunk that came back from garbage is waited for as any other', async () => {
  await using parts = await twoFiles();
  const { nodes, client, fresh, world } = parts;
  await client.call(commitOp(fresh, [{ offset: 0, length: 100, chunk: 8 }]), 'committed');
  assert.equal(await count(world, UNFIRM), 0);
  const again = commitOp(fresh, [{ offset: 0, length: 100, chunk: 2 }], { replicas: WRITTEN });
  await client.call(again, 'committed');
  assert.equal(await count(world, UNFIRM), 1);
  const renaming = client.send(renameOp(ROOT, 'new', ROOT, 'old'));
  await nodes.untilAsked(2);
  await nodes.answer('n1');
  resultOf(await world.finish(renaming), 'empty');
});

test('D3: nothing is waited for any more when a node has reported that it synced, also of a file that is gone', async () => {
  await using parts = await twoFiles();
  const { nodes, client, world } = parts;
  await client.make(ROOT, 'gone', { content: written(3) });
  await client.unlink(ROOT, 'gone');
  assert.equal(await count(world, UNFIRM), 2);
  const store = { node: 'n1' as NodeName, disk: 'disk-n1', incarnation: 1 };
  assert.equal(await world.finish(world.core.engine.run((tx) => markStable(tx, store, 1))), 2);
  assert.equal(await count(world, UNFIRM), 0);
  await client.rename(ROOT, 'new', ROOT, 'old');
  assert.deepEqual(nodes.questions, []);
});
