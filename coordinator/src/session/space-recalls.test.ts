import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SPACE_RECALL } from '@collective/protocol/session-features';
import { chunkOf, code, contentOf, ROOT } from './scripted-operations.ts';
import { ScriptedClient, SessionWorld } from './session-harness.ts';
import { SPACE_RECALL_WITHIN_MS } from './space-recalls.ts';

const MiB = 1024 * 1024;
const QUOTA = 10 * MiB;

/** A realm with a quota, and clients that give room back; a test says how much. */
async function open() {
  const world = await SessionWorld.start();
  await world.finish(
    world.core.createRealm({
      path: '/q',
      quotaBytes: QUOTA,
      quotaInodes: 0,
      replicas: 0,
      minReplicas: 0,
      compressionOff: false,
    } as never),
  );
  await world.subject('root', { admin: true });
  const client = async (): Promise<ScriptedClient> => {
    const made = new ScriptedClient(world, {});
    await made.attach({ features: [SPACE_RECALL] });
    return made;
  };
  const [one, two] = [await client(), await client()];
  const { inode: dir, realm } = await one.lookup(ROOT, 'q');
  const replenish = async (by: ScriptedClient, bytes: number, of = realm): Promise<number> =>
    (await by.call({ $case: 'replenish', value: { realm: of, bytes, chunks: 4 } }, 'replenished')).bytes;
  return { world, one, two, dir, realm, replenish, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

test('M10: room that an idle session holds goes to who finds none, and a quota is exceeded only when it is full', async () => {
  await using scene = await open();
  const { one, two, dir, realm, replenish } = scene;
  const asked: number[] = [];
  assert.equal(await replenish(one, 64 * MiB), QUOTA);
  one.onSpaceRecall = (of) => {
    asked.push(of);
    return 9 * MiB;
  };
  assert.equal(await replenish(two, 4 * MiB), 4 * MiB);
  assert.deepEqual(asked, [realm]);
  // What was kept is used; what two was granted is not.
  two.onSpaceRecall = () => 0;
  await one.make(dir, 'a', { content: contentOf([{ offset: 0, length: MiB, chunk: chunkOf(1, 1) }]) });
  await two.make(dir, 'b', { content: contentOf([{ offset: 0, length: 4 * MiB, chunk: chunkOf(2, 2) }]) });
  assert.equal(await replenish(two, 64 * MiB), 5 * MiB);
  await assert.rejects(replenish(one, 1), code('quota_exceeded'));
});

test('M10: a commit beyond the own grant asks for what others hold as well', async () => {
  await using scene = await open();
  const { one, two, dir, replenish } = scene;
  await replenish(one, 64 * MiB);
  one.onSpaceRecall = () => QUOTA;
  await two.make(dir, 'b', { content: contentOf([{ offset: 0, length: MiB, chunk: chunkOf(2, 1) }]) });
  assert.equal(await replenish(one, 64 * MiB), QUOTA - MiB);
});

test('M10: room on the nodes comes back from sessions of all realms', async () => {
  await using scene = await open();
  const { world, one, two, replenish } = scene;
  world.nodes.free = 4_000;
  assert.equal(await replenish(one, 9_000), 2_000);
  one.onSpaceRecall = () => 1_500;
  assert.equal(await replenish(two, 9_000, 1), 1_500);
  one.onSpaceRecall = () => 0;
  two.onSpaceRecall = () => 0;
  await world.clock.advance(1_000);
  await assert.rejects(replenish(one, 1), code('no_space'));
});

test('M10: who does not answer is waited for shortly; who cannot, or has no stream, not at all', async () => {
  await using scene = await open();
  const { world, one, two, replenish } = scene;
  await replenish(one, 64 * MiB);
  let beganMs = world.clock.bootMs();
  await assert.rejects(replenish(two, 1), code('quota_exceeded'));
  assert.ok(world.clock.bootMs() - beganMs >= SPACE_RECALL_WITHIN_MS);
  one.breakLink();
  await world.clock.settle();
  beganMs = world.clock.bootMs();
  await assert.rejects(replenish(two, 1), code('quota_exceeded'));
  assert.ok(world.clock.bootMs() - beganMs < SPACE_RECALL_WITHIN_MS);

  // What was given back on a stream that broke is not given back twice: attach says what is held.
  await one.attach({ features: [], space: [{ realm: scene.realm, bytes: 7 * MiB }] });
  assert.equal(await replenish(two, 64 * MiB), 3 * MiB);
});

test('M10: more than a session holds is not given back, and quotas stay exact', async () => {
  await using scene = await open();
  const { one, two, realm, replenish } = scene;
  await replenish(one, 2 * MiB);
  one.say({ $case: 'giveBack', value: { realm, bytes: 8 * MiB } });
  assert.equal(await replenish(two, 64 * MiB), QUOTA);
  two.onSpaceRecall = () => 0;
  await assert.rejects(replenish(one, 1), code('quota_exceeded'));
});
