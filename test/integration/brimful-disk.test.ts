/** A disk that is full to the last block, by a file of somebody else: nothing that was acknowledged is lost, and room heals it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, open, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CliWorld, freePortBase, isAlive, partsOf, until } from './cli-world.ts';
import { seededFile } from './random-file.ts';

const DISK = '300m';
const BACK_WITHIN_MS = 60_000;

test('a full disk takes no member down: it waits for room, says so, and has all that it had acknowledged', async (t) => {
  await using world = await CliWorld.create();
  const disk = join(world.home, 'disk');
  await mkdir(disk);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK}`, 'collective-test', disk]).status !== 0)
    return t.skip('no right to mount a tmpfs');
  try {
    const data = join(disk, 'alice');
    const args = ['--member', 'alice', '--data', data, '--port-base', String(await freePortBase())];
    const up = await world.up([...args, '--capacity', '1GiB']);
    const content = seededFile(1, 5_000_000);
    await writeFile(join(world.work, 'kept.raw'), content);
    await world.ok(['cp', 'kept.raw', 'collective:/']);
    const made: string[] = [];
    const filler = join(disk, 'filler');
    // Blocks that the member lets go of when it starts again are taken as well.
    await until(
      async () => {
        await fill(filler);
        const name = `/d${made.length}`;
        const { exit } = await world.run(['mkdir', name, '--timeout', '3s']);
        if (exit === 0) made.push(name);
        return /coordinator has no room left on its disk/.test(up.said);
      },
      'the coordinator ends for want of room',
      BACK_WITHIN_MS,
      () => up.said,
    );
    assert.equal(up.hasEnded, false, up.said);
    for (const { name, pid } of await partsOf(data))
      if (name !== 'coordinator') assert.ok(isAlive(pid), `${name} has ended`);

    await rm(filler);
    let last = '';
    await until(
      async () => {
        const { exit, err } = await world.run(['mkdir', '/after', '--timeout', '10s']);
        last = err;
        // A try that was given up may have been carried out.
        return exit === 0 || (exit === 1 && /\[exists\]/.test(err));
      },
      'the member serves again',
      BACK_WITHIN_MS,
      () => `${last}\n${up.said}`,
    );
    const names = (await world.ok(['ls', '/'])).split('\n');
    for (const name of [...made.map((path) => path.slice(1)), 'after', 'kept.raw'])
      assert.ok(names.includes(name), `${name} is lost`);
    assert.ok(Buffer.from((await world.run(['cat', '/kept.raw'])).out, 'latin1').equals(content));
    assert.equal((await up.stop()).exit, 0, up.said);

    // Between the room that a new member needs and the one that is left on a disk that a member has filled.
    await fill(filler, 20 * 1024 * 1024);
    const again = await world.up(['--data', data]);
    assert.ok(Buffer.from((await world.run(['cat', '/kept.raw'])).out, 'latin1').equals(content));
    await again.stop();
  } finally {
    spawnSync('umount', ['-l', disk]);
  }
});

test('M10: a coordinator whose disk is nearly full takes nothing new, lets files be read and removed, and goes on by itself', async (t) => {
  await using world = await CliWorld.create();
  const disk = join(world.home, 'disk');
  await mkdir(disk);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK}`, 'collective-test', disk]).status !== 0)
    return t.skip('no right to mount a tmpfs');
  try {
    const data = join(disk, 'alice');
    const args = ['--member', 'alice', '--data', data, '--port-base', String(await freePortBase())];
    const up = await world.up([...args, '--capacity', '1GiB']);
    const coordinator = async (): Promise<number | undefined> =>
      (await partsOf(data)).find(({ name }) => name === 'coordinator')?.pid;
    const pid = await coordinator();
    const content = seededFile(1, 3_000_000);
    await writeFile(join(world.work, 'kept.raw'), content);
    await world.ok(['cp', 'kept.raw', 'collective:/']);
    for (const name of ['/gone', '/trashed']) await world.ok(['mkdir', name]);

    const filler = join(disk, 'filler');
    await fill(filler, 20 * 1024 * 1024);
    const mkdirExit = async (name: string): Promise<number | null> => {
      const { exit, err } = await world.run(['mkdir', name, '--timeout', '10s']);
      if (exit !== 0) assert.match(err, /metadata_full/);
      return exit;
    };
    let made = 0;
    await until(
      async () => (await mkdirExit(`/d${made++}`)) === 6,
      'nothing new is taken',
      BACK_WITHIN_MS,
      () => up.said,
    );
    const refused = await world.run(['cp', 'kept.raw', 'collective:/second.raw']);
    assert.equal(refused.exit, 6);
    assert.match(refused.err, /coordinator's disk has room for .* MiB of metadata/);
    assert.ok(Buffer.from((await world.run(['cat', '/kept.raw'])).out, 'latin1').equals(content));
    await world.ok(['rm', '-r', '--permanent', '/gone']);
    await world.ok(['rm', '-r', '/trashed']);
    await world.ok(['trash', 'empty']);
    await world.ok(['mv', '/kept.raw', '/moved.raw']);
    await world.ok(['maintenance', 'set', 'garbage-grace=0s']);
    assert.match(await world.ok(['status']), /Metadata: .*nothing new is taken until there is more/);
    const names = (await world.ok(['ls', '/'])).split('\n');
    assert.deepEqual(
      [names.includes('gone'), names.includes('second.raw'), names.includes('moved.raw')],
      [false, false, true],
    );

    await rm(filler);
    await until(
      async () => (await mkdirExit('/after')) === 0,
      'the member takes new files again',
      BACK_WITHIN_MS,
      () => up.said,
    );
    assert.equal(await coordinator(), pid, 'it has never ended');
    const told = await world.ok(['events']);
    for (const kind of ['metadata-full', 'metadata-room']) assert.match(told, new RegExp(kind));
    await up.stop();
  } finally {
    spawnSync('umount', ['-l', disk]);
  }
});

/** Appends until the disk is full, or has this many bytes left. */
async function fill(path: string, leaveBytes = 0): Promise<void> {
  const file = await open(path, 'a');
  try {
    const piece = Buffer.alloc(64 * 1024);
    for (;;) {
      if (leaveBytes > 0 && (await freeBytes(path)) <= leaveBytes) return;
      await file.appendFile(piece);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    await file.close();
  }
}

async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}
