/** M10: a coordinator whose own disk is full refuses what would make the metadata larger, and nothing else. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { ROOT_REALM } from '@collective/base/ids';
import { Durability, Existing, type Reply, XattrMode } from '@collective/protocol/gen/session';
import type { Growth } from '../ops/context.ts';
import {
  code,
  commitOp,
  makeOp,
  mkdirOp,
  type Op,
  ROOT,
  renameOp,
  resultOf,
  setOp,
  unlinkOp,
} from './scripted-operations.ts';
import { SessionWorld, type WorldOptions } from './session-harness.ts';

class Disk implements Growth {
  isFull = false;
  readonly isTight = false;

  require(what: string): void {
    if (this.isFull) throw new CollectiveError('metadata_full', what);
  }
}

async function start(options: WorldOptions = {}) {
  const disk = new Disk();
  const world = await SessionWorld.start({ ...options, core: { room: disk } });
  const client = await world.client();
  return { disk, world, client, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

const piece = { offset: 0, length: 10, chunk: 1 };
const xattr = (inode: number, value: string): Op => ({
  $case: 'setXattr',
  value: { inode, name: 'user.x', value: Buffer.from(value), mode: XattrMode.XATTR_ANY },
});

test('M10: what would add rows is refused, and changes nothing', async () => {
  await using given = await start();
  const { client, disk } = given;
  const { inode } = await client.make(ROOT, 'f');
  const replenish: Op = { $case: 'replenish', value: { realm: ROOT_REALM, bytes: 1_000, chunks: 2 } };
  disk.isFull = true;
  const growing: readonly Op[] = [
    makeOp(ROOT, 'new'),
    mkdirOp(ROOT, 'new'),
    makeOp(ROOT, 'f', { existing: Existing.REPLACE }),
    { $case: 'link', value: { inode, parent: ROOT, name: Buffer.from('new') } },
    xattr(inode, 'v'),
    commitOp(inode, [piece]),
    replenish,
  ];
  for (const op of growing) await assert.rejects(client.call(op, 'empty'), code('metadata_full'), op.$case);
  assert.deepEqual(await client.names(ROOT), ['f']);
  disk.isFull = false;
  for (const op of growing.slice(4)) assert.notEqual((await client.reply(op)).result?.$case, 'failure', op.$case);
});

test('M10: reading, removing, renaming, cutting short and sessions go on', async () => {
  await using given = await start();
  const { client, disk, world } = given;
  const { inode } = await client.make(ROOT, 'f');
  await client.call(commitOp(inode, [piece]), 'committed');
  await client.call(xattr(inode, 'v'), 'attributes');
  for (const name of ['a', 'b', 'old']) await client.make(ROOT, name);
  await client.mkdir(ROOT, 'd');
  disk.isFull = true;
  await client.call(makeOp(ROOT, 'f', { existing: Existing.OPEN }), 'attributes');
  await client.call(renameOp(ROOT, 'a', ROOT, 'b'), 'empty');
  await client.call(setOp(inode, { size: 3, mode: 0o600 }), 'attributes');
  await client.call({ $case: 'removeXattr', value: { inode, name: 'user.x' } }, 'attributes');
  await client.call(unlinkOp(ROOT, 'old', { permanent: true }), 'unlinked');
  await client.call(unlinkOp(ROOT, 'd', { directory: true }), 'unlinked');
  await client.call({ $case: 'sync', value: { inode } }, 'empty');
  const other = await world.client();
  assert.deepEqual((await other.names(ROOT)).sort(), ['b', 'f']);
  await other.detach();
});

test('M4: changes that were acknowledged are made again on a disk that has filled up since', async () => {
  let lost = 0;
  for (let seed = 1; seed <= 8; seed++) {
    await using given = await start({ seed, syncMs: 40, writeMs: 0.1 });
    const { client, disk, world } = given;
    await world.clock.advance(300);
    const number = client.draw();
    const made: Reply = await client.reply(mkdirOp(ROOT, 'd'), { number, durability: Durability.WRITTEN });
    disk.isFull = true;
    await world.restart('power-loss');
    const attached = await client.attach();
    if (made.position > attached.recoveredPosition) {
      lost++;
      const again = client.send(mkdirOp(ROOT, 'd'), { number, replay: made.drawn });
      client.replayed();
      assert.deepEqual(resultOf(await world.finish(again), 'attributes'), resultOf(made, 'attributes'));
    } else client.replayed();
    await assert.rejects(client.mkdir(ROOT, 'e'), code('metadata_full'));
    assert.deepEqual(await client.names(ROOT), ['d']);
  }
  assert.ok(lost > 0, 'some seed loses it');
});
