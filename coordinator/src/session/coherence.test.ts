import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PromiseGrant, Recall, Reply } from '@collective/protocol/gen/session';
import { ATTRIBUTES, DATA, ENTRIES, OPEN, WRITE } from '../ops/context.ts';
import {
  chunkOf,
  code,
  commitOp,
  makeOp,
  mkdirOp,
  type Op,
  ROOT,
  resultOf,
  setOp,
  unlinkOp,
} from './scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from './session-harness.ts';

const getOp = (inode: number): Op => ({ $case: 'getAttributes', value: { inode, opens: false } });
const lookupOp = (parent: number, name: string): Op => ({
  $case: 'lookup',
  value: { parent, name: Buffer.from(name) },
});
const wantWriteOp = (inode: number): Op => ({ $case: 'wantWrite', value: { inode } });
const blocksOp = (inode: number): Op => ({ $case: 'readBlocks', value: { inode, first: 0, count: 1 } });

function granted(reply: Reply, inode: number): number {
  return reply.promises.filter((each) => each.inode === inode).reduce((kinds, each) => kinds | each.kinds, 0);
}

function grantOf(reply: Reply, inode: number): PromiseGrant {
  const found = reply.promises.find((each) => each.inode === inode);
  assert.ok(found, `a promise on inode ${inode}`);
  return found;
}

/** Two clients that cache; the second one answers recalls only when the test says so. */
async function pair(world: SessionWorld): Promise<{ writer: ScriptedClient; reader: ScriptedClient; held: Recall[] }> {
  const held: Recall[] = [];
  const writer = await world.client({ caches: true });
  const reader = await world.client({
    caches: true,
    onRecall: (recall) => {
      held.push(recall);
      return undefined;
    },
  });
  return { writer, reader, held };
}

async function isAnswered(world: SessionWorld, reply: Promise<Reply>, withinMs: number): Promise<boolean> {
  let answered = false;
  void reply.then(() => {
    answered = true;
  });
  await world.clock.advance(withinMs);
  return answered;
}

test('M7: read promises come with what was shown, and are recalled before the change is answered', async () => {
  await using world = await SessionWorld.start();
  const { writer, reader, held } = await pair(world);
  const { inode } = await writer.make(ROOT, 'f');
  const shown = await reader.reply(lookupOp(ROOT, 'f'));
  assert.equal(granted(shown, inode), ATTRIBUTES | OPEN);
  assert.equal(granted(shown, ROOT), ENTRIES);
  assert.equal(granted(await reader.reply(blocksOp(inode)), inode), ATTRIBUTES | DATA | OPEN);

  const change = writer.send(setOp(inode, { mode: 0o600 }));
  assert.equal(await isAnswered(world, change, 2_000), false);
  assert.deepEqual(
    held.map(({ inode: on, kinds }) => ({ on, kinds })),
    [{ on: inode, kinds: ATTRIBUTES }],
  );
  // The change is there already for whoever asks.
  assert.equal((await reader.stat(inode)).mode, 0o600);
  reader.acknowledgeRecall(held[0] as Recall);
  assert.equal(await isAnswered(world, change, 10), true);
  // Only one recall was needed: the promise is gone.
  await writer.set(inode, { mode: 0o640 });
  assert.equal(held.length, 1);
});

test('M7: nothing is granted while a recall is under way, so that its acknowledgement takes no newer promise along', async () => {
  await using world = await SessionWorld.start();
  const { writer, reader, held } = await pair(world);
  const { inode } = await writer.make(ROOT, 'f');
  await reader.lookup(ROOT, 'f');
  const change = writer.send(setOp(inode, { mode: 0o600 }));
  await world.clock.advance(5);
  assert.equal(held.length, 1);
  // The reader looks again before it has answered the recall. If it were promised anything now, it would believe so for ever.
  const again = await reader.reply(getOp(inode));
  assert.equal(granted(again, inode) & ATTRIBUTES, 0);
  reader.acknowledgeRecall(held[0] as Recall);
  await world.finish(change);

  const later = await reader.reply(getOp(inode));
  assert.equal(granted(later, inode) & ATTRIBUTES, ATTRIBUTES);
  const second = writer.send(setOp(inode, { mode: 0o640 }));
  await world.clock.advance(5);
  assert.equal(held.length, 2, 'a promise that was given is recalled');
  reader.acknowledgeRecall(held[1] as Recall);
  await world.finish(second);
});

test('M7: a change of entries names what changed, and one recall serves a rename within a directory', async () => {
  await using world = await SessionWorld.start();
  const { writer, reader, held } = await pair(world);
  await writer.make(ROOT, 'a');
  await reader.lookup(ROOT, 'a');
  const renamed = writer.send({
    $case: 'rename',
    value: {
      parent: ROOT,
      name: Buffer.from('a'),
      newParent: ROOT,
      newName: Buffer.from('b'),
      mode: 0,
      targetHeld: false,
      targetInode: 0,
    },
  });
  await world.clock.advance(5);
  const onRoot = held.filter(({ inode }) => inode === ROOT);
  assert.equal(onRoot.length, 1);
  assert.deepEqual(onRoot[0]?.names.map(String).sort(), ['a', 'b']);
  for (const recall of held) reader.acknowledgeRecall(recall);
  resultOf(await world.finish(renamed), 'empty');
});

test('M7: the requester is never recalled', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true });
  const { inode } = await client.make(ROOT, 'f');
  await client.reply(wantWriteOp(inode));
  await client.lookup(ROOT, 'f');
  await client.set(inode, { mode: 0o600 });
  await client.reply(commitOp(inode, [{ offset: 0, length: 10, chunk: 1 }]));
  await client.unlink(ROOT, 'f', { expectedInode: inode });
  assert.deepEqual(client.recalls, []);
});

test('M7: an exclusive promise is recalled before the operation runs, which then sees what the holder flushed', async () => {
  await using world = await SessionWorld.start();
  const reader = await world.client({ caches: true });
  const { inode } = await reader.make(ROOT, 'f');
  const writer = await world.client({ caches: true, onRecall: () => undefined });
  const wanted = await writer.reply(wantWriteOp(inode));
  assert.equal(granted(wanted, inode), ATTRIBUTES | DATA | WRITE | OPEN);

  const asked = reader.send(getOp(inode));
  await world.clock.advance(5);
  const recall = writer.recalls.find(({ kinds }) => (kinds & WRITE) !== 0);
  assert.ok(recall);
  // The flush comes first, and waits for nobody.
  await writer.call(commitOp(inode, [{ offset: 0, length: 100, chunk: chunkOf(2, 1) }]), 'committed');
  writer.acknowledgeRecall(recall);
  assert.equal(resultOf(await world.finish(asked), 'attributes').size, 100);
});

test('M7: whoever asks for the exclusive promise gets it with the answer, also when it had to be recalled from another', async () => {
  await using world = await SessionWorld.start();
  const one = await world.client({ caches: true });
  const two = await world.client({ caches: true });
  const { inode } = await one.make(ROOT, 'f');
  assert.equal(granted(await one.reply(wantWriteOp(inode)), inode) & WRITE, WRITE);
  assert.equal(granted(await two.reply(wantWriteOp(inode)), inode) & WRITE, WRITE);
  assert.equal(one.recalls.filter(({ kinds }) => (kinds & WRITE) !== 0).length, 1);
  assert.equal(granted(await one.reply(wantWriteOp(inode)), inode) & WRITE, WRITE);
});

test('M7: while an operation waits for an exclusive promise, nobody else is given one', async () => {
  await using world = await SessionWorld.start();
  const holder = await world.client({ caches: true, onRecall: () => undefined });
  const { inode } = await holder.make(ROOT, 'f');
  await holder.reply(wantWriteOp(inode));
  const asker = await world.client({ caches: true });
  const asked = asker.send(getOp(inode));
  await world.clock.advance(5);
  assert.equal(granted(await holder.reply(wantWriteOp(inode)), inode) & ~OPEN, 0);
  for (const recall of holder.recalls) holder.acknowledgeRecall(recall);
  await world.finish(asked);
});

test('M7: a holder that says nothing is waited for until its lease ends, not longer', async () => {
  await using world = await SessionWorld.start();
  const { writer, reader } = await pair(world);
  const { inode } = await writer.make(ROOT, 'f');
  await reader.lookup(ROOT, 'f');
  await reader.renew();
  await writer.renew();
  const startedMs = world.clock.elapsedMs;
  const change = writer.send(setOp(inode, { mode: 0o600 }));
  await world.clock.advance(6_000);
  // A renewal during the recall does not stretch it.
  await reader.renew();
  resultOf(await world.finish(change), 'attributes');
  const tookMs = world.clock.elapsedMs - startedMs;
  assert.ok(tookMs > 9_000 && tookMs < 10_100, `${tookMs} ms`);
  assert.equal(world.core.figures.recallsTimedOut, 1);
});

test('M7: a holder whose session ends is not waited for', async () => {
  await using world = await SessionWorld.start();
  const { writer, reader } = await pair(world);
  const { inode } = await writer.make(ROOT, 'f');
  await reader.lookup(ROOT, 'f');
  const change = writer.send(setOp(inode, { mode: 0o600 }));
  await world.clock.advance(100);
  await reader.detach();
  assert.equal(await isAnswered(world, change, 50), true);
});

test('M7: recalls that a broken stream may have lost are sent again on the next', async () => {
  await using world = await SessionWorld.start();
  const { writer, reader, held } = await pair(world);
  const { inode } = await writer.make(ROOT, 'f');
  await reader.lookup(ROOT, 'f');
  const change = writer.send(setOp(inode, { mode: 0o600 }));
  await world.clock.advance(5);
  reader.breakLink();
  await reader.attach({ held: [{ inode, kinds: ATTRIBUTES }] });
  await world.clock.advance(5);
  assert.equal(held.length, 2);
  assert.equal(held[0]?.sequence, held[1]?.sequence);
  reader.acknowledgeRecall(held[1] as Recall);
  assert.equal(await isAnswered(world, change, 50), true);
});

test('M5, M7: a change resent while its recalls are under way is not answered before they are done', async () => {
  await using world = await SessionWorld.start();
  const { writer, reader, held } = await pair(world);
  const { inode } = await writer.make(ROOT, 'f');
  await reader.lookup(ROOT, 'f');
  const number = writer.draw();
  const op = unlinkOp(ROOT, 'f');
  reader.onRecall = (recall) => {
    if ((recall.kinds & OPEN) !== 0) return { open: false };
    held.push(recall);
    return undefined;
  };
  void writer.send(op, { number });
  await world.clock.advance(10);
  assert.ok(held.length > 0);
  writer.breakLink();
  await writer.attach();
  writer.replayed();
  const again = writer.send(op, { number });
  assert.equal(await isAnswered(world, again, 1_000), false);
  for (const recall of held) reader.acknowledgeRecall(recall);
  assert.equal(await isAnswered(world, again, 50), true);
  assert.equal(inode, resultOf(await again, 'unlinked').inode);
});

test('M7: a grant is older than the recall that follows it, also when its reply leaves later', async () => {
  await using world = await SessionWorld.start({ syncMs: 40 });
  const writer = await world.client({ caches: true });
  const reader = await world.client({ caches: true });
  const made = writer.send(makeOp(ROOT, 'f'));
  await world.clock.settle();
  // The reply to the reader waits for the writer's batch to be stable (M4).
  const looked = reader.send(lookupOp(ROOT, 'f'));
  await world.clock.advance(1);
  const { inode } = resultOf(await world.finish(made), 'attributes');
  const changed = writer.send(setOp(inode, { mode: 0o600 }));
  const grant = grantOf(await world.finish(looked), inode);
  await world.finish(changed);
  const recall = reader.recalls.find((each) => each.inode === inode);
  assert.ok(recall && recall.sequence > grant.sequence);
});

test('M7: a promise that the coordinator does not know is recalled when the client comes back with it', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true });
  const { inode } = await client.make(ROOT, 'f');
  client.breakLink();
  await client.attach({
    held: [
      { inode: ROOT, kinds: ENTRIES },
      { inode: inode + 5, kinds: ATTRIBUTES },
    ],
  });
  await world.clock.advance(5);
  assert.deepEqual(
    client.recalls.map((each) => each.inode),
    [inode + 5],
  );
});

test('M7: a session that does not cache is promised nothing', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f');
  assert.deepEqual((await client.reply(getOp(inode))).promises, []);
  assert.equal(world.core.figures.promises, 0);
});

test('M7: a second session sees a committed write at once', async () => {
  await using world = await SessionWorld.start();
  const writer = await world.client({ caches: true });
  const reader = await world.client({ caches: true });
  const { inode } = await writer.make(ROOT, 'f');
  await reader.reply(blocksOp(inode));
  await writer.call(commitOp(inode, [{ offset: 0, length: 10, chunk: 1 }]), 'committed');
  // The recall came before the writer's answer.
  assert.ok(reader.recalls.some((each) => each.inode === inode && (each.kinds & DATA) !== 0));
  const { blocks } = await reader.call(blocksOp(inode), 'blocks');
  assert.equal(blocks[0]?.slices.length, 1);
});

test('M7: a realm made by an administrator is seen by sessions that cache its parent', async () => {
  await using world = await SessionWorld.start();
  const { reader, held } = await pair(world);
  await reader.names(ROOT);
  const made = world.core.createRealm({
    path: '/r',
    quotaBytes: 0,
    quotaInodes: 0,
    replicas: 0,
    minReplicas: 0,
    compressionOff: false,
  } as never);
  await world.clock.advance(500);
  assert.deepEqual(
    held.map(({ inode }) => inode),
    [ROOT],
  );
  reader.acknowledgeRecall(held[0] as Recall);
  await world.finish(made);
  assert.deepEqual(await reader.names(ROOT), ['r']);
});

test('M7: promises are forgotten with what the client forgets, and with its session', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true });
  const inodes: number[] = [];
  for (let i = 0; i < 20; i++) inodes.push((await client.make(ROOT, `f${i}`)).inode);
  assert.ok(world.core.figures.promises >= 20);
  await client.call({ $case: 'forget', value: { inodes: [...inodes, ROOT] } }, 'empty');
  assert.equal(world.core.figures.promises, 0);
  await client.lookup(ROOT, 'f1');
  client.breakLink();
  await world.clock.advance(95_000);
  assert.equal(world.core.figures.promises, 0);
  assert.equal(world.core.figures.sessions, 0);
});

test('M7: a failed lookup in a path promises the absence of the name', async () => {
  await using world = await SessionWorld.start();
  const reader = await world.client({ caches: true });
  const writer = await world.client();
  const reply = await reader.reply({
    $case: 'resolve',
    value: { start: ROOT, names: [Buffer.from('x')], followLast: false },
  });
  assert.equal(resultOf(reply, 'resolved').failure?.code, 'not_found');
  assert.equal(granted(reply, ROOT), ENTRIES);
  await writer.mkdir(ROOT, 'x');
  assert.ok(reader.recalls.some(({ inode, names }) => inode === ROOT && names.some((name) => String(name) === 'x')));
});

test('M7: fifty sessions that hold a promise are recalled, each once', async () => {
  await using world = await SessionWorld.start();
  const writer = await world.client();
  const { inode } = await writer.make(ROOT, 'f');
  const readers: ScriptedClient[] = [];
  for (let i = 0; i < 50; i++) readers.push(await world.client({ caches: true }));
  for (const reader of readers) await reader.stat(inode);
  await writer.set(inode, { mode: 0o600 });
  for (const reader of readers) assert.equal(reader.recalls.length, 1);
});

test('an operation on an inode that does not exist is refused, whatever it is', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true });
  await assert.rejects(client.stat(99_999), code('stale'));
  await assert.rejects(client.call(wantWriteOp(99_999), 'attributes'), code('stale'));
  await assert.rejects(client.call(blocksOp(99_999), 'blocks'), code('stale'));
  await assert.rejects(client.call(mkdirOp(99_999, 'd'), 'attributes'), code('stale'));
});
