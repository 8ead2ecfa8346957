import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Existing, InodeType, type Recall } from '@collective/protocol/gen/session';
import { OPEN } from '../ops/context.ts';
import { prefixEnd } from '../tables/table.ts';
import { ORPHANS } from '../tables/tables.ts';
import {
  code,
  commitOp,
  contentOf,
  makeOp,
  type Op,
  ROOT,
  renameOp,
  resultOf,
  unlinkOp,
} from './scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from './session-harness.ts';

const releaseOp = (inode: number): Op => ({ $case: 'release', value: { inode } });
const openOp = (inode: number): Op => ({ $case: 'getAttributes', value: { inode, opens: true } });

const orphans = (world: SessionWorld): Promise<number> =>
  world.finish(
    world.core.engine.run((tx) => tx.scan(ORPHANS, ORPHANS.prefix, prefixEnd(ORPHANS.prefix), 5_000).length),
  );

/** Answers "is it open?" with what the test says. */
function opener(isOpen: () => boolean): (recall: Recall) => { open: boolean } {
  return (recall) => ({ open: (recall.kinds & OPEN) !== 0 && isOpen() });
}

async function usedInodes(client: ScriptedClient): Promise<number> {
  const { totalInodes, freeInodes } = await client.call(
    { $case: 'statFileSystem', value: { inode: ROOT } },
    'fileSystem',
  );
  return totalInodes - freeInodes;
}

test('M8: a file that its own session has open stays after the last unlink, until it is released', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const before = await usedInodes(client);
  const { inode } = await client.make(ROOT, 'f');
  const { attributes } = await client.unlink(ROOT, 'f', { held: true, permanent: true });
  assert.equal(attributes?.links, 0);
  await client.call(commitOp(inode, [{ offset: 0, length: 10, chunk: 1 }]), 'committed');
  assert.equal((await client.stat(inode)).size, 10);
  await assert.rejects(client.lookup(ROOT, 'f'), code('not_found'));
  await assert.rejects(
    client.call({ $case: 'link', value: { inode, parent: ROOT, name: Buffer.from('again') } }, 'attributes'),
    code('not_found'),
  );
  await client.call(releaseOp(inode), 'empty');
  await assert.rejects(client.stat(inode), code('stale'));
  assert.equal(await usedInodes(client), before);
  // Safe to do twice.
  await client.call(releaseOp(inode), 'empty');
});

test('M8: other sessions are asked before the last name goes, and those that have it open keep it', async () => {
  await using world = await SessionWorld.start();
  const remover = await world.client();
  const holder = await world.client({ caches: true, onRecall: opener(() => true) });
  const closed = await world.client({ caches: true, onRecall: opener(() => false) });
  const { inode } = await remover.make(ROOT, 'f');
  await holder.lookup(ROOT, 'f');
  await closed.lookup(ROOT, 'f');
  assert.equal((await remover.unlink(ROOT, 'f')).attributes?.links, 0);
  assert.equal((await holder.stat(inode)).links, 0);
  // Only the holder is one: its release ends the file.
  await closed.call(releaseOp(inode), 'empty');
  await holder.stat(inode);
  await holder.call(releaseOp(inode), 'empty');
  await assert.rejects(holder.stat(inode), code('stale'));
  assert.equal(await orphans(world), 0);
});

for (const { name, replace } of [
  { name: 'a rename', replace: (): Op => renameOp(ROOT, 'other', ROOT, 'f') },
  { name: 'a file that takes the name', replace: (): Op => makeOp(ROOT, 'f', { existing: Existing.REPLACE }) },
  { name: 'an unlink of whatever is there', replace: (): Op => unlinkOp(ROOT, 'f') },
])
  test(`M8: ${name} asks the caller too, when another inode than it had in mind goes`, async () => {
    for (const isOpen of [true, false]) {
      await using world = await SessionWorld.start();
      const client = await world.client({ onRecall: opener(() => isOpen) });
      const { inode } = await client.make(ROOT, 'f');
      await client.make(ROOT, 'other');
      await client.reply(openOp(inode));
      await client.reply(replace());
      assert.deepEqual(
        client.recalls.map((recall) => [recall.inode, recall.kinds]),
        [[inode, OPEN]],
      );
      if (isOpen) {
        assert.equal((await client.stat(inode)).links, 0);
        await client.call(releaseOp(inode), 'empty');
      }
      await assert.rejects(client.stat(inode), code('stale'));
      assert.equal(await orphans(world), 0);
    }
  });

test('M8: when all say that it is closed the inode goes with its name', async () => {
  await using world = await SessionWorld.start();
  const remover = await world.client();
  const other = await world.client({ caches: true, onRecall: opener(() => false) });
  const { inode } = await remover.make(ROOT, 'f');
  await other.lookup(ROOT, 'f');
  assert.equal((await remover.unlink(ROOT, 'f')).attributes, undefined);
  await assert.rejects(other.stat(inode), code('stale'));
});

test('M8: a session that does not cache says that it opens a file, and is asked too', async () => {
  await using world = await SessionWorld.start();
  const remover = await world.client();
  const holder = await world.client({ onRecall: opener(() => true) });
  const { inode } = await remover.make(ROOT, 'f');
  assert.deepEqual((await holder.reply(openOp(inode))).promises, []);
  assert.equal((await remover.unlink(ROOT, 'f')).attributes?.links, 0);
  await holder.stat(inode);
});

test('M8: a session that looks the file up again while it is asked is asked again', async () => {
  await using world = await SessionWorld.start();
  const remover = await world.client();
  const asked: Recall[] = [];
  const other = await world.client({
    caches: true,
    onRecall: (recall) => {
      if ((recall.kinds & OPEN) === 0) return { open: false };
      asked.push(recall);
      return undefined;
    },
  });
  const { inode } = await remover.make(ROOT, 'f');
  await other.lookup(ROOT, 'f');
  const removed = remover.send(unlinkOp(ROOT, 'f'));
  await world.clock.advance(10);
  assert.equal(asked.length, 1);
  // It looks the file up again and opens it on the strength of that answer; its "not open" was on the way before.
  await other.lookup(ROOT, 'f');
  other.acknowledgeRecall(asked[0] as Recall, false);
  await world.clock.advance(10);
  assert.equal(asked.length, 2);
  other.acknowledgeRecall(asked[1] as Recall, true);
  assert.equal(resultOf(await world.finish(removed), 'unlinked').attributes?.links, 0);
  assert.equal((await other.stat(inode)).links, 0);
});

test('M8: a session that does not answer in time is taken to have the file open', async () => {
  await using world = await SessionWorld.start();
  const remover = await world.client();
  const silent = await world.client({ caches: true, onRecall: () => undefined });
  const { inode } = await remover.make(ROOT, 'f');
  await silent.lookup(ROOT, 'f');
  assert.equal((await remover.unlink(ROOT, 'f')).attributes?.links, 0);
  await silent.stat(inode);
});

test('M8: the end of a session ends what it alone had open, hundreds of files too', async () => {
  await using world = await SessionWorld.start({ core: { cacheEntriesMax: 50 } });
  const watcher = await world.client();
  const before = await usedInodes(watcher);
  const client = await world.client();
  for (let i = 0; i < 700; i++) await client.make(ROOT, `f${i}`);
  await world.finish(
    Promise.all(
      client.sendAll(
        Array.from({ length: 700 }, (_, i) => ({ op: unlinkOp(ROOT, `f${i}`, { held: true, permanent: true }) })),
      ),
    ),
  );
  assert.equal(await orphans(world), 700);
  await world.clock.advance(1_000);
  await client.detach();
  assert.equal(await orphans(world), 0);
  assert.equal(await usedInodes(watcher), before);
});

test('M8: an orphan lives until its last holder is gone', async () => {
  await using world = await SessionWorld.start();
  const one = await world.client({ caches: true, onRecall: opener(() => true) });
  const two = await world.client({ caches: true, onRecall: opener(() => true) });
  const { inode } = await one.make(ROOT, 'f');
  await two.lookup(ROOT, 'f');
  await one.unlink(ROOT, 'f', { held: true });
  await one.detach();
  await two.stat(inode);
  await two.call(releaseOp(inode), 'empty');
  assert.equal(await orphans(world), 0);
});

test('M8: open but unlinked files outlive a restart, and end when their session comes back without them', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client({ caches: true, onRecall: opener(() => true) });
  const kept = await client.make(ROOT, 'kept');
  const closed = await client.make(ROOT, 'closed');
  await client.unlink(ROOT, 'kept', { held: true });
  await client.unlink(ROOT, 'closed', { held: true });
  await world.restart('kill');
  await client.attach({ openInodes: [kept.inode] });
  client.replayed();
  assert.equal((await client.stat(kept.inode)).links, 0);
  await assert.rejects(client.stat(closed.inode), code('stale'));
  assert.equal(await orphans(world), 1);
});

test('M8: a file that an absent session may have open is kept for it after a restart', async () => {
  await using world = await SessionWorld.start();
  const holder = await world.client({ caches: true, onRecall: opener(() => true) });
  const remover = await world.client();
  const open = await remover.make(ROOT, 'open');
  const unused = await remover.make(ROOT, 'unused');
  await holder.lookup(ROOT, 'open');
  await world.restart('kill');
  await remover.attach();
  remover.replayed();
  // The promise lease passes, the session lease does not: the holder may still come back with its open files.
  await remover.unlink(ROOT, 'open');
  await remover.unlink(ROOT, 'unused');
  await holder.attach({ openInodes: [open.inode] });
  holder.replayed();
  assert.equal((await holder.stat(open.inode)).links, 0);
  await assert.rejects(remover.stat(unused.inode), code('stale'));
  await holder.call(releaseOp(open.inode), 'empty');
  assert.equal(await orphans(world), 0);
});

test('M8: a file replaced by rename or by a new file stays for whoever has it open', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const holder = await world.client({ caches: true, onRecall: opener(() => true) });
  for (const replace of [
    renameOp(ROOT, 'new', ROOT, 'f'),
    makeOp(ROOT, 'f', { existing: 2, content: contentOf([]) }),
  ]) {
    const { inode } = await client.make(ROOT, 'f', { existing: 1 });
    await client.make(ROOT, 'new', { existing: 1 });
    await holder.lookup(ROOT, 'f');
    const { result } = await client.reply(replace);
    assert.notEqual(result?.$case, 'failure');
    assert.equal((await holder.stat(inode)).links, 0);
    assert.notEqual((await client.lookup(ROOT, 'f')).inode, inode);
    await holder.call(releaseOp(inode), 'empty');
    await assert.rejects(holder.stat(inode), code('stale'));
  }
});

test('M8: nothing is made in a directory that was removed while it was open', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.mkdir(ROOT, 'd');
  const { inode: file } = await client.make(ROOT, 'f');
  await client.unlink(ROOT, 'd', { directory: true, held: true });
  await assert.rejects(client.make(inode, 'x'), code('not_found'));
  await assert.rejects(client.mkdir(inode, 'x'), code('not_found'));
  await assert.rejects(client.rename(ROOT, 'f', inode, 'f'), code('not_found'));
  await assert.rejects(
    client.call({ $case: 'link', value: { inode: file, parent: inode, name: Buffer.from('l') } }, 'attributes'),
    code('not_found'),
  );
  assert.equal((await client.stat(inode)).type, InodeType.DIRECTORY);
  await client.call(releaseOp(inode), 'empty');
  await assert.rejects(client.stat(inode), code('stale'));
});

test('M8: release by a session that holds nothing changes nothing', async () => {
  await using world = await SessionWorld.start();
  const holder = await world.client();
  const other = await world.client();
  const { inode } = await holder.make(ROOT, 'f');
  await holder.unlink(ROOT, 'f', { held: true });
  await other.call(releaseOp(inode), 'empty');
  await holder.stat(inode);
});
