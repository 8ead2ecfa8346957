import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EngineWorld } from '../engine/engine-world.ts';
import { EVENTS } from '../tables/tables.ts';
import { EVENTS_KEPT, EventLog } from './event-log.ts';

async function open(world: EngineWorld) {
  const life = await world.start();
  const events = await world.clock.finish(
    EventLog.load({ clock: world.clock, engine: life.engine, onFailure: (error) => assert.fail(String(error)) }),
  );
  const page = (before?: number, limit = 3, kind = '') => world.clock.finish(events.page({ before, limit, kind }));
  return { life, events, page };
}

test('events are told newest first, page by page, also over the gaps that starts leave in their numbers', async () => {
  const world = new EngineWorld();
  for (let start = 0; start < 3; start++) {
    const { life, events } = await open(world);
    for (let i = 0; i < 3; i++)
      events.record(i === 1 ? 'odd' : 'even', `event ${start}.${i}`, { start: String(start) });
    await life.close();
  }
  const { page, life } = await open(world);
  const told: string[] = [];
  for (let before: number | undefined; ; ) {
    const { events, end } = await page(before, 4);
    told.push(...events.map(({ message }) => message));
    if (end) break;
    before = events.at(-1)?.number;
  }
  const order = ['2.2', '2.1', '2.0', '1.2', '1.1', '1.0', '0.2', '0.1', '0.0'];
  assert.deepEqual(
    told,
    order.map((name) => `event ${name}`),
  );
  const odd = await page(undefined, 2, 'odd');
  assert.deepEqual([odd.events.map(({ message }) => message), odd.end], [['event 2.1', 'event 1.1'], false]);
  assert.deepEqual(odd.events[0]?.details, { start: '2' });
  assert.deepEqual(await page(undefined, 2, 'none'), { events: [], end: true });
  await life.close();
});

test('the newest ten thousand are kept, however large the gaps in their numbers are', async () => {
  const world = new EngineWorld();
  for (let start = 0; start < 4; start++) {
    const { life, events } = await open(world);
    for (let i = 0; i < 3_000; i++) events.record('k', `${start}.${i}`);
    await world.clock.advance(1_000);
    await life.close();
  }
  const { page, life } = await open(world);
  const { events } = await page(undefined, 20_000);
  assert.ok(events.length >= EVENTS_KEPT && events.length < EVENTS_KEPT * 1.2, `${events.length} are kept`);
  assert.equal(events[0]?.message, '3.2999');
  assert.equal(events[9_999]?.message, '0.2000');
  await life.close();
});

test('also lives that are too short for a sweep leave no more, and the newest are what is shown', async () => {
  const world = new EngineWorld();
  for (let start = 0; start < 18; start++) {
    const { life, events } = await open(world);
    for (let i = 0; i < 950; i++) events.record(i === 0 ? 'first' : 'k', `${start}.${i}`);
    await world.clock.advance(1_000);
    await life.close();
  }
  const { events, page, life } = await open(world);
  assert.deepEqual([events.latest[0]?.message, events.latest.length], ['17.949', 20]);
  const all = await page(undefined, 20_000);
  assert.deepEqual([all.events.length, all.events[0]?.message, all.end], [EVENTS_KEPT, '17.949', true]);
  assert.equal((await page(undefined, 1, 'first')).events[0]?.message, '17.0');
  await life.close();
});

test('what an older coordinator has let gather is hidden by nothing and goes', async () => {
  const world = new EngineWorld();
  const before = await world.start();
  for (let from = 0; from < 30_000; from += 5_000)
    await before.execute(0, (tx) => {
      for (let i = from; i < from + 5_000; i++)
        tx.put(EVENTS, { time: undefined, kind: 'k', message: String(i), details: {} }, 1_000 + i);
    });
  await world.clock.advance(1_000);
  await before.close();
  const { events, page, life } = await open(world);
  assert.equal(events.latest[0]?.message, '29999');
  const { events: kept } = await page(undefined, 40_000);
  assert.deepEqual([kept.length, kept[0]?.message, kept.at(-1)?.message], [EVENTS_KEPT, '29999', '20000']);
  await life.close();
});
