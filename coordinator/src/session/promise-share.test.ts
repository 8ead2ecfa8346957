/** The share of promises that one session may hold (M7, M8), here a small one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Recall } from '@collective/protocol/gen/session';
import { ATTRIBUTES, DATA, OPEN } from '../ops/context.ts';
import { code, type Op, ROOT, setOp, unlinkOp } from './scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from './session-harness.ts';

/** The root directory is one of them. */
const SHARE = 6;
const openOp = (inode: number): Op => ({ $case: 'getAttributes', value: { inode, opens: true } });

interface Scene {
  readonly world: SessionWorld;
  /** Changes files, and caches nothing. */
  readonly writer: ScriptedClient;
  readonly files: readonly { readonly name: string; readonly inode: number }[];
  [Symbol.asyncDispose](): Promise<void>;
}

async function scene(count: number): Promise<Scene> {
  const world = await SessionWorld.start({ core: { promisedInodesMax: SHARE } });
  const writer = await world.client();
  const files: { name: string; inode: number }[] = [];
  for (let i = 0; i < count; i++) files.push({ name: `f${i}`, inode: (await writer.make(ROOT, `f${i}`)).inode });
  return { world, writer, files, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

const inodesOf = (recalls: readonly Recall[]): number[] => recalls.map(({ inode }) => inode);

test('M7: above its share a session gives back what it was granted longest ago, and keeps what it used last', async () => {
  await using parts = await scene(12);
  const { world, writer, files } = parts;
  const reader = await world.client({ caches: true });
  await reader.stat(ROOT);
  for (const { inode } of files.slice(0, 5)) await reader.stat(inode);
  await world.clock.advance(100);
  assert.deepEqual(reader.recalls, []);
  // Used again, so that others are older.
  await reader.stat(files[0]?.inode ?? 0);
  await reader.stat(ROOT);
  for (const { inode } of files.slice(5, 8)) await reader.stat(inode);
  await world.clock.advance(100);
  assert.deepEqual(
    inodesOf(reader.recalls),
    files.slice(1, 4).map(({ inode }) => inode),
  );
  assert.ok(reader.recalls.every(({ kinds }) => kinds === (ATTRIBUTES | OPEN)));
  // What was given back is changed without a question; what is held is called back as ever.
  const before = reader.recalls.length;
  await writer.set(files[1]?.inode ?? 0, { mode: 0o600 });
  assert.equal(reader.recalls.length, before);
  await writer.set(files[0]?.inode ?? 0, { mode: 0o600 });
  assert.deepEqual(inodesOf(reader.recalls.slice(before)), [files[0]?.inode]);
  // And is granted again when it is asked for again.
  const again = await reader.reply({ $case: 'getAttributes', value: { inode: files[1]?.inode ?? 0, opens: false } });
  assert.equal(again.promises.find(({ inode }) => inode === files[1]?.inode)?.kinds, ATTRIBUTES | OPEN);
});

test('M8: an open file stays known as open when it is called back to make room', async () => {
  await using parts = await scene(10);
  const { world, writer, files } = parts;
  const open = new Set(files.slice(0, 3).map(({ inode }) => inode));
  const reader = await world.client({
    caches: true,
    onRecall: ({ inode, kinds }) => ({ open: (kinds & OPEN) !== 0 && open.has(inode) }),
  });
  for (const { inode } of files) await reader.stat(inode);
  await world.clock.advance(100);
  assert.ok(reader.recalls.some(({ inode }) => open.has(inode)));
  const removed = await writer.unlink(ROOT, 'f0');
  assert.equal(removed.attributes?.links, 0, 'the inode stays for who has it open');
  assert.equal((await reader.stat(files[0]?.inode ?? 0)).links, 0);
  // One that is not open goes at once, whether it is asked for or not.
  await writer.unlink(ROOT, 'f9');
  await assert.rejects(writer.stat(files[9]?.inode ?? 0), code('stale'));
});

test('M7: a session that does not answer is shown no new inodes from twice its share on, and nobody else is held up', async () => {
  await using parts = await scene(2 * SHARE + 4);
  const { world, writer, files } = parts;
  const silent = await world.client({ caches: true, onRecall: () => undefined });
  const stats = files.slice(0, 2 * SHARE);
  for (const { inode } of stats) await silent.stat(inode);
  const next = files[2 * SHARE]?.inode ?? 0;
  await assert.rejects(silent.stat(next), code('overloaded'));
  await assert.rejects(silent.mkdir(ROOT, 'd'), code('overloaded'));
  assert.equal((await writer.names(ROOT)).includes('d'), false, 'a change that is refused is not made');
  // What it knows it may see again, and others go on.
  await silent.stat(files[3]?.inode ?? 0);
  const other = await world.client({ caches: true });
  await other.stat(next);
  // With its lease the promises are over; that it may have files open is not.
  await world.clock.advance(9_000);
  await silent.renew();
  await world.clock.advance(9_000);
  await silent.renew();
  await assert.rejects(silent.stat(next), code('overloaded'));
  await silent.call({ $case: 'forget', value: { inodes: stats.slice(0, 3).map(({ inode }) => inode) } }, 'empty');
  await silent.stat(next);
});

test('M8: a session without caches has a share of open files', async () => {
  await using parts = await scene(2 * SHARE + 4);
  const { world, files } = parts;
  const client = await world.client({ onRecall: () => ({ open: true }) });
  for (const { inode } of files.slice(0, 2 * SHARE)) await client.call(openOp(inode), 'attributes');
  await world.clock.advance(100);
  const next = files[2 * SHARE]?.inode ?? 0;
  await assert.rejects(client.call(openOp(next), 'attributes'), code('overloaded'));
  // To look at a file is not to open it.
  await client.stat(next);
  client.onRecall = ({ inode }) => ({ open: inode !== files[0]?.inode });
  await client.call(openOp(files[1]?.inode ?? 0), 'attributes');
  await client.call({ $case: 'forget', value: { inodes: [files[0]?.inode ?? 0] } }, 'empty');
  await client.call(openOp(next), 'attributes');
});

test('a client cannot claim more at attach than it may hold', async () => {
  await using parts = await scene(1);
  const { world } = parts;
  const client = await world.client({ caches: true });
  const openInodes = Array.from({ length: 2 * SHARE + 1 }, (_, i) => 5_000 + i);
  await assert.rejects(client.attach({ openInodes }), code('overloaded'));
  await client.attach({ openInodes: openInodes.slice(1) });
});

test('M7: promises that are called back to make room end before the next change is answered', async () => {
  await using parts = await scene(SHARE + 2);
  const { world, writer, files } = parts;
  const held: Recall[] = [];
  const reader = await world.client({
    caches: true,
    onRecall: (recall) => {
      held.push(recall);
      return undefined;
    },
  });
  for (const { inode } of files.slice(0, SHARE + 1)) await reader.stat(inode);
  await world.clock.advance(50);
  assert.deepEqual(inodesOf(held), [files[0]?.inode]);
  // It has not answered yet: it still caches, so a change asks it as well and waits.
  const changing = writer.send(setOp(files[0]?.inode ?? 0, { mode: 0o600 }));
  let answered = false;
  void changing.then(() => {
    answered = true;
  });
  await world.clock.advance(1_000);
  assert.equal(answered, false);
  for (const recall of held) reader.acknowledgeRecall(recall);
  await world.finish(changing, 1_000);
  await writer.reply(unlinkOp(ROOT, 'f0'));
});

test('M7: a block map is given back with the rest', async () => {
  await using parts = await scene(SHARE + 2);
  const { world, files } = parts;
  const reader = await world.client({ caches: true });
  await reader.call({ $case: 'readBlocks', value: { inode: files[0]?.inode ?? 0, first: 0, count: 1 } }, 'blocks');
  for (const { inode } of files.slice(1, SHARE + 1)) await reader.stat(inode);
  await world.clock.advance(50);
  assert.equal((reader.recalls[0]?.kinds ?? 0) & DATA, DATA);
});
