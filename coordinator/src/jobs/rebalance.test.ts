import assert from 'node:assert/strict';
import { test } from 'node:test';
import { numbersFrom } from '../ops/one-file.ts';
import { MAINTENANCE_DEFAULTS } from './maintenance.ts';
import { PIECE_BYTES, RepairScene } from './repair-scene.ts';

const HOUR_MS = 3_600_000;
/** Chunks that fill a node. */
const FULL = 200;

/** n1 and n2 hold 100 chunks each, a node that has joined none. */
async function open(zones: readonly string[] = ['', '', '']): Promise<RepairScene> {
  const scene = await RepairScene.open(zones.length);
  scene.isWeighed = true;
  for (const [i, zone] of zones.entries()) scene.set(`n${i + 1}`, { capacityBytes: FULL * PIECE_BYTES, zone });
  await scene.store(numbersFrom(1, 100), ['n1', 'n2']);
  return scene;
}

async function rebalance(scene: RepairScene): Promise<void> {
  const number = scene.background.rebalanceNow();
  await scene.world.clock.until(() => scene.background.replicas.rebalance.finished >= number, { withinMs: 60_000 });
  assert.deepEqual(scene.failures, []);
}

const counts = (scene: RepairScene, nodes = ['n1', 'n2', 'n3']): number[] =>
  nodes.map((node) => scene.held(node).length);

test('D8: a node that has joined gets its share when somebody asks; every chunk has its replicas, and what goes was read elsewhere', async () => {
  await using scene = await open();
  await rebalance(scene);
  await scene.untilMended();
  const held = counts(scene);
  const [first = 0, second = 0, third = 0] = held;
  assert.equal(first + second + third, 200, `no copy too many is left: ${held}`);
  for (const count of held) assert.ok(Math.abs(count - 200 / 3) <= FULL * 0.02 + 1, `${held}`);
  for (const number of numbersFrom(1, 100)) {
    const places = await scene.placesOf(number);
    assert.equal(places.length, 2);
    for (const node of places) assert.ok(scene.held(node).includes(number), `${number} is on ${node}`);
  }
  assert.deepEqual(await scene.noted(), []);
  const { movedChunks, movedBytes, spread } = scene.background.replicas.rebalance;
  assert.deepEqual([movedChunks, movedBytes], [third, third * PIECE_BYTES]);
  assert.ok(spread !== undefined && spread <= 0.03, `${spread}`);
  assert.equal(scene.events.filter(({ kind }) => kind === 'rebalanced').length, 1);
});

test('D8: what nodes report as used, dead bytes and all, does not decide what moves', async () => {
  await using scene = await open();
  scene.isWeighed = false;
  await rebalance(scene);
  await scene.untilMended();
  for (const count of counts(scene)) assert.ok(Math.abs(count - 200 / 3) <= FULL * 0.02 + 1, `${counts(scene)}`);
});

test('D8: what is even stays as it is, however often somebody asks', async () => {
  await using scene = await open();
  await rebalance(scene);
  const before = counts(scene);
  const fetched = scene.given('fetch').length;
  for (let i = 0; i < 3; i++) await rebalance(scene);
  assert.deepEqual(counts(scene), before);
  assert.equal(scene.given('fetch').length, fetched, 'nothing moves back and forth');
});

test('by itself it begins when the use is uneven by more than is set, within the hours that are set', async () => {
  await using scene = await open();
  scene.settings = { ...MAINTENANCE_DEFAULTS, rebalancePercent: 90 };
  await scene.world.clock.advance(2 * HOUR_MS);
  assert.deepEqual(counts(scene), [100, 100, 0], 'not uneven enough');
  const hour = Math.floor(scene.world.clock.now().seconds / 3_600) % 24;
  const two = (value: number): string => String(value % 24).padStart(2, '0');
  scene.settings = { ...MAINTENANCE_DEFAULTS, rebalanceHours: `${two(hour + 4)}-${two(hour + 6)}` };
  await scene.world.clock.advance(2 * HOUR_MS);
  assert.deepEqual(counts(scene), [100, 100, 0], 'too early');
  await scene.world.clock.advance(3.5 * HOUR_MS);
  assert.ok((counts(scene)[2] ?? 0) > 60, `${counts(scene)}`);
});

test('off is off, and after a restore that nobody has confirmed nothing moves even when asked (D9)', async () => {
  await using scene = await open();
  scene.settings = { ...MAINTENANCE_DEFAULTS, rebalancePercent: 0 };
  await scene.world.clock.advance(3 * HOUR_MS);
  assert.deepEqual(counts(scene), [100, 100, 0]);
  scene.settings = { ...MAINTENANCE_DEFAULTS, garbageWaits: true };
  await rebalance(scene);
  assert.deepEqual(counts(scene), [100, 100, 0]);
});

test('D8: copies of a chunk stay in as many zones as they are in', async () => {
  await using scene = await open(['a', 'b', 'a']);
  await rebalance(scene);
  const held = counts(scene);
  assert.equal(held[1], 100, 'the only node of its zone keeps a copy of everything');
  assert.ok((held[0] ?? 0) + (held[2] ?? 0) === 100 && (held[2] ?? 0) > 25, `${held}`);
});

test('nothing moves to a node that is cordoned, draining, full or away', async () => {
  for (const change of [{ duty: 'cordoned' }, { heard: 'full' }, { freeBytes: 5 }] as const) {
    await using scene = await open();
    scene.set('n3', change);
    await rebalance(scene);
    assert.deepEqual(counts(scene), [100, 100, 0], JSON.stringify(change));
  }
});

test('a node that cannot take its share leaves all as it was, and is not asked in a loop', async () => {
  await using scene = await open();
  scene.orders.node('n3').isUp = false;
  await rebalance(scene);
  assert.deepEqual(counts(scene), [100, 100, 0]);
  assert.ok(scene.given('fetch').length <= 8, `${scene.given('fetch').length} orders`);
  for (const number of numbersFrom(1, 100)) assert.deepEqual(await scene.placesOf(number), ['n1', 'n2']);
});

test('D8: no copy is moved to a node that has just given the chunk up; when it may take it again it gets its share', async () => {
  await using scene = await open();
  scene.set('n1', { duty: 'draining' });
  await scene.untilMended();
  assert.deepEqual(counts(scene), [0, 100, 100]);
  scene.set('n1', { duty: 'active' });
  const copied = scene.given('fetch').length;
  const { chunks } = await scene.world.finish(scene.background.planRebalance());
  await rebalance(scene);
  assert.deepEqual([chunks, scene.given('fetch').length, counts(scene)], [0, copied, [0, 100, 100]]);
  await scene.world.clock.advance(HOUR_MS);
  await rebalance(scene);
  await scene.untilMended();
  for (const count of counts(scene)) assert.ok(Math.abs(count - 200 / 3) <= FULL * 0.02 + 1, `${counts(scene)}`);
});
