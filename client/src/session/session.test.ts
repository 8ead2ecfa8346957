import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { PROMISE_LEASE_MS, SESSION_OPERATIONS_MAX } from '@collective/base/limits';
import { type Attributes, InodeType, PromiseKind } from '@collective/protocol/gen/session';
import { expectResult } from './operation-kinds.ts';
import {
  attachedBy,
  EMPTY,
  getAttributes,
  lockWaiting,
  removeXattr,
  ScriptedCoordinator,
} from './scripted-coordinator.ts';
import type { SessionEvent } from './session-options.ts';

function attributesOf(inode: number, changes: Partial<Attributes> = {}): Attributes {
  return {
    inode,
    realm: 1,
    type: InodeType.FILE,
    mode: 0o644,
    uid: 0,
    gid: 0,
    links: 1,
    size: 0,
    storedBytes: 0,
    mtime: undefined,
    ctime: undefined,
    birth: undefined,
    rdev: 0,
    version: 1,
    entries: 0,
    ...changes,
  };
}

function code(expected: string): (error: unknown) => boolean {
  return (error) => error instanceof CollectiveError && error.code === expected;
}

test('M1: operations of one turn leave in one message and are matched by their numbers, in any order of answers', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const calls = [11, 12, 13].map((inode) => session.call(getAttributes(inode)));
  await clock.until(() => coordinator.operations.length === 3);
  assert.equal(coordinator.messages.filter(({ $case }) => $case === 'operations').length, 1);
  assert.deepEqual(
    coordinator.operations.map(({ number }) => number),
    [1, 2, 3],
  );
  for (const operation of [...coordinator.operations].reverse()) {
    assert(operation.op?.$case === 'getAttributes');
    coordinator.reply(operation, { result: { $case: 'attributes', value: attributesOf(operation.op.value.inode) } });
  }
  const replies = await clock.finish(Promise.all(calls));
  assert.deepEqual(
    replies.map((reply) => expectResult(reply, 'attributes').inode),
    [11, 12, 13],
  );
  await clock.finish(session.close());
});

test('a failure is thrown as the error of its code', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  coordinator.answer = () => ({
    result: { $case: 'failure', value: { code: 'not_empty', message: 'Remove directory 4', details: {} } },
  });
  const session = await coordinator.session();
  await assert.rejects(clock.finish(session.call(removeXattr(4))), code('not_empty'));
  await clock.finish(session.close());
});

test('M5: after a broken stream the session attaches again and sends what has no answer under its old number, once', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const first = session.call(removeXattr(4));
  const second = session.call(removeXattr(5));
  await clock.until(() => coordinator.operations.length === 2);
  const [answered] = coordinator.operations;
  assert(answered !== undefined);
  coordinator.reply(answered, { position: 1 });
  await clock.finish(first);
  coordinator.cut();
  await clock.until(() => coordinator.operations.length === 3);
  assert.equal(coordinator.attaches.length, 2);
  assert.equal(coordinator.attaches[1]?.session, 7);
  assert.deepEqual(coordinator.attaches[1]?.clientId, coordinator.attaches[0]?.clientId);
  assert.deepEqual(coordinator.attaches[1]?.lastEpoch, { generation: 1000, start: 1 });
  assert.equal(coordinator.operations[2]?.number, 2);
  assert.equal(coordinator.operations[2]?.replay, undefined);
  const again = coordinator.operations[2];
  assert(again !== undefined);
  coordinator.reply(again, { position: 2 });
  await clock.finish(second);
  await clock.finish(session.close());
});

test('M4: what was answered and lost comes first, in log order, with what it drew; then Replayed; then what has no answer', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const calls = [1, 2, 3, 4].map((inode) => session.call(removeXattr(inode), { durability: 'written' }));
  await clock.until(() => coordinator.operations.length === 4);
  const drawnOf = (position: number) => ({ time: { seconds: position, nanos: 0 }, inodes: [position] });
  const positions = [12, 11, 10];
  for (const [index, position] of positions.entries()) {
    const operation = coordinator.operations[index];
    assert(operation !== undefined);
    coordinator.reply(operation, { position, drawn: drawnOf(position) });
  }
  await clock.finish(Promise.all(calls.slice(0, 3)));
  // The restart has lost all above position 10.
  coordinator.attached = attachedBy(2, { recoveredPosition: 10 });
  coordinator.messages.length = 0;
  coordinator.answer = ({ number }) => ({ position: 20 + number });
  coordinator.cut();
  await clock.finish(Promise.all(calls));
  const sent = coordinator.operations.slice(4);
  assert.deepEqual(
    sent.map(({ number, replay }) => [number, replay?.inodes]),
    [
      [2, [11]],
      [1, [12]],
      [4, undefined],
    ],
  );
  const order = coordinator.messages.map(({ $case }) => $case);
  assert.deepEqual(order, ['attach', 'operations', 'replayed', 'operations']);
  await clock.finish(session.close());
});

test('M4: answered changes are acknowledged only when stable, so that a replay of what was not lost finds its kept answer', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  coordinator.answer = ({ number }) => ({ position: number });
  const session = await coordinator.session();
  await clock.finish(session.call(removeXattr(1), { durability: 'written' }));
  await clock.finish(session.call(removeXattr(2), { durability: 'written' }));
  assert.deepEqual(coordinator.acknowledged, []);
  coordinator.stablePosition = 1;
  await clock.finish(session.call(removeXattr(3), { durability: 'written' }));
  await clock.finish(session.renew());
  assert.deepEqual(coordinator.acknowledged, [1]);
  coordinator.stablePosition = 3;
  await clock.finish(session.close());
});

test('M4: a replay that ends differently is told to the next sync of the inode, and as an event', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const events: SessionEvent[] = [];
  coordinator.answer = () => ({ position: 5 });
  const session = await coordinator.session({ onEvent: (event) => events.push(event) });
  await clock.finish(session.call(removeXattr(42), { durability: 'written' }));
  coordinator.attached = attachedBy(2, { recoveredPosition: 0 });
  coordinator.answer = () => ({
    result: { $case: 'failure', value: { code: 'no_attribute', message: 'Remove', details: {} } },
  });
  coordinator.cut();
  await clock.until(() => events.some(({ kind }) => kind === 'replay-differs'));
  await assert.rejects(clock.finish(session.call({ $case: 'sync', value: { inode: 42 } })), code('replay_differs'));
  await clock.finish(session.close());
});

test('M5: an abandoned operation is cancelled before the next operation; one that was not sent leaves no trace', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const abort = new AbortController();
  const waiting = session.call(lockWaiting(3), { signal: abort.signal, unlimited: true });
  await clock.until(() => coordinator.operations.length === 1);
  const late = new AbortController();
  const unsent = session.call(removeXattr(8), { signal: late.signal });
  late.abort(new Error('never mind'));
  abort.abort(new Error('enough'));
  const next = session.call(getAttributes(9));
  await assert.rejects(waiting, /enough/);
  await assert.rejects(unsent, /never mind/);
  await clock.until(() => coordinator.operations.length === 3);
  assert.deepEqual(coordinator.cases(), ['setLock', 'cancel', 'getAttributes']);
  const cancel = coordinator.operations[1];
  assert(cancel?.op?.$case === 'cancel');
  assert.equal(cancel.op.value.number, 1);
  for (const operation of coordinator.operations.slice(1))
    coordinator.reply(operation, {
      result: operation === cancel ? EMPTY : { $case: 'attributes', value: attributesOf(9) },
    });
  await clock.finish(next);
  await clock.finish(session.close());
});

test('M5: an abandoned operation is not sent again after a broken stream, its cancel is', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const abort = new AbortController();
  const call = session.call(removeXattr(3), { signal: abort.signal });
  await clock.until(() => coordinator.operations.length === 1);
  coordinator.cut();
  abort.abort(new Error('enough'));
  await assert.rejects(call, /enough/);
  await clock.until(() => coordinator.operations.length === 2);
  assert.deepEqual(coordinator.cases(), ['removeXattr', 'cancel']);
  await clock.finish(session.close());
});

test('a lost session: changes without an answer fail with session_lost, reads are asked again, new calls go on', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const change = session.call(removeXattr(3));
  const read = session.call(getAttributes(4));
  await clock.until(() => coordinator.operations.length === 2);
  coordinator.attached = attachedBy(2, { session: 8, resumed: false });
  coordinator.answer = (operation) =>
    operation.op?.$case === 'getAttributes'
      ? { result: { $case: 'attributes', value: attributesOf(4) } }
      : { position: 1 };
  coordinator.cut();
  await assert.rejects(clock.finish(change), code('session_lost'));
  assert.equal(expectResult(await clock.finish(read), 'attributes').inode, 4);
  assert.equal(session.generation, 1);
  assert.equal(session.attached.session, 8);
  coordinator.stablePosition = 1;
  await clock.finish(session.call(removeXattr(5)));
  await clock.finish(session.close());
});

test('a refusal with session_lost is followed by a new session', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  coordinator.refuse = 'session_lost';
  coordinator.attached = attachedBy(1, { session: 9, resumed: false });
  coordinator.cut();
  await clock.until(() => coordinator.attaches.length === 3);
  assert.equal(coordinator.attaches[1]?.session, 7);
  assert.equal(coordinator.attaches[2]?.session, 0);
  await clock.finish(session.close());
});

test('M5: a fenced session ends for good', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const call = session.call(removeXattr(1));
  await clock.until(() => coordinator.operations.length === 1);
  coordinator.send({ $case: 'refused', value: { failure: { code: 'fenced', message: 'Newer', details: {} } } });
  await assert.rejects(clock.finish(call), code('fenced'));
  await assert.rejects(session.call(removeXattr(1)), code('fenced'));
  assert.equal(session.state, 'closed');
  await clock.advance(60_000);
  assert.equal(coordinator.attaches.length, 1);
});

test('a coordinator of an older epoch is not believed', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  coordinator.attached = attachedBy(5);
  const session = await coordinator.session();
  coordinator.attached = attachedBy(4);
  coordinator.cut();
  await clock.until(() => coordinator.attaches.length === 3);
  assert.equal(session.state, 'detached');
  coordinator.attached = attachedBy(5);
  await clock.until(() => session.state === 'attached');
  await clock.finish(session.close());
});

test('the first attach is given up after its time, and at once when the identity is refused', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  coordinator.reachable = false;
  const startedMs = clock.bootMs();
  await assert.rejects(coordinator.session({ connectWithinMs: 3_000 }), code('unavailable'));
  assert.equal(clock.bootMs() - startedMs, 3_000);
  coordinator.reachable = true;
  coordinator.refuse = 'permission_denied';
  await assert.rejects(coordinator.session({ connectWithinMs: 3_000 }), code('permission_denied'));
  assert.ok(clock.bootMs() - startedMs < 3_100);
});

test('a call waits for a coordinator out of reach, and not for ever', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  coordinator.answer = () => ({ result: { $case: 'attributes', value: attributesOf(1) } });
  const session = await coordinator.session({ reconnectWithinMs: 8_000 });
  coordinator.reachable = false;
  coordinator.cut();
  const patient = session.call(getAttributes(1));
  await clock.advance(5_000);
  coordinator.reachable = true;
  await clock.finish(patient, { withinMs: 3_000 });
  coordinator.reachable = false;
  coordinator.cut();
  await clock.advance(100);
  await assert.rejects(clock.finish(session.call(getAttributes(1)), { withinMs: 10_000 }), code('unavailable'));
  await clock.finish(session.close());
});

test('who waits long for a coordinator out of reach gets its late answer, and one that never answers ends', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session({ reconnectWithinMs: 600_000 });
  const attributes: ReturnType<ScriptedCoordinator['answer']> = {
    result: { $case: 'attributes', value: attributesOf(1) },
  };
  coordinator.answer = () => attributes;
  coordinator.reachable = false;
  coordinator.cut();
  const patient = session.call(getAttributes(1));
  await clock.advance(500_000);
  coordinator.reachable = true;
  await clock.finish(patient, { withinMs: 60_000 });
  coordinator.answer = () => undefined;
  const unanswered = session.call(getAttributes(1));
  await assert.rejects(clock.finish(unanswered, { withinMs: 700_000 }), code('deadline_exceeded'));
  await clock.finish(session.close());
});

test('operations beyond the bound wait their turn', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const calls = Array.from({ length: SESSION_OPERATIONS_MAX + 100 }, (_, index) =>
    session.call(getAttributes(index + 1)),
  );
  await clock.advance(100);
  const inFlight = coordinator.operations.length;
  assert.ok(inFlight < SESSION_OPERATIONS_MAX, `${inFlight} were sent`);
  assert.equal(session.inFlight, inFlight);
  coordinator.answer = () => ({ result: { $case: 'attributes', value: attributesOf(1) } });
  for (const operation of coordinator.operations.slice(0, inFlight))
    coordinator.reply(operation, { result: { $case: 'attributes', value: attributesOf(1) } });
  await clock.finish(Promise.all(calls));
  assert.equal(coordinator.operations.length, calls.length);
  await clock.finish(session.close());
});

test('M6: the lease is renewed every third of it, and a stream on which nothing comes is given up', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  await clock.advance(60_000);
  const renewals = coordinator.messages.filter(({ $case }) => $case === 'renew').length;
  assert.ok(renewals >= 15 && renewals <= 25, `${renewals} renewals in a minute`);
  assert.equal(coordinator.attaches.length, 1);
  coordinator.renews = false;
  await clock.advance(20_000);
  assert.ok(coordinator.attaches.length >= 2);
  await clock.finish(session.close());
});

test('M6: a session whose coordinator vanished without a word is back before the gate of the next one opens', async () => {
  // Wherever in the time between two renewals it vanishes.
  for (let vanishesAfterMs = 0; vanishesAfterMs < PROMISE_LEASE_MS / 3; vanishesAfterMs += 250) {
    const clock = new FakeClock();
    const coordinator = new ScriptedCoordinator(clock);
    const session = await coordinator.session();
    await clock.advance(20_000 + vanishesAfterMs);
    coordinator.renews = false;
    const vanishedMs = clock.elapsedMs;
    await clock.until(() => coordinator.attaches.length === 2, { withinMs: PROMISE_LEASE_MS * 2 });
    const tookMs = clock.elapsedMs - vanishedMs;
    assert.ok(tookMs < PROMISE_LEASE_MS - 500, `${tookMs} ms, vanished ${vanishesAfterMs} ms after`);
    coordinator.renews = true;
    await clock.finish(session.close());
  }
});

test('M7: what is cached answers without the coordinator until it is recalled; the recall is acknowledged after the hook', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const held = Promise.withResolvers<{ open: boolean }>();
  const asked: number[] = [];
  const session = await coordinator.session({
    caches: true,
    onRecall: ({ inode }) => {
      asked.push(inode);
      return held.promise;
    },
  });
  coordinator.answer = () => ({
    result: { $case: 'attributes', value: attributesOf(5) },
    promises: [{ inode: 5, kinds: PromiseKind.PROMISE_ATTRIBUTES, sequence: 3 }],
  });
  await clock.finish(session.call(getAttributes(5)));
  await clock.finish(session.call(getAttributes(5)));
  assert.equal(coordinator.operations.length, 1);
  coordinator.send({
    $case: 'recall',
    value: { sequence: 4, inode: 5, kinds: PromiseKind.PROMISE_ATTRIBUTES, names: [] },
  });
  await clock.until(() => asked.length === 1);
  assert.ok(!coordinator.messages.some(({ $case }) => $case === 'recallDone'));
  await clock.finish(session.call(getAttributes(5)));
  assert.equal(coordinator.operations.length, 2);
  held.resolve({ open: true });
  await clock.until(() => coordinator.messages.some(({ $case }) => $case === 'recallDone'));
  const done = coordinator.messages.find(({ $case }) => $case === 'recallDone');
  assert.deepEqual(done?.value, { sequence: 4, open: true, blockedBy: [] });
  await clock.finish(session.close());
});

test('M6: what is cached is not used when the promise lease has ended without a renewal', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session({ caches: true });
  coordinator.answer = () => ({
    result: { $case: 'attributes', value: attributesOf(5) },
    promises: [{ inode: 5, kinds: PromiseKind.PROMISE_ATTRIBUTES, sequence: 3 }],
  });
  await clock.finish(session.call(getAttributes(5)));
  coordinator.reachable = false;
  coordinator.cut();
  await clock.advance(6_000);
  await clock.finish(session.call(getAttributes(5)), { withinMs: 1 });
  await clock.advance(6_000);
  coordinator.reachable = true;
  const before = coordinator.operations.length;
  await clock.finish(session.call(getAttributes(5)));
  assert.equal(coordinator.operations.length, before + 1);
  assert.deepEqual(coordinator.attaches.at(-1)?.held, []);
  await clock.finish(session.close());
});

test('closing waits until answered changes are stable, then detaches', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  coordinator.answer = () => ({ position: 9 });
  const session = await coordinator.session();
  await clock.finish(session.call(removeXattr(1), { durability: 'written' }));
  const closing = session.close();
  await clock.advance(200);
  assert.ok(!coordinator.messages.some(({ $case }) => $case === 'detach'));
  coordinator.stablePosition = 9;
  await clock.finish(closing);
  assert.equal(coordinator.messages.at(-1)?.$case, 'detach');
  await assert.rejects(session.call(getAttributes(1)), code('interrupted'));
});

test('M9: realms that changed are known from the next renewal on', async () => {
  const clock = new FakeClock();
  const coordinator = new ScriptedCoordinator(clock);
  const session = await coordinator.session();
  const [root] = session.attached.realms;
  assert.ok(root !== undefined);
  const added = { ...root, realm: 2, root: 7, path: '/new', compression: false };
  coordinator.realmsChanged = () => ({ realms: [root, added] });
  await clock.finish(session.renew());
  assert.deepEqual(session.attached.realms, [root, added]);
  coordinator.realmsChanged = () => undefined;
  await clock.finish(session.renew());
  assert.deepEqual(session.attached.realms, [root, added]);
});
