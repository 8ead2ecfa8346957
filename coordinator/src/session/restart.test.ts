import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Durability, InodeType, type Reply } from '@collective/protocol/gen/session';
import { ATTRIBUTES, ENTRIES, OPEN, WRITE } from '../ops/context.ts';
import { code, makeOp, mkdirOp, type Op, ROOT, resultOf, setOp, unlinkOp } from './scripted-operations.ts';
import { SessionWorld } from './session-harness.ts';

async function isAnswered(world: SessionWorld, reply: Promise<Reply>, withinMs: number): Promise<boolean> {
  let answered = false;
  void reply.then(() => {
    answered = true;
  });
  await world.clock.advance(withinMs);
  return answered;
}

test('M4: a change is answered when it is written, and a stable one only when the log was synced', async () => {
  await using world = await SessionWorld.start({ syncMs: 30, writeMs: 1 });
  const client = await world.client();
  await world.clock.advance(200);
  const written = client.send(mkdirOp(ROOT, 'a'));
  assert.equal(await isAnswered(world, written, 5), true);
  await world.clock.advance(200);
  const stable = client.send(mkdirOp(ROOT, 'b'), { durability: Durability.STABLE });
  assert.equal(await isAnswered(world, stable, 25), false);
  assert.equal(await isAnswered(world, stable, 100), true);
});

for (const { name, op } of [
  { name: 'a lookup that finds it', op: { $case: 'lookup', value: { parent: ROOT, name: Buffer.from('d') } } as const },
  { name: 'a mkdir that is refused because of it', op: mkdirOp(ROOT, 'd') },
  { name: 'a change beside it in the same directory', op: mkdirOp(ROOT, 'e') },
  {
    name: 'a listing',
    op: { $case: 'readDirectory', value: { inode: ROOT, after: 0, limit: 10, withAttributes: false } } as const,
  },
])
  test(`M4: what rests on another session's change waits until that is stable: ${name}`, async () => {
    await using world = await SessionWorld.start({ syncMs: 30, writeMs: 1 });
    const one = await world.client();
    const two = await world.client();
    await world.clock.advance(200);
    const made = one.send(mkdirOp(ROOT, 'd'));
    assert.equal(await isAnswered(world, made, 5), true);
    const other = two.send(op);
    assert.equal(await isAnswered(world, other, 10), false);
    assert.equal(await isAnswered(world, other, 100), true);
  });

test('M4: a refusal that rests on an absence waits for the unlink that made it', async () => {
  await using world = await SessionWorld.start({ syncMs: 30, writeMs: 1 });
  const one = await world.client();
  const two = await world.client();
  await one.make(ROOT, 'f');
  await world.clock.advance(200);
  await one.unlink(ROOT, 'f');
  const looked = two.send({ $case: 'lookup', value: { parent: ROOT, name: Buffer.from('f') } });
  assert.equal(await isAnswered(world, looked, 10), false);
  const resolved = await world.finish(looked);
  assert.throws(() => resultOf(resolved, 'attributes'), code('not_found'));
});

test("M4: a session's own changes are answered without waiting for each other's sync", async () => {
  await using world = await SessionWorld.start({ syncMs: 30, writeMs: 1 });
  const client = await world.client();
  await world.clock.advance(200);
  const startedMs = world.clock.elapsedMs;
  for (let i = 0; i < 5; i++) await client.mkdir(ROOT, `d${i}`);
  assert.ok(world.clock.elapsedMs - startedMs < 20, `${world.clock.elapsedMs - startedMs} ms`);
});

test('M4: after power loss a client sends again what is lost, and gets the same inodes and times', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const world = await SessionWorld.start({ seed, syncMs: 40, writeMs: 0.1 });
    const client = await world.client();
    await world.clock.advance(300);
    const changes = ['a', 'b', 'c'].map((name) => ({
      op: name === 'b' ? makeOp(ROOT, name) : mkdirOp(ROOT, name),
      number: client.draw(),
    }));
    const before: Reply[] = [];
    for (const { op, number } of changes) before.push(await client.reply(op, { number }));
    await world.restart('power-loss');
    const attached = await client.attach();
    assert.equal(attached.resumed, true);
    const again = client.sendAll(
      changes.flatMap(({ op, number }, i) =>
        (before[i]?.position ?? 0) > attached.recoveredPosition ? [{ op, number, replay: before[i]?.drawn }] : [],
      ),
    );
    lost += again.length;
    client.replayed();
    const replies = await world.finish(Promise.all(again));
    for (const reply of replies)
      assert.deepEqual(reply.result, before.find(({ number }) => number === reply.number)?.result);
    assert.deepEqual(await client.names(ROOT), ['a', 'b', 'c']);
    // Numbers go on above all that were given (M2a).
    assert.ok(
      (await client.mkdir(ROOT, 'd')).inode > Math.max(...before.map((reply) => resultOf(reply, 'attributes').inode)),
    );
    await world[Symbol.asyncDispose]();
  }
  assert.ok(lost > 0, 'some seed loses something');
});

test('M4: what a session sends behind the changes that it makes again finds them made', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 8; seed++) {
    await using world = await SessionWorld.start({ seed, syncMs: 40, writeMs: 0.1, storeMs: 3 });
    const client = await world.client();
    await world.clock.advance(300);
    const number = client.draw();
    const made = await client.reply(makeOp(ROOT, 'f'), { number });
    const { inode } = resultOf(made, 'attributes');
    await world.restart('power-loss');
    const attached = await client.attach();
    if (made.position <= attached.recoveredPosition) continue;
    lost++;
    // All that this one needs could be there before what the file's parent needs has been fetched.
    const again = client.sendAll([{ op: makeOp(ROOT, 'f'), number, replay: made.drawn }]);
    client.replayed();
    const looked = client.send({ $case: 'getAttributes', value: { inode, opens: false } });
    assert.equal(resultOf(await world.finish(looked), 'attributes').inode, inode);
    await world.finish(Promise.all(again));
  }
  assert.ok(lost > 0, 'some seed loses the file');
});

test('M4: changes are made again one after the other, whatever each has to wait for', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 8; seed++) {
    await using world = await SessionWorld.start({ seed, syncMs: 40, writeMs: 0.1, storeMs: 3 });
    const client = await world.client();
    const { inode: directory } = await client.mkdir(ROOT, 'd', 0o755, { durability: Durability.STABLE });
    await world.clock.advance(300);
    const changes: { op: Op; number: number; reply: Reply }[] = [];
    const change = async (op: Op): Promise<Reply> => {
      const number = client.draw();
      const reply = await client.reply(op, { number });
      changes.push({ op, number, reply });
      return reply;
    };
    const { inode } = resultOf(await change(makeOp(directory, 'f')), 'attributes');
    await change(setOp(inode, { mode: 0o600 }));
    await change(unlinkOp(directory, 'f'));
    await change(unlinkOp(ROOT, 'd', { directory: true }));
    await world.restart('power-loss');
    const attached = await client.attach();
    const gone = changes.filter(({ reply }) => reply.position > attached.recoveredPosition);
    if (gone.length === changes.length) lost++;
    // What the file's maker needs has to be fetched, and nothing of the file itself is there to be fetched.
    const again = client.sendAll(gone.map(({ op, number, reply }) => ({ op, number, replay: reply.drawn })));
    client.replayed();
    const replies = await world.finish(Promise.all(again));
    assert.deepEqual(
      replies.map(({ result }) => result),
      gone.map(({ reply }) => reply.result),
    );
    assert.deepEqual(await client.names(ROOT), []);
  }
  assert.ok(lost > 0, 'some seed loses them all');
});

test('M4: what was answered as stable is there after power loss', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const world = await SessionWorld.start({ seed, syncMs: 10 });
    const client = await world.client();
    await client.mkdir(ROOT, 'stable', 0o755, { durability: Durability.STABLE });
    await client.mkdir(ROOT, 'synced');
    await client.call({ $case: 'sync', value: { inode: ROOT } }, 'empty');
    await world.restart('power-loss');
    await client.attach();
    client.replayed();
    assert.deepEqual(await client.names(ROOT), ['stable', 'synced']);
    await world[Symbol.asyncDispose]();
  }
});

test('M4, M9: numbers that a client sends again are believed only if they can do no harm', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f');
  const fresh = await client.make(ROOT, 'g');
  await client.unlink(ROOT, 'g', { permanent: true });
  await world.restart('kill');
  await client.attach();
  const replay = (inodes: number[]): Promise<Reply> =>
    client.send(makeOp(ROOT, `r${inodes}`), { replay: { time: { seconds: 1, nanos: 0 }, inodes } });
  const replies = [replay([ROOT]), replay([inode]), replay([2 ** 40]), replay([7]), replay([fresh.inode])];
  client.replayed();
  const [root, taken, never, reserved, free] = await world.finish(Promise.all(replies));
  for (const bad of [root, taken, never, reserved])
    assert.throws(() => resultOf(bad as Reply, 'attributes'), code('replay_differs'));
  assert.equal(resultOf(free as Reply, 'attributes').inode, fresh.inode);
  // Once all is sent again, what a client says to have drawn counts no more.
  const late = await client.reply(makeOp(ROOT, 'late'), {
    replay: { time: { seconds: 1, nanos: 0 }, inodes: [fresh.inode + 1] },
  });
  assert.notEqual(resultOf(late, 'attributes').inode, fresh.inode + 1);
  assert.equal((await client.stat(ROOT)).type, InodeType.DIRECTORY);
});

test('M6: after a restart, changes and grants wait until all holders of promises are back', async () => {
  await using world = await SessionWorld.start();
  const holder = await world.client({ caches: true });
  const writer = await world.client();
  await holder.names(ROOT);
  await world.restart('kill');
  await writer.attach();
  writer.replayed();
  const change = writer.send(mkdirOp(ROOT, 'd'));
  assert.equal(await isAnswered(world, change, 5_000), false);
  // Reading goes on.
  assert.deepEqual(await (await world.client()).names(ROOT), []);
  await holder.attach({ held: [{ inode: ROOT, kinds: ENTRIES }] });
  assert.equal(await isAnswered(world, change, 100), false);
  const shown = await holder.reply({ $case: 'getAttributes', value: { inode: ROOT, opens: false } });
  assert.deepEqual(shown.promises, []);
  holder.replayed();
  assert.equal(await isAnswered(world, change, 100), true);
});

test('M6: or until one promise lease has passed', async () => {
  await using world = await SessionWorld.start();
  await world.client({ caches: true });
  const writer = await world.client();
  await world.restart('kill');
  const startedMs = world.clock.elapsedMs;
  await writer.attach();
  writer.replayed();
  await writer.mkdir(ROOT, 'd');
  const waitedMs = world.clock.elapsedMs - startedMs;
  assert.ok(waitedMs > 9_900 && waitedMs < 10_200, `${waitedMs} ms`);
});

test('M6: what a session sends again runs before the changes of others that wait', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 6; seed++) {
    const world = await SessionWorld.start({ seed, syncMs: 40, writeMs: 0.1, storeMs: 3 });
    const one = await world.client({ caches: true });
    const two = await world.client();
    await world.clock.advance(300);
    const number = one.draw();
    const made = await one.reply(mkdirOp(ROOT, 'd'), { number });
    await world.restart('power-loss');
    await two.attach();
    two.replayed();
    // All that this one needs is fetched when the gate opens; what is sent again must first be fetched.
    const rival = two.send(mkdirOp(ROOT, 'd'));
    await world.clock.advance(100);
    const attached = await one.attach();
    if (made.position > attached.recoveredPosition) {
      lost++;
      void one.send(mkdirOp(ROOT, 'd'), { number, replay: made.drawn });
    }
    one.replayed();
    const refused = await world.finish(rival);
    assert.throws(() => resultOf(refused, 'attributes'), code('exists'));
    assert.equal((await one.lookup(ROOT, 'd')).inode, resultOf(made, 'attributes').inode);
    await world[Symbol.asyncDispose]();
  }
  assert.ok(lost > 0, 'some seed loses the change');
});

test('M6, M7: an answer that never left is not given after a restart while others may still cache what it changed', async () => {
  await using world = await SessionWorld.start();
  const reader = await world.client({
    caches: true,
    onRecall: ({ kinds }) => ((kinds & OPEN) !== 0 ? { open: false } : undefined),
  });
  const writer = await world.client();
  await writer.make(ROOT, 'f');
  await reader.lookup(ROOT, 'f');
  const number = writer.draw();
  void writer.send(unlinkOp(ROOT, 'f'), { number });
  await world.clock.advance(100);
  assert.ok(reader.recalls.length > 0, 'the change has run and is written; its recall is under way');
  await world.restart('kill');
  await writer.attach();
  writer.replayed();
  const again = writer.send(unlinkOp(ROOT, 'f'), { number });
  assert.equal(await isAnswered(world, again, 3_000), false);
  // Its read promises do not outlive the epoch: what it says to hold is not granted again.
  await reader.attach({ held: [{ inode: ROOT, kinds: ENTRIES | ATTRIBUTES }] });
  reader.replayed();
  assert.equal(await isAnswered(world, again, 100), true);
  assert.equal(world.core.figures.promises, 0);
});

test('M6, M7: an exclusive promise holds over a restart', async () => {
  await using world = await SessionWorld.start();
  const writer = await world.client({ caches: true });
  const { inode } = await writer.make(ROOT, 'f');
  await writer.reply({ $case: 'wantWrite', value: { inode } });
  const reader = await world.client();
  await world.restart('kill');
  await writer.attach({ held: [{ inode, kinds: WRITE | ATTRIBUTES }] });
  writer.replayed();
  await reader.attach();
  reader.replayed();
  await reader.stat(inode);
  assert.deepEqual(
    writer.recalls.map(({ kinds }) => kinds),
    [WRITE],
  );
});

test('M6: a holder that comes too late is told to drop its exclusive promise', async () => {
  await using world = await SessionWorld.start();
  const writer = await world.client({ caches: true });
  const { inode } = await writer.make(ROOT, 'f');
  await writer.reply({ $case: 'wantWrite', value: { inode } });
  const other = await world.client();
  await world.restart('kill');
  await other.attach();
  other.replayed();
  await other.set(inode, { mode: 0o600 });
  await writer.attach({ held: [{ inode, kinds: WRITE }] });
  await world.clock.advance(10);
  assert.ok(writer.recalls.some((recall) => recall.inode === inode && (recall.kinds & WRITE) !== 0));
});

test('M10: space that a session held before a restart is its own again, of realms that it may write', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const other = await world.client();
  world.nodes.free = 2_000;
  const replenish = (bytes: number) => ({ $case: 'replenish', value: { realm: 1, bytes, chunks: 1 } }) as const;
  assert.equal((await client.call(replenish(600), 'replenished')).bytes, 600);
  await world.restart('kill');
  await client.attach({
    space: [
      { realm: 1, bytes: 600 },
      { realm: 77, bytes: 1_000 },
    ],
  });
  await other.attach();
  assert.equal((await other.call(replenish(1_000), 'replenished')).bytes, 400);
});

test('M2a: inode numbers and sessions are never given twice, over kills and power loss', async () => {
  const world = await SessionWorld.start({ seed: 5, syncMs: 20 });
  const inodes = new Set<number>();
  const sessions = new Set<number>();
  for (let life = 0; life < 6; life++) {
    const client = await world.client();
    assert.ok(!sessions.has(client.session));
    sessions.add(client.session);
    for (let i = 0; i < 5; i++) {
      const { inode } = await client.make(ROOT, `${life}-${i}`);
      assert.ok(!inodes.has(inode));
      inodes.add(inode);
    }
    await world.restart(life % 2 === 0 ? 'power-loss' : 'kill');
  }
  await world[Symbol.asyncDispose]();
});

test('sessions that only read never run out of promise numbers', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true });
  const { inode } = await client.make(ROOT, 'f');
  const { engine } = world.core;
  // As a million answered lookups would.
  for (let i = 0; i < 900_000; i++) engine.drawNumber('promise');
  await world.clock.advance(100);
  for (let i = 0; i < 900_000; i++) engine.drawNumber('promise');
  await world.clock.advance(100);
  const reply = await client.reply({ $case: 'getAttributes', value: { inode, opens: false } });
  assert.equal(reply.promises.length, 1);
  resultOf(await client.reply(setOp(inode, { mode: 0o600 })), 'attributes');
});
