import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InodeType, type Recall } from '@collective/protocol/gen/session';
import { code, commitOp, contentOf, makeOp, type Op, ROOT, resultOf } from '../session/scripted-operations.ts';
import { OPEN } from './context.ts';
import { TrashWorld } from './trash-world.ts';

const releaseOp = (inode: number): Op => ({ $case: 'release', value: { inode } });
const bytesOf = (chunk: number, length = 100) => contentOf([{ offset: 0, length, chunk }]);
const opener = (isOpen: () => boolean) => (recall: Recall) => ({ open: (recall.kinds & OPEN) !== 0 && isOpen() });

test('M8: what loses its last name lies in the trash, and for everybody else it is gone', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode } = await client.make(ROOT, 'f', { content: bytesOf(1) });
  const second = { $case: 'link', value: { inode, parent: ROOT, name: Buffer.from('g') } } as const;
  await client.call(second, 'attributes');
  assert.equal((await client.unlink(ROOT, 'f')).attributes?.links, 1);
  assert.deepEqual(await trash.list(), []);
  assert.equal((await client.unlink(ROOT, 'g')).attributes, undefined);
  const [entry, ...others] = await trash.list();
  assert.deepEqual(others, []);
  assert.equal(entry?.path, '/g');
  assert.deepEqual([entry.type, entry.size, entry.uid], [InodeType.FILE, 100, 0]);
  assert.equal(entry.subject, 'spiffe://alice.home/user/root');
  assert.equal((entry.keptUntil?.seconds ?? 0) - (entry.deleted?.seconds ?? 0), 7 * 86_400);
  for (const op of [
    { $case: 'getAttributes', value: { inode, opens: true } },
    { $case: 'readBlocks', value: { inode, first: 0, count: 1 } },
    { ...second, value: { ...second.value, name: Buffer.from('h') } },
    commitOp(inode, [{ offset: 0, length: 1, chunk: 9 }]),
    releaseOp(inode),
  ] satisfies Op[]) {
    const { result } = await client.reply(op);
    if (op.$case === 'release') assert.equal(result?.$case, 'empty');
    else assert.equal(result?.$case === 'failure' && result.value.code, 'stale', op.$case);
  }
  assert.deepEqual(await client.names(ROOT), []);
  assert.equal((await client.make(ROOT, 'g')).links, 1);
});

test('M8: a file that is replaced by a rename or by a new one of its name lies in the trash', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  await client.make(ROOT, 'f', { content: bytesOf(1, 10) });
  await client.make(ROOT, 'f', { existing: 2, content: bytesOf(2, 20) });
  await client.make(ROOT, 'new', { content: bytesOf(3, 30) });
  await client.rename(ROOT, 'new', ROOT, 'f');
  const { inode: d } = await client.mkdir(ROOT, 'd');
  await client.mkdir(ROOT, 'e');
  await client.rename(ROOT, 'e', ROOT, 'd');
  assert.deepEqual(
    (await trash.list()).map(({ path, size }) => [path, size]),
    [
      ['/d', 0],
      ['/f', 20],
      ['/f', 10],
    ],
  );
  assert.equal((await trash.list())[0]?.type, InodeType.DIRECTORY);
  await assert.rejects(client.stat(d), code('stale'));
});

test('M8: without a trash, and where it is asked for, what is removed is destroyed at once', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const before = await trash.rows();
  await client.make(ROOT, 'f', { content: bytesOf(1) });
  await client.mkdir(ROOT, 'd');
  await client.unlink(ROOT, 'f', { permanent: true });
  await client.unlink(ROOT, 'd', { permanent: true, directory: true });
  await client.make(ROOT, 'pipe', { type: InodeType.FIFO });
  await client.unlink(ROOT, 'pipe');
  await trash.set({ trashSeconds: -1 });
  await client.make(ROOT, 'g', { content: bytesOf(2) });
  await client.make(ROOT, 'g', { existing: 2 });
  await client.unlink(ROOT, 'g');
  assert.deepEqual(await trash.list(), []);
  const after = await trash.rows();
  assert.deepEqual({ ...after, doomed: 0, block: 0 }, { ...before, doomed: 0, block: 0 });
  assert.equal(after.doomed, 2);
  assert.deepEqual(await trash.usage(), { bytes: 0, inodes: 1, trashBytes: 0, trashInodes: 0 });
});

test('M8: who has a removed file open goes on with it, and its end leaves it in the trash', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const other = await trash.client();
  const { inode } = await client.make(ROOT, 'f', { content: bytesOf(1) });
  assert.equal((await client.unlink(ROOT, 'f', { held: true })).attributes?.links, 0);
  await client.call(commitOp(inode, [{ offset: 100, length: 50, chunk: 2 }]), 'committed');
  assert.equal((await client.stat(inode)).size, 150);
  assert.equal((await client.stat(inode)).links, 0);
  await assert.rejects(other.stat(inode), code('stale'));
  assert.deepEqual(await trash.usage(), { bytes: 150, inodes: 2, trashBytes: 150, trashInodes: 1 });
  await client.call(releaseOp(inode), 'empty');
  await assert.rejects(client.stat(inode), code('stale'));
  await trash.restore('/f');
  assert.equal((await other.lookup(ROOT, 'f')).size, 150);
  assert.deepEqual(await trash.usage(), { bytes: 150, inodes: 2, trashBytes: 0, trashInodes: 0 });
});

test('M8: a restored file that was open all the time is asked for before it goes again', async () => {
  await using trash = await TrashWorld.start();
  const remover = await trash.client();
  const holder = await trash.client({ caches: true, onRecall: opener(() => true) });
  const { inode } = await remover.make(ROOT, 'f', { content: bytesOf(1) });
  await holder.lookup(ROOT, 'f');
  await remover.unlink(ROOT, 'f');
  await trash.restore('/f');
  assert.equal((await holder.stat(inode)).links, 1);
  assert.equal((await trash.rows()).orphan, 0);
  await remover.unlink(ROOT, 'f', { permanent: true });
  assert.equal((await holder.stat(inode)).links, 0);
  await holder.call(releaseOp(inode), 'empty');
  await assert.rejects(holder.stat(inode), code('stale'));
});

test('M8: the release of a file that was restored meanwhile ends nothing', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode } = await client.make(ROOT, 'f');
  await client.unlink(ROOT, 'f', { held: true });
  await trash.restore('/f');
  await client.call(releaseOp(inode), 'empty');
  assert.equal((await client.lookup(ROOT, 'f')).inode, inode);
});

test('M8: emptying the trash leaves an open file to those who have it open', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const { inode } = await client.make(ROOT, 'f', { content: bytesOf(1) });
  await client.unlink(ROOT, 'f', { held: true });
  assert.deepEqual(await trash.empty(), { files: 1, directories: 0, bytes: 100 });
  assert.equal((await client.stat(inode)).size, 100);
  assert.deepEqual(await trash.usage(), { bytes: 100, inodes: 2, trashBytes: 0, trashInodes: 0 });
  await client.call(releaseOp(inode), 'empty');
  assert.deepEqual(await trash.usage(), { bytes: 0, inodes: 1, trashBytes: 0, trashInodes: 0 });
});

test('M5: a removal that is sent again finds its answer, and one entry in the trash', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  await client.make(ROOT, 'f');
  const number = client.draw();
  const op: Op = {
    $case: 'unlink',
    value: { parent: ROOT, name: Buffer.from('f'), directory: false, held: false, expectedInode: 0, permanent: false },
  };
  const first = await client.reply(op, { number });
  await trash.world.restart('kill');
  await client.attach();
  client.replayed();
  const again = await client.reply(op, { number });
  assert.deepEqual(resultOf(again, 'unlinked'), resultOf(first, 'unlinked'));
  assert.equal((await trash.list()).length, 1);
});

test('M4, M9: a number of the trash that a client sends again is not believed', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  await client.make(ROOT, 'f');
  await client.make(ROOT, 'g');
  await client.unlink(ROOT, 'f');
  const [entry] = await trash.list();
  await trash.world.restart('kill');
  await client.attach();
  const reply = client.send(makeOp(ROOT, 'h'), {
    replay: { time: { seconds: 1, nanos: 0 }, inodes: [entry?.id ?? 0] },
  });
  client.replayed();
  const { result } = await trash.world.finish(reply);
  assert.equal(result?.$case === 'failure' && result.value.code, 'replay_differs');
  assert.deepEqual(await trash.paths(), ['/f']);
});

test('M8, M9: what is in the trash counts, and a full quota says so', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  await trash.set({ quotaInodes: 3, quotaBytes: 250 });
  await client.make(ROOT, 'a', { content: bytesOf(1) });
  await client.make(ROOT, 'b', { content: bytesOf(2) });
  await client.unlink(ROOT, 'a');
  await assert.rejects(
    client.make(ROOT, 'c'),
    /all 3 inodes of its quota are used; 1 files are in the trash: `collective trash empty`/,
  );
  const { inode } = await client.lookup(ROOT, 'b');
  await assert.rejects(
    client.call(commitOp(inode, [{ offset: 100, length: 100, chunk: 3 }]), 'committed'),
    /100 bytes are in the trash/,
  );
  await assert.rejects(
    client
      .call({ $case: 'replenish', value: { realm: 1, bytes: 1_000, chunks: 1 } }, 'replenished')
      .then(({ bytes }) => {
        assert.equal(bytes, 50);
        return client.call({ $case: 'replenish', value: { realm: 1, bytes: 1_000, chunks: 1 } }, 'replenished');
      }),
    /100 bytes are in the trash/,
  );
  const figures = await client.call({ $case: 'statFileSystem', value: { inode: ROOT } }, 'fileSystem');
  assert.deepEqual([figures.freeInodes, figures.trashBytes, figures.trashInodes], [0, 100, 1]);
  await trash.empty();
  await client.call(commitOp(inode, [{ offset: 100, length: 100, chunk: 3 }]), 'committed');
  await client.make(ROOT, 'c');
});

test('M8, M9: where the trash yields, the oldest goes for what needs its room, and no more than that', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  await trash.set({ quotaInodes: 6, quotaBytes: 500, trashYields: true });
  for (let i = 0; i < 5; i++) await client.make(ROOT, `f${i}`, { content: bytesOf(i + 1) });
  for (let i = 0; i < 4; i++) await client.unlink(ROOT, `f${i}`, { held: i === 0 });
  assert.equal((await trash.list()).length, 4);
  await client.make(ROOT, 'g');
  // f0 is open: to let go of it would free nothing.
  assert.deepEqual(await trash.paths(), ['/f3', '/f2', '/f0']);
  const { inode } = await client.lookup(ROOT, 'g');
  await client.call(commitOp(inode, [{ offset: 0, length: 150, chunk: 9 }]), 'committed');
  assert.deepEqual(await trash.paths(), ['/f3', '/f0']);
  const { bytes } = await client.call(
    { $case: 'replenish', value: { realm: 1, bytes: 120, chunks: 1 } },
    'replenished',
  );
  assert.equal(bytes, 120);
  assert.deepEqual(await trash.paths(), ['/f0']);
  await assert.rejects(
    client.call(commitOp(inode, [{ offset: 150, length: 300, chunk: 10 }]), 'committed'),
    code('quota_exceeded'),
  );
  assert.equal((await trash.usage()).bytes, 350);
});

test('M8: a removal writes one row more than destroying at once, and waits for no look at the store', async () => {
  await using trash = await TrashWorld.start();
  const client = await trash.client();
  const changes = async (permanent: boolean): Promise<{ rows: number; prefetches: number }> => {
    const name = `f${permanent}`;
    await client.make(ROOT, name, { content: bytesOf(permanent ? 1 : 2) });
    await client.renew([client.lastNumber]);
    await trash.world.clock.advance(100);
    const before = trash.world.core.engine.counters;
    await client.unlink(ROOT, name, { permanent });
    await trash.world.clock.advance(100);
    const after = trash.world.core.engine.counters;
    return { rows: after.changes - before.changes, prefetches: after.prefetches - before.prefetches };
  };
  const destroyed = await changes(true);
  const kept = await changes(false);
  assert.equal(kept.rows - destroyed.rows, 1);
  assert.ok(kept.prefetches <= destroyed.prefetches, `${kept.prefetches} and ${destroyed.prefetches}`);
});
