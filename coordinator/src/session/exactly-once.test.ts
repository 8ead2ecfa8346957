import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Durability, LockFamily, LockType } from '@collective/protocol/gen/session';
import { prefixEnd } from '../tables/table.ts';
import { ANSWERS, SESSIONS } from '../tables/tables.ts';
import { code, makeOp, mkdirOp, ROOT, renameOp, resultOf, unlinkOp } from './scripted-operations.ts';
import { SessionWorld, subjectUri } from './session-harness.ts';

const rows = (world: SessionWorld, prefix: string): Promise<number> =>
  world.finish(world.core.engine.run((tx) => tx.scan(ANSWERS, prefix, prefixEnd(prefix), 10_000).length));

test('M5: a resent mkdir is answered as the first time, never EEXIST', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const number = client.draw();
  const first = await client.reply(mkdirOp(ROOT, 'd'), { number });
  const again = await client.reply(mkdirOp(ROOT, 'd'), { number });
  assert.equal(first.result?.$case, 'attributes');
  assert.deepEqual(again.result, first.result);
  assert.deepEqual(again.drawn, first.drawn);
});

test('M5: the same change under another step or number is another request', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const number = client.draw();
  await client.reply(mkdirOp(ROOT, 'd'), { number });
  const other = await client.reply(mkdirOp(ROOT, 'd'), { number, step: 1 });
  assert.throws(() => resultOf(other, 'attributes'), code('exists'));
});

for (const how of ['kill', 'orderly', 'power-loss'] as const)
  test(`M5: kept answers outlive a restart (${how}): mkdir, unlink and rename are answered as before`, async () => {
    await using world = await SessionWorld.start({ seed: 11 });
    const client = await world.client();
    await client.make(ROOT, 'a');
    await client.make(ROOT, 'b');
    const changes = [mkdirOp(ROOT, 'd'), unlinkOp(ROOT, 'a'), renameOp(ROOT, 'b', ROOT, 'c')].map((op) => ({
      op,
      number: client.draw(),
    }));
    const before = [];
    for (const { op, number } of changes)
      before.push(await client.reply(op, { number, durability: Durability.STABLE }));
    await world.restart(how);
    const attached = await client.attach();
    assert.equal(attached.resumed, true);
    client.replayed();
    for (const [i, { op, number }] of changes.entries())
      assert.deepEqual((await client.reply(op, { number })).result, before[i]?.result);
    assert.deepEqual(await client.names(ROOT), ['d', 'c']);
  });

test('M5: what was acknowledged is forgotten, in memory and in the store', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const numbers: number[] = [];
  for (let i = 0; i < 5; i++) {
    await client.mkdir(ROOT, `d${i}`);
    numbers.push(client.lastNumber);
  }
  assert.equal(await rows(world, ANSWERS.prefix), 5);
  await client.renew(numbers.slice(0, 4));
  await world.clock.advance(100);
  assert.equal(await rows(world, ANSWERS.prefix), 1);
  // With the next change instead of a renewal.
  await world.finish(client.sendAll([{ op: mkdirOp(ROOT, 'x') }], [numbers[4] ?? 0])[0] as Promise<unknown>);
  assert.equal(await rows(world, ANSWERS.prefix), 1);
});

test('M5: ten thousand acknowledgements at once do not stand in the way of the next change', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const numbers: number[] = [];
  for (let round = 0; round < 10; round++) {
    const sent = client.sendAll(Array.from({ length: 500 }, (_, i) => ({ op: mkdirOp(ROOT, `${round}-${i}`) })));
    numbers.push(...(await world.finish(Promise.all(sent))).map(({ number }) => number));
  }
  const [reply] = await world.finish(Promise.all(client.sendAll([{ op: mkdirOp(ROOT, 'last') }], numbers)));
  assert.equal(reply?.result?.$case, 'attributes');
  await client.renew();
  await world.clock.advance(1_000);
  assert.equal(await rows(world, ANSWERS.prefix), 1);
});

test('M5: a newer stream fences the older one, and the session goes on with the next incarnation', async () => {
  await using world = await SessionWorld.start();
  const first = await world.client();
  const taker = await world.client({ clientId: first.clientId });
  const before = first.attached;
  taker.attached = before;
  const attached = await taker.attach();
  assert.equal(attached.session, before?.session);
  assert.equal(attached.incarnation, (before?.incarnation ?? 0) + 1);
  await world.clock.until(() => first.ended, { withinMs: 1_000 });
  assert.equal(first.refused, 'fenced');
  await taker.mkdir(ROOT, 'd');
});

test('M5: a session is not taken up by another client, nor by another user', async () => {
  await using world = await SessionWorld.start();
  await world.subject('bob');
  const first = await world.client();
  const thief = await world.client();
  thief.attached = first.attached;
  await assert.rejects(thief.attach(), code('permission_denied'));
  const bob = await world.client({ user: 'bob', clientId: first.clientId });
  bob.attached = first.attached;
  await assert.rejects(bob.attach(), code('permission_denied'));
  await assert.rejects(
    (await world.client()).attach({ session: 0, clientId: Buffer.alloc(15) }),
    code('invalid_argument'),
  );
});

test('M5: a change under way when its stream breaks is answered once on the next stream', async () => {
  await using world = await SessionWorld.start({ syncMs: 20 });
  const client = await world.client();
  const number = client.draw();
  const answered = client.send(mkdirOp(ROOT, 'd'), { number, durability: Durability.STABLE });
  await world.clock.advance(2);
  client.breakLink();
  await client.attach();
  client.replayed();
  void client.send(mkdirOp(ROOT, 'd'), { number, durability: Durability.STABLE });
  resultOf(await world.finish(answered), 'attributes');
  await world.clock.advance(1_000);
  const replies = client.arrivals.filter((arrival) => arrival.at === 'reply' && arrival.reply.number === number);
  assert.ok(replies.length >= 1);
  assert.deepEqual(await client.names(ROOT), ['d']);
});

test('M5: two streams that attach the same session at once leave one of them, and a session that works', async () => {
  await using world = await SessionWorld.start({ syncMs: 5 });
  const one = await world.client();
  const two = await world.client({ clientId: one.clientId });
  two.attached = one.attached;
  one.breakLink();
  const outcomes = await world.finish(Promise.allSettled([one.beginAttach(), two.beginAttach()]));
  assert.ok(outcomes.some(({ status }) => status === 'fulfilled'));
  await world.clock.advance(100);
  const alive = [one, two].filter(({ ended }) => !ended);
  assert.equal(alive.length, 1);
  await alive[0]?.mkdir(ROOT, 'd');
});

test('M5: a request that its client gave up is cancelled before the next operation; one that has run is not', async () => {
  await using world = await SessionWorld.start();
  const holder = await world.client();
  const client = await world.client();
  const { inode } = await holder.make(ROOT, 'f');
  const lock = (wait: boolean): Parameters<typeof client.send>[0] => ({
    $case: 'setLock',
    value: {
      inode,
      wait,
      lock: { family: LockFamily.LOCK_POSIX, type: LockType.LOCK_WRITE, owner: 1, start: 0, end: 9, pid: 1 },
    },
  });
  await holder.call(lock(false), 'lock');
  const number = client.draw();
  const waiting = client.send(lock(true), { number });
  await world.clock.advance(50);
  await client.call({ $case: 'cancel', value: { number, step: 0 } }, 'empty');
  const reply = await world.finish(waiting);
  assert.throws(() => resultOf(reply, 'lock'), code('interrupted'));
  await holder.call(
    {
      ...lock(false),
      value: {
        inode,
        wait: false,
        lock: { family: 0, type: LockType.LOCK_UNLOCK, owner: 1, start: 0, end: 9, pid: 1 },
      },
    } as never,
    'lock',
  );
  await world.clock.advance(50);
  const state = await holder.call(
    {
      $case: 'getLock',
      value: { inode, lock: { family: 0, type: LockType.LOCK_WRITE, owner: 3, start: 0, end: 9, pid: 1 } },
    },
    'lock',
  );
  assert.equal(state.conflict, undefined);

  const done = client.draw();
  const made = await client.reply(mkdirOp(ROOT, 'd'), { number: done });
  await client.call({ $case: 'cancel', value: { number: done, step: 0 } }, 'empty');
  assert.deepEqual((await client.reply(mkdirOp(ROOT, 'd'), { number: done })).result, made.result);
});

test('M5: a change resent to a session that is gone is not taken for one that was answered', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  await client.mkdir(ROOT, 'd');
  client.breakLink();
  await world.clock.advance(95_000);
  const attached = await client.attach();
  assert.equal(attached.resumed, false);
});

test('M5: a client that acknowledges nothing may keep only so many answers', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f');
  const touch = { $case: 'setAttributes', value: { inode, mtimeNow: true, clearSetId: false } } as never;
  let refused = 0;
  for (let sent = 0; sent < 36_000 && refused === 0; sent += 1_000) {
    const replies = await world.finish(
      Promise.all(client.sendAll(Array.from({ length: 1_000 }, () => ({ op: touch })))),
    );
    refused += replies.filter(({ result }) => result?.$case === 'failure' && result.value.code === 'overloaded').length;
  }
  assert.ok(refused > 0);
  // Reading goes on.
  await client.stat(inode);
});

test('M5: more operations than may wait are refused, and none of the others suffers', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const replies = await world.finish(
    Promise.all(client.sendAll(Array.from({ length: 1_500 }, (_, i) => ({ op: mkdirOp(ROOT, `d${i}`) })))),
  );
  const made = replies.filter(({ result }) => result?.$case === 'attributes').length;
  const refused = replies.filter(
    ({ result }) => result?.$case === 'failure' && result.value.code === 'overloaded',
  ).length;
  assert.equal(made + refused, 1_500);
  assert.ok(made >= 1_024, `${made} made`);
  assert.equal((await client.stat(ROOT)).entries, made);
});

test('M6: detach ends a session at once: its row, its answers and its promises are gone', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true });
  await client.mkdir(ROOT, 'd');
  await client.lookup(ROOT, 'd');
  assert.ok(world.core.figures.promises > 0);
  await client.detach();
  assert.equal(world.core.figures.sessions, 0);
  assert.equal(world.core.figures.promises, 0);
  assert.equal(await rows(world, ANSWERS.prefix), 0);
  assert.equal(
    await world.finish(
      world.core.engine.run((tx) => tx.scan(SESSIONS, SESSIONS.prefix, prefixEnd(SESSIONS.prefix), 10).length),
    ),
    0,
  );
});

test('M6: a session without renewal ends after 90 s, also while its stream stands, and runs nothing more', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const other = await world.client();
  await world.clock.advance(60_000);
  await client.renew();
  await other.renew();
  await world.clock.advance(80_000);
  await other.renew();
  assert.equal(client.ended, false);
  await world.clock.advance(12_000);
  assert.equal(client.refused, 'session_lost');
  assert.equal(world.core.figures.sessions, 1);
});

test('M6: a recorded session that does not come back within 90 s of a restart is gone', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true });
  await client.mkdir(ROOT, 'd');
  await world.restart('kill');
  await world.clock.advance(92_000);
  assert.equal((await client.attach()).resumed, false);
});

test('the first message must be an attach, and it must come in time', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  client.open();
  client.say({ $case: 'renew', value: { acknowledged: [], bundleHash: '', number: 1 } });
  await world.clock.until(() => client.ended, { withinMs: 1_000 });
  assert.equal(client.refused, 'invalid_argument');
  client.open();
  await world.clock.advance(31_000);
  assert.equal(client.refused, 'deadline_exceeded');
  await assert.rejects(client.attach({ wireVersion: 99 }), code('version_too_new'));
  const stranger = await world.client();
  world.serve(stranger.link.right, subjectUri('nobody'));
});

test('an identity that the member does not know is refused', async () => {
  await using world = await SessionWorld.start();
  await assert.rejects(world.client({ user: 'mallory' }), code('permission_denied'));
});

test('T3a: a trusted session that comes back after a restart without naming a credential is not root by that', async () => {
  await using world = await SessionWorld.start();
  await world.subject('carol', { uid: 1000, gid: 1000 });
  const root = await world.client();
  await root.set(ROOT, { mode: 0o777 });
  const carol = await world.client({ user: 'carol' });
  assert.equal((await carol.make(ROOT, 'before')).uid, 1000);
  await world.restart('kill');
  await carol.attach();
  carol.replayed();
  assert.equal((await carol.make(ROOT, 'after')).uid, 1000);
});

test('closing the coordinator gives up what waits, answers nothing wrong and fails nothing', async () => {
  await using world = await SessionWorld.start();
  const holder = await world.client({ caches: true, onRecall: () => undefined });
  const { inode } = await holder.make(ROOT, 'f');
  await holder.call({ $case: 'wantWrite', value: { inode } }, 'attributes');
  const client = await world.client();
  void client.send({ $case: 'getAttributes', value: { inode, opens: false } });
  void client.send(makeOp(ROOT, 'g'));
  await world.clock.advance(5);
  await world.finish(world.core.close(), 5_000);
  await world.clock.advance(30_000);
  assert.deepEqual(world.fatals, []);
});
