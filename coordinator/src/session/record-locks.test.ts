import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Lock, LockFamily, LockType, type Reply } from '@collective/protocol/gen/session';
import fc from 'fast-check';
import { code, type Op, ROOT, resultOf } from './scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from './session-harness.ts';

const END = Number.MAX_SAFE_INTEGER;
const { LOCK_READ, LOCK_UNLOCK, LOCK_WRITE } = LockType;
const { LOCK_BSD, LOCK_POSIX } = LockFamily;

function lockOf(type: LockType, start: number, end: number, more: Partial<Lock> = {}): Lock {
  return { family: LOCK_POSIX, type, owner: 1, start, end, pid: 100, ...more };
}

function setOp(inode: number, lock: Lock, wait = false): Op {
  return { $case: 'setLock', value: { inode, lock, wait } };
}

const set = (client: ScriptedClient, inode: number, lock: Lock, wait = false): Promise<{ fence: number }> =>
  client.call(setOp(inode, lock, wait), 'lock');

async function conflict(client: ScriptedClient, inode: number, lock: Lock): Promise<Lock | undefined> {
  return (await client.call({ $case: 'getLock', value: { inode, lock } }, 'lock')).conflict;
}

async function start(): Promise<{
  world: SessionWorld;
  one: ScriptedClient;
  two: ScriptedClient;
  inode: number;
  [Symbol.asyncDispose](): Promise<void>;
}> {
  const world = await SessionWorld.start();
  const one = await world.client();
  const two = await world.client();
  const { inode } = await one.make(ROOT, 'f');
  return { world, one, two, inode, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

async function isAnswered(world: SessionWorld, reply: Promise<Reply>, withinMs: number): Promise<boolean> {
  let answered = false;
  void reply.then(() => {
    answered = true;
  });
  await world.clock.advance(withinMs);
  return answered;
}

test('M8: POSIX locks of many owners are those of a model that keeps one lock a byte', async () => {
  const step = fc.record({
    client: fc.nat(1),
    owner: fc.integer({ min: 1, max: 2 }),
    type: fc.constantFrom(LOCK_READ, LOCK_WRITE, LOCK_UNLOCK),
    start: fc.nat(11),
    length: fc.integer({ min: 1, max: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      await using parts = await start();
      const clients = [parts.one, parts.two];
      const bytes: Map<string, LockType>[] = Array.from({ length: 24 }, () => new Map());
      for (const { client, owner, type, start: from, length } of steps) {
        const who = `${client}:${owner}`;
        const range = bytes.slice(from, from + length);
        const free =
          type === LOCK_UNLOCK ||
          range.every((held) =>
            [...held].every(([other, kind]) => other === who || (kind === LOCK_READ && type === LOCK_READ)),
          );
        const reply = await (clients[client] as ScriptedClient).reply(
          setOp(parts.inode, lockOf(type, from, from + length - 1, { owner })),
        );
        assert.equal(reply.result?.$case === 'lock', free, JSON.stringify({ client, owner, type, from, length }));
        if (!free) continue;
        for (const held of range) {
          if (type === LOCK_UNLOCK) held.delete(who);
          else held.set(who, type);
        }
      }
      // What is held now, byte for byte, as an owner of no lock sees it.
      for (const [at, held] of bytes.entries()) {
        const seen = await conflict(parts.one, parts.inode, lockOf(LOCK_WRITE, at, at, { owner: 99 }));
        assert.equal(seen !== undefined, held.size > 0, `byte ${at}`);
        const seenByReader = await conflict(parts.one, parts.inode, lockOf(LOCK_READ, at, at, { owner: 99 }));
        assert.equal(seenByReader !== undefined, [...held.values()].includes(LOCK_WRITE), `byte ${at}, reading`);
      }
    }),
    { numRuns: 25, seed: 20260101 },
  );
});

test('M8: to the end of file means all bytes, and a neighbour joins without overflow', async () => {
  await using parts = await start();
  const { one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_WRITE, 100, END));
  await set(one, inode, lockOf(LOCK_WRITE, 0, 99));
  const found = await conflict(two, inode, lockOf(LOCK_READ, 5_000_000, 5_000_000));
  assert.deepEqual({ start: found?.start, end: found?.end, pid: found?.pid }, { start: 0, end: END, pid: 100 });
  await set(one, inode, lockOf(LOCK_UNLOCK, 10, END));
  assert.equal(await conflict(two, inode, lockOf(LOCK_WRITE, 10, END)), undefined);
  assert.equal((await conflict(two, inode, lockOf(LOCK_WRITE, 0, END)))?.end, 9);
});

test('M8: BSD locks cover the file, do not see POSIX locks, and turn from shared to exclusive', async () => {
  await using parts = await start();
  const { one, two, inode } = parts;
  const bsd = (type: LockType): Lock => lockOf(type, 5, 6, { family: LOCK_BSD });
  await set(one, inode, lockOf(LOCK_WRITE, 0, END));
  await set(two, inode, bsd(LOCK_READ));
  await set(one, inode, bsd(LOCK_READ));
  await assert.rejects(set(one, inode, bsd(LOCK_WRITE)), code('would_block'));
  await set(two, inode, bsd(LOCK_UNLOCK));
  await set(one, inode, bsd(LOCK_WRITE));
  const seen = await conflict(two, inode, lockOf(LOCK_READ, 77, 78, { family: LOCK_BSD }));
  assert.deepEqual(
    { family: seen?.family, start: seen?.start, end: seen?.end },
    { family: LOCK_BSD, start: 0, end: END },
  );
});

test('M8: who asks for a lock is told whether its holder has a connection', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  const ask = async (): Promise<boolean> =>
    (await two.call({ $case: 'getLock', value: { inode, lock: lockOf(LOCK_WRITE, 5, 5) } }, 'lock')).holderAway;
  assert.equal(await ask(), false);
  one.breakLink();
  await world.clock.advance(100);
  assert.equal(await ask(), true);
  await assert.rejects(set(two, inode, lockOf(LOCK_WRITE, 5, 5)), code('would_block'));
});

test('M8: each grant draws a higher fence', async () => {
  await using parts = await start();
  const { one, two, inode } = parts;
  const first = await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  await set(one, inode, lockOf(LOCK_UNLOCK, 0, 9));
  const second = await set(two, inode, lockOf(LOCK_WRITE, 0, 9));
  assert.ok(second.fence > first.fence);
});

test('M8: a waiter is woken by the unlock, and only when its own range is free', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  await set(one, inode, lockOf(LOCK_WRITE, 20, 29));
  const waiting = two.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
  assert.equal(await isAnswered(world, waiting, 100), false);
  await set(one, inode, lockOf(LOCK_UNLOCK, 20, 29));
  assert.equal(await isAnswered(world, waiting, 100), false);
  await set(one, inode, lockOf(LOCK_UNLOCK, 0, 9));
  resultOf(await world.finish(waiting), 'lock');
  await assert.rejects(set(one, inode, lockOf(LOCK_READ, 0, 0)), code('would_block'));
});

test('M8: an unlock in the same turn as the look of a waiter is not missed', async () => {
  // With hardly any cache each look at the locks is a trip to the store, between whose steps the other one runs.
  await using world = await SessionWorld.start({ core: { cacheEntriesMax: 2 } });
  const one = await world.client();
  const two = await world.client();
  const { inode } = await one.make(ROOT, 'f');
  for (let i = 0; i < 30; i++) {
    await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
    await world.clock.advance(200);
    const waiting = two.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
    const unlocked = one.send(setOp(inode, lockOf(LOCK_UNLOCK, 0, 9)));
    await world.finish(Promise.all([waiting, unlocked]), 5_000);
    await set(two, inode, lockOf(LOCK_UNLOCK, 0, 9));
    await world.clock.advance(200);
  }
});

test('M8: EDEADLK for the one that would close a circle, over two and three owners', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  const three = await world.client();
  const clients = [one, two, three];
  for (const [i, client] of clients.entries()) await set(client, inode, lockOf(LOCK_WRITE, i, i));
  const waits = [
    one.send(setOp(inode, lockOf(LOCK_WRITE, 1, 1), true)),
    two.send(setOp(inode, lockOf(LOCK_WRITE, 2, 2), true)),
  ];
  await world.clock.advance(50);
  await assert.rejects(set(three, inode, lockOf(LOCK_WRITE, 0, 0), true), code('deadlock'));
  // The refused one gives way, and the others come through.
  await set(three, inode, lockOf(LOCK_UNLOCK, 0, END));
  resultOf(await world.finish(waits[1] as Promise<Reply>), 'lock');
  await set(two, inode, lockOf(LOCK_UNLOCK, 0, END));
  resultOf(await world.finish(waits[0] as Promise<Reply>), 'lock');
});

test('M8: two readers that both want to write deadlock, and the second is told so', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_READ, 0, 9));
  await set(two, inode, lockOf(LOCK_READ, 0, 9));
  const waiting = one.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
  await world.clock.advance(50);
  await assert.rejects(set(two, inode, lockOf(LOCK_WRITE, 0, 9), true), code('deadlock'));
  await set(two, inode, lockOf(LOCK_UNLOCK, 0, 9));
  resultOf(await world.finish(waiting), 'lock');
});

test('M8: the end of a session frees its locks and wakes who waits for them', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  const waiting = two.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
  await world.clock.advance(50);
  await one.detach();
  resultOf(await world.finish(waiting), 'lock');
});

test('M8: locks outlive a restart, a lost stream, and end 90 s after the last sign of life', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  await world.restart('kill');
  await two.attach();
  two.replayed();
  await assert.rejects(set(two, inode, lockOf(LOCK_WRITE, 0, 9)), code('would_block'));
  const waiting = two.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
  for (let at = 0; at < 80; at += 20) {
    await world.clock.advance(20_000);
    await two.renew();
  }
  assert.equal(await isAnswered(world, waiting, 1), false);
  assert.equal(await isAnswered(world, waiting, 12_000), true);
});

test('M8: a waiter whose session ends is gone: the lock goes to the next', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  const three = await world.client();
  await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  void two.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
  await world.clock.advance(20);
  const next = three.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
  await world.clock.advance(20);
  await two.detach();
  await set(one, inode, lockOf(LOCK_UNLOCK, 0, 9));
  resultOf(await world.finish(next), 'lock');
});

test('M5, M8: a waiting lock sent again over a new stream is granted once', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  const number = two.draw();
  const op = setOp(inode, lockOf(LOCK_WRITE, 0, 9), true);
  void two.send(op, { number });
  await world.clock.advance(20);
  two.breakLink();
  await two.attach();
  two.replayed();
  const again = two.send(op, { number });
  await world.clock.advance(20);
  await set(one, inode, lockOf(LOCK_UNLOCK, 0, 9));
  const first = resultOf(await world.finish(again), 'lock');
  assert.deepEqual(resultOf(await two.reply(op, { number }), 'lock'), first);
});

test('M8: a waiter does not wait for a file that is gone', async () => {
  await using parts = await start();
  const { world, one, two, inode } = parts;
  await set(one, inode, lockOf(LOCK_WRITE, 0, 9));
  const waiting = two.send(setOp(inode, lockOf(LOCK_WRITE, 0, 9), true));
  await world.clock.advance(20);
  await one.unlink(ROOT, 'f');
  const reply = await world.finish(waiting, 5_000);
  assert.throws(() => resultOf(reply, 'lock'), code('stale'));
});

test('bad locks are refused: no description, unknown family or type, an end before the start', async () => {
  await using parts = await start();
  const { one, inode } = parts;
  await assert.rejects(
    one.call({ $case: 'setLock', value: { inode, lock: undefined, wait: false } }, 'lock'),
    code('invalid_argument'),
  );
  await assert.rejects(set(one, inode, lockOf(LOCK_WRITE, 9, 8)), code('invalid_argument'));
  await assert.rejects(set(one, inode, lockOf(7 as LockType, 0, 8)), code('invalid_argument'));
  await assert.rejects(
    set(one, inode, lockOf(LOCK_WRITE, 0, 8, { family: 7 as LockFamily })),
    code('invalid_argument'),
  );
});

test('a file has a bound of locks, and none is lost when it is reached', async () => {
  await using parts = await start();
  const { world, one, inode } = parts;
  const ops = Array.from({ length: 1_000 }, (_, i) => ({ op: setOp(inode, lockOf(LOCK_WRITE, i * 2, i * 2)) }));
  for (const reply of await world.finish(Promise.all(one.sendAll(ops)))) resultOf(reply, 'lock');
  await assert.rejects(set(one, inode, lockOf(LOCK_WRITE, 9_000, 9_000)), code('no_locks'));
  await set(one, inode, lockOf(LOCK_UNLOCK, 0, 0));
  await set(one, inode, lockOf(LOCK_WRITE, 9_000, 9_000));
});
