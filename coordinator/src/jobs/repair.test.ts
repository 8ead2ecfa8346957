import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InodeNumber, NodeName } from '@collective/base/ids';
import { commit, numbersFrom } from '../ops/one-file.ts';
import { ROOT, replicaOf } from '../session/scripted-operations.ts';
import { UNFIRM } from '../tables/tables.ts';
import { FETCH_CHUNKS_MAX } from './node-orders.ts';
import { chunkOf, RepairScene } from './repair-scene.ts';

const kinds = (scene: RepairScene): string[] => scene.events.map(({ kind }) => kind);

test('D8: what lay on a node that was given up is copied to others, and its chunks have their replicas again', async () => {
  await using scene = await RepairScene.open(4);
  const chunks = numbersFrom(1, 40);
  await scene.store(chunks, ['n1', 'n2']);
  await scene.store([50], ['n3', 'n4']);
  scene.down('n2', 'lost');
  await scene.untilMended();
  const [third, fourth] = [scene.held('n3'), scene.held('n4')];
  assert.deepEqual(
    [...third, ...fourth].sort((a, b) => a - b),
    [...chunks, 50, 50],
  );
  assert.ok(third.length > 5 && fourth.length > 5, `both take their share: ${third.length}, ${fourth.length}`);
  assert.deepEqual(scene.given('verify'), [], 'nothing goes, so nothing is read again');
  for (const [, numbers] of scene.given('fetch')) assert.ok(numbers.length <= FETCH_CHUNKS_MAX);
  assert.ok(scene.given('fetch').length <= 8, 'many in one order');
  assert.ok(kinds(scene).includes('node-given-up'));
  const { copiedChunks, copiedBytes, failures } = scene.background.replicas.mover;
  assert.deepEqual({ copiedChunks, copiedBytes, failures }, { copiedChunks: 40, copiedBytes: 400, failures: 0 });
});

test('D8: a node that is away for less than it may be costs no copy', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store(numbersFrom(1, 5), ['n1', 'n2']);
  scene.down('n2', 'away');
  await scene.world.clock.advance(60_000);
  assert.deepEqual(scene.given('fetch'), []);
  assert.deepEqual(await scene.noted(), []);
});

test('D8: when the node that was given up is back, what is too many goes after the others were read again', async () => {
  await using scene = await RepairScene.open(3);
  const chunks = numbersFrom(1, 5);
  await scene.store(chunks, ['n1', 'n2']);
  scene.down('n2', 'lost');
  await scene.untilMended();
  assert.deepEqual(await scene.placesOf(1), ['n1', 'n2', 'n3'], 'its place is kept: it may come back');
  scene.up('n2');
  scene.set('n2', { usedBytes: 8 * 1024 ** 3 });
  await scene.untilMended();
  assert.deepEqual(await scene.placesOf(1), ['n1', 'n3']);
  assert.deepEqual(scene.held('n2'), []);
  const read = scene.given('verify').map(([node, numbers]) => [node, numbers.sort()]);
  assert.deepEqual(read.sort(), [
    ['n1', chunks],
    ['n3', chunks],
  ]);
  assert.ok(kinds(scene).includes('node-returned'));
});

test('D8: what is too many while a node is away for a moment is not forgotten, and goes when it is back', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store([1, 2], ['n1', 'n2', 'n3']);
  scene.down('n3', 'away');
  await scene.wantReplicas(2);
  await scene.world.clock.advance(30_000);
  assert.deepEqual(await scene.placesOf(1), ['n1', 'n2', 'n3']);
  assert.deepEqual([...scene.background.replicas.repair.left], [['node-away', 2]]);
  scene.up('n3');
  await scene.untilMended();
  for (const chunk of [1, 2]) assert.equal((await scene.placesOf(chunk)).length, 2);
});

test('D8: the most endangered chunk is copied first, and what is new goes before the rest of a long walk', async () => {
  await using scene = await RepairScene.open(4);
  scene.settings = { ...scene.settings, repairBytesPerSecond: 100 };
  // More than are worked on at once, in three blocks.
  const many = [...numbersFrom(100, 240), ...numbersFrom(500_000, 240), ...numbersFrom(1_000_000, 240)];
  await scene.store(many, ['n1', 'n2']);
  scene.set('n1', { duty: 'draining' });
  await scene.world.clock.advance(8_000);
  const before = scene.given('fetch').length;
  assert.ok(before > 0 && scene.held('n3').length + scene.held('n4').length < many.length, 'it is under way');
  await scene.store([7], ['n2']);
  await scene.world.clock.advance(60_000);
  const fetched = scene.given('fetch').flatMap(([, numbers]) => numbers);
  const place = fetched.indexOf(7);
  assert.ok(place >= 0 && place < 450, `it was number ${place} of ${fetched.length}`);
  assert.deepEqual((await scene.placesOf(7)).length, 2);
});

test('D8: bytes go at the rate that is set, and a change of it is felt at once', async () => {
  await using scene = await RepairScene.open(3);
  scene.settings = { ...scene.settings, repairBytesPerSecond: 100 };
  await scene.store(numbersFrom(1, 100), ['n1', 'n2']);
  scene.down('n2', 'lost');
  const { clock } = scene.world;
  await clock.advance(8_000);
  const slow = scene.held('n3').length;
  assert.ok(slow >= 30 && slow <= 80, `${slow} chunks of 10 bytes within some 6 s of 100 bytes each`);
  scene.settings = { ...scene.settings, repairBytesPerSecond: 1_000_000 };
  await clock.advance(2_000);
  assert.equal(scene.held('n3').length, 100);
});

test('D8: a target that fails is left alone for a while, others take its share, and nothing is tried in a loop', async () => {
  await using scene = await RepairScene.open(4);
  await scene.store(numbersFrom(1, 64), ['n1', 'n2']);
  scene.orders.node('n3').refuses = 'disk_failed';
  scene.down('n2', 'lost');
  const failure = (): string | undefined => scene.background.replicas.repair.failure;
  await scene.world.clock.until(() => failure() !== undefined);
  // No chunk waits with the node that has failed it.
  await scene.untilMended(10_000);
  assert.equal(scene.held('n4').length, 64);
  assert.equal(failure(), undefined, 'a failure that was got over is not told for ever');
  const tries = scene.given('fetch').filter(([node]) => node === 'n3').length;
  assert.ok(tries > 0 && tries < 8, `${tries} orders to the node that fails`);
});

test('D8: when no node can take a copy it is said why, without a try, and done once one can', async () => {
  await using scene = await RepairScene.open(2);
  await scene.store([1, 2], ['n1', 'n2']);
  scene.down('n2', 'lost');
  await scene.world.clock.advance(30_000);
  assert.deepEqual(scene.given('fetch'), []);
  assert.deepEqual([...scene.background.replicas.repair.left], [['no-target', 2]]);
  assert.deepEqual(await scene.noted(), [
    [1, 1],
    [1, 2],
  ]);
  scene.addNode('n9');
  await scene.untilMended();
  assert.deepEqual(scene.held('n9'), [1, 2]);
});

test('D8: a node that was away between two looks gets what was written without it as soon as it is back', async () => {
  await using scene = await RepairScene.open(2);
  const { clock } = scene.world;
  await clock.advance(5_000);
  scene.down('n2', 'away');
  await scene.store([1], ['n1']);
  await clock.advance(200);
  assert.deepEqual(await scene.placesOf(1), ['n1']);
  scene.up('n2');
  scene.background.nodeCame('n2' as NodeName);
  await clock.advance(3_000);
  assert.deepEqual(await scene.placesOf(1), ['n1', 'n2']);
  assert.deepEqual(scene.held('n2'), [1]);
});

test('D5: a damaged copy that its node reports is replaced where it lies, and named in an event', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store([1, 2, 3], ['n1', 'n2']);
  scene.damage('n2', 2);
  scene.reportDamage('n2', [2]);
  scene.reportDamage('n2', [2]);
  await scene.untilMended();
  assert.deepEqual(scene.held('n2'), [1, 2, 3]);
  assert.deepEqual(await scene.placesOf(2), ['n1', 'n2']);
  assert.equal(
    (await scene.row(2))?.replicas.every(({ damaged, stable }) => !damaged && stable),
    true,
  );
  const [event, ...others] = scene.events.filter(({ kind }) => kind === 'chunk-damaged');
  assert.deepEqual(
    [event?.details.node, event?.details.chunks, event?.details.inodes],
    ['n2', chunkOf(2), String(scene.inode)],
  );
  assert.deepEqual(others, [], 'told once, however often it is reported');
  scene.reportDamage('n2', []);
  scene.damage('n2', 2);
  scene.reportDamage('n2', [2]);
  await scene.untilMended();
  assert.deepEqual(scene.held('n2'), [1, 2, 3], 'and again when it is damaged again');
});

test('D5: a report of a chunk that no row says to lie on that disk changes nothing', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store([1], ['n1', 'n2']);
  scene.reportDamage('n3', [1, 77]);
  scene.background.nodeReported('n1' as never, { disk: 'another', damaged: [Buffer.from(chunkOf(1), 'hex')] });
  await scene.world.clock.advance(5_000);
  assert.deepEqual([await scene.noted(), scene.events], [[], []]);
});

test('D5: a copy that its node reports as damaged before the chunk is committed is replaced when it is', async () => {
  await using scene = await RepairScene.open(3);
  scene.reportDamage('n2', [1]);
  await scene.world.clock.advance(5_000);
  await scene.store([1], ['n1', 'n2']);
  scene.damage('n2', 1);
  scene.reportDamage('n2', [1]);
  await scene.untilMended();
  assert.deepEqual(scene.held('n2'), [1]);
  assert.equal(
    (await scene.row(1))?.replicas.some(({ damaged }) => damaged),
    false,
  );
});

test('D5: the only copy is kept although it is damaged, and an event names its file', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store([1], ['n1']);
  await scene.store([2], ['n1', 'n2']);
  await scene.untilMended();
  const [other] = (await scene.placesOf(1)).filter((name) => name !== 'n1');
  for (const node of ['n1', other as string]) {
    scene.damage(node, 1);
    scene.reportDamage(node, [1]);
  }
  await scene.world.clock.advance(30_000);
  assert.deepEqual((await scene.placesOf(1)).length, 2, 'both stay: together they may serve every byte');
  assert.deepEqual(await scene.noted(), [[0, 1]]);
  const events = scene.events.filter(({ kind }) => kind === 'chunk-unreadable');
  assert.deepEqual(
    events.map(({ details }) => [details.chunk, details.inode]),
    [[chunkOf(1), String(scene.inode)]],
  );
  assert.deepEqual([...scene.background.replicas.repair.left], [['no-copy', 1]]);
});

test('D8: damage that shows when the others are read again stops the drop, and is mended first', async () => {
  await using scene = await RepairScene.open(4);
  await scene.store([1, 2], ['n1', 'n2', 'n3']);
  scene.damage('n1', 1);
  scene.set('n3', { duty: 'draining' });
  await scene.untilMended();
  assert.deepEqual([scene.held('n1'), scene.held('n2'), scene.held('n3')], [[1, 2], [1, 2], []]);
  const mended = scene.given('fetch').filter(([node]) => node === 'n1');
  assert.deepEqual(mended, [['n1', [1]]]);
  const forgotten = scene.given('forget').flatMap(([, numbers]) => numbers);
  assert.deepEqual(forgotten.sort(), [1, 2]);
  const order = scene.orders.given.findIndex(({ order, chunks }) => order === 'forget' && chunks.includes(chunkOf(1)));
  const mend = scene.orders.given.findIndex(({ order, node }) => order === 'fetch' && node === 'n1');
  assert.ok(mend >= 0 && mend < order, 'not forgotten before there were two whole copies elsewhere');
});

test('D8: a source that lacks what its row says, or has it damaged, is found out and mended from another', async () => {
  await using scene = await RepairScene.open(4);
  await scene.store([1, 2], ['n1', 'n2']);
  scene.orders.node('n1').copies.delete(chunkOf(1));
  scene.damage('n1', 2);
  await scene.wantReplicas(3);
  scene.down('n2', 'away');
  await scene.world.clock.advance(10_000);
  assert.deepEqual(
    [(await scene.row(1))?.replicas.find(({ node }) => node === 'n1')?.damaged, scene.held('n3')],
    [true, []],
  );
  scene.up('n2');
  await scene.untilMended();
  for (const number of [1, 2]) assert.equal((await scene.placesOf(number)).length, 3);
  assert.deepEqual(scene.held('n1'), [1, 2]);
});

test('D8, M9: the present rule of the realm counts: more replicas are made, fewer kept, and rows follow', async () => {
  await using scene = await RepairScene.open(4);
  await scene.store([1, 2], ['n1', 'n2']);
  const want = async (replicas: number): Promise<void> => {
    await scene.wantReplicas(replicas);
    await scene.untilMended();
  };
  await want(3);
  assert.deepEqual([(await scene.placesOf(1)).length, (await scene.row(1))?.wanted], [3, 3]);
  await want(1);
  assert.deepEqual([(await scene.placesOf(2)).length, (await scene.row(2))?.wanted], [1, 1]);
  const held = ['n1', 'n2', 'n3', 'n4'].flatMap((name) => scene.held(name));
  assert.deepEqual(held.sort(), [1, 2], 'one copy each');
});

test('D8: what is committed with places on a node that is drained, given up or has another disk by then is made good too', async () => {
  await using scene = await RepairScene.open(5);
  await scene.store([1], ['n1', 'n2']);
  scene.set('n1', { duty: 'draining' });
  scene.down('n3', 'lost');
  scene.set('n4', { disk: 'a new disk' });
  await scene.untilMended();
  await scene.world.clock.advance(60_000);
  const surveys = scene.background.replicas.survey.ended;
  await scene.store([2], ['n1', 'n2']);
  await scene.store([3], ['n3', 'n2']);
  await scene.store([4], ['n4', 'n2']);
  await scene.untilMended();
  for (const number of [1, 2, 3, 4]) {
    const { replicas = [] } = (await scene.row(number)) ?? {};
    // A node that was given up may come back: its place stays in the row, and does not count.
    const places = replicas.map(({ node, disk }) => `${node} ${disk}`).filter((place) => place !== 'n3 disk-n3');
    assert.equal(places.length, 2, `${number}: ${places}`);
    assert.ok(
      places.every((place) => /^n[245] /.test(place) && place !== 'n4 disk-n4'),
      `${number}: ${places}`,
    );
  }
  assert.deepEqual(scene.held('n1'), []);
  assert.equal(scene.background.replicas.survey.ended, surveys, 'no chunk but these was looked at');
});

test('D8: a draining node is emptied, what is garbage within its grace goes with the rest', async () => {
  await using scene = await RepairScene.open(4);
  await scene.store(numbersFrom(1, 20), ['n1', 'n2']);
  await scene.store([30], ['n1']);
  await scene.client.unlink(ROOT, 'f');
  await scene.world.clock.advance(2_000);
  assert.equal((await scene.row(30))?.references, 0, 'all of it is garbage');
  scene.set('n1', { duty: 'draining' });
  await scene.untilMended();
  assert.deepEqual(scene.held('n1'), []);
  for (const number of [1, 20]) assert.deepEqual(await scene.placesOf(number), ['n2'], 'one copy of garbage is enough');
  assert.equal((await scene.placesOf(30)).length, 1, 'the only copy has moved');
});

test('D2: a crash between the commit that gives a place up and the word to its node leaves nothing behind', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store([1, 2], ['n1', 'n2', 'n3']);
  scene.orders.onOrder = (order) => {
    if (order === 'forget') throw new (class extends Error {})('the coordinator ends here');
  };
  scene.set('n3', { duty: 'draining' });
  await scene.world.clock.advance(6_000);
  assert.deepEqual(await scene.placesOf(1), ['n1', 'n2'], 'the row does not name it any more');
  assert.deepEqual(scene.held('n3'), [1, 2], 'and it was not told');
  scene.orders.onOrder = undefined;
  scene.failures.length = 0;
  await scene.restart();
  await scene.world.clock.advance(700_000);
  assert.deepEqual(scene.held('n3'), [], 'who looks after orphans tells it');
});

test('D8: a restart goes on where the one before was', async () => {
  await using scene = await RepairScene.open(3);
  scene.settings = { ...scene.settings, repairBytesPerSecond: 50 };
  await scene.store(numbersFrom(1, 60), ['n1', 'n2']);
  scene.down('n2', 'lost');
  await scene.world.clock.advance(6_000);
  const before = scene.held('n3').length;
  assert.ok(before > 0 && before < 60);
  scene.settings = { ...scene.settings, repairBytesPerSecond: 1_000_000 };
  await scene.restart();
  await scene.untilMended();
  assert.equal(scene.held('n3').length, 60);
});

test('D9: after a restore copies are made, and nothing is removed until a person confirms', async () => {
  await using scene = await RepairScene.open(4);
  scene.settings = { ...scene.settings, garbageWaits: true };
  await scene.store([1, 2], ['n1', 'n2', 'n3']);
  await scene.store([3], ['n1']);
  await scene.world.clock.advance(60_000);
  assert.equal((await scene.placesOf(3)).length, 2);
  assert.equal((await scene.placesOf(1)).length, 3);
  assert.deepEqual(scene.given('forget'), []);
  assert.equal(scene.background.replicas.repair.left.get('unconfirmed'), 2);
  scene.settings = { ...scene.settings, garbageWaits: false };
  scene.background.settingsChanged();
  await scene.untilMended(10_000);
  assert.equal((await scene.placesOf(1)).length, 2);
  assert.equal(scene.background.replicas.repair.left.size, 0, 'and nobody is told to confirm again');
});

test('D3: what is not stable yet is not counted on when a replica goes, and is copied while the start that wrote it runs', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store([1], ['n1', 'n2']);
  scene.set('n1', { duty: 'draining' });
  scene.orders.put('n2', chunkOf(5));
  await commit(scene.client, scene.inode, [{ offset: 500, length: 10, chunk: 5 }], {
    replicas: [replicaOf('n2', { stable: false })],
  });
  const unfirm = (): Promise<unknown> => scene.run((tx) => tx.get(UNFIRM, scene.inode as InodeNumber, chunkOf(5)));
  assert.notEqual(await unfirm(), undefined, 'a rename of the file would wait for it');
  await scene.world.clock.advance(10_000);
  assert.deepEqual((await scene.placesOf(5)).length, 2);
  assert.equal(await unfirm(), undefined, 'the copy is stable');
  assert.deepEqual(scene.held('n3').includes(5), true);
});

test('D8: a drain begins when it is ordered, not with the next look at the nodes', async () => {
  await using scene = await RepairScene.open(3);
  await scene.store([1], ['n1']);
  await scene.wantReplicas(1);
  await scene.world.clock.advance(60_000);
  scene.set('n1', { duty: 'draining' });
  assert.equal(scene.background.replicas.counting, false);
  scene.background.nodesChanged();
  assert.equal(scene.background.replicas.counting, true, 'what is short is not noted yet');
  await scene.world.clock.advance(300);
  assert.equal(scene.given('fetch').length, 1);
  assert.equal(scene.background.replicas.counting, false);
});

test('D8: a drain whose only target had just given the chunks up goes on as soon as that may take them again', async () => {
  await using scene = await RepairScene.open(2);
  await scene.wantReplicas(1);
  const chunks = numbersFrom(1, 5);
  await scene.store(chunks, ['n1']);
  scene.set('n1', { duty: 'draining' });
  await scene.untilMended();
  scene.set('n1', { duty: 'active' });
  scene.set('n2', { duty: 'draining' });
  await scene.world.clock.advance(590_000);
  assert.deepEqual([...scene.background.replicas.repair.left], [['no-target', 5]]);
  await scene.world.clock.advance(15_000);
  assert.deepEqual(
    [scene.held('n1'), scene.held('n2')],
    [[], chunks],
    'what is known of its leaving is looked at later',
  );
  scene.background.compareInventories();
  await scene.world.clock.advance(10_000);
  assert.deepEqual([scene.held('n1'), scene.held('n2')], [chunks, []]);
});

test('D8: no copy is made for a node that has just given the chunk up', async () => {
  await using scene = await RepairScene.open(3);
  await scene.wantReplicas(1);
  const chunks = numbersFrom(1, 20);
  await scene.store(chunks, ['n1']);
  scene.set('n1', { duty: 'draining' });
  await scene.untilMended();
  assert.deepEqual(scene.held('n1'), []);
  scene.set('n1', { duty: 'active' });
  scene.set('n2', { duty: 'draining' });
  const fetchedBefore = scene.given('fetch').length;
  await scene.untilMended();
  assert.deepEqual([scene.held('n2'), scene.held('n3')], [[], chunks]);
  const fetchedBy = scene.given('fetch').slice(fetchedBefore);
  assert.deepEqual([...new Set(fetchedBy.map(([node]) => node))], ['n3']);
  assert.equal(scene.background.replicas.mover.failures, 0);
});

test('D8: what was in the way while a started coordinator had not heard of its nodes is not told of a long drain that goes on', async () => {
  await using scene = await RepairScene.open(3);
  scene.settings = { ...scene.settings, repairBytesPerSecond: 20 };
  // More than are worked on at once: a look at all of them takes as long as the drain.
  await scene.store(numbersFrom(1, 600), ['n1', 'n2']);
  scene.set('n1', { duty: 'draining' });
  const { clock } = scene.world;
  await clock.advance(8_000);
  for (const node of ['n1', 'n2', 'n3']) scene.down(node, 'away');
  await scene.restart();
  await clock.advance(500);
  const left = (): string[] => [...(scene.background.replicas.repair.leftOn.get('n1' as NodeName)?.keys() ?? [])];
  assert.deepEqual(left(), ['no-source']);
  for (const node of ['n1', 'n2', 'n3']) scene.up(node);
  await clock.advance(2_000);
  assert.deepEqual(left(), []);
  await clock.advance(60_000);
  assert.equal(scene.background.replicas.counting, false);
  assert.ok(scene.background.replicas.repair.leftChunks > 300, 'it goes on');
  assert.deepEqual(left(), []);
});
