import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CollectiveError } from '../errors/index.ts';
import { diskContract } from './disk-contract.ts';
import { FileDisk } from './file-disk.ts';
import { fileError, inFolder } from './file-error.ts';

diskContract('files', async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-disk-'));
  return {
    disk: await FileDisk.at(root),
    next: () => FileDisk.at(root),
    dispose: () => rm(root, { recursive: true, force: true }),
  };
});

test('a file system that cannot read directly reads as ever, and says so', async () => {
  const disk = await FileDisk.at('/proc/self');
  const file = await disk.open('cmdline', 'readDirect');
  assert.equal(file.isDirect, false);
  assert.ok((await file.read(0, 4096)).includes(process.argv0));
  await file.close();
});

test("files and folders are the owner's alone", async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-disk-'));
  try {
    const disk = await FileDisk.at(root);
    await disk.makeFolder('f');
    await (await disk.open('f/a', 'create')).close();
    assert.equal((await stat(join(root, 'f'))).mode & 0o777, 0o700);
    assert.equal((await stat(join(root, 'f/a'))).mode & 0o777, 0o600);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});

test('more buffers in one call than the kernel takes at once are all written', async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-disk-'));
  try {
    const disk = await FileDisk.at(root);
    const file = await disk.open('a', 'create');
    const buffers = Array.from({ length: 3000 }, (_unused, i) => Buffer.from([i & 0xff, i >> 8]));
    await file.write(0, buffers);
    assert.deepEqual(await file.read(0, 6000), Buffer.concat(buffers));
    await file.close();
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});

test('the lock of a killed process is free at once', async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-disk-'));
  const program = `
    const { FileDisk } = await import(${JSON.stringify(new URL('./file-disk.ts', import.meta.url).href)});
    await (await FileDisk.at(${JSON.stringify(root)})).lock('');
    console.log('locked');
    setInterval(() => undefined, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(holder.stdout, 'data');
    const disk = await FileDisk.at(root);
    await assert.rejects(disk.lock(''), (error) => error instanceof CollectiveError && error.code === 'data_in_use');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    await (await disk.lock('')).release();
  } finally {
    holder.kill('SIGKILL');
    await rm(root, { recursive: true, force: true });
  }
});

test('a lock that cannot be taken says what the operating system said, and a full disk keeps nobody out', async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-disk-'));
  try {
    const disk = await FileDisk.at(root);
    await mkdir(join(root, 'lock'));
    await assert.rejects(disk.lock(''), (error) => {
      assert.ok(error instanceof CollectiveError);
      assert.equal(error.code, 'is_directory');
      assert.equal(error.message, `Take the folder ${root} for this process`);
      assert.match(String(error.cause), /EISDIR/);
      return true;
    });
    await rm(join(root, 'lock'), { recursive: true });
    const lock = await disk.lock('');
    // No journal beside it: that would need room.
    assert.deepEqual(await readdir(root), ['lock']);
    assert.equal((await stat(join(root, 'lock'))).size, 0);
    await lock.release();
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});

test('a file in the place of the folder is named', async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-disk-'));
  try {
    const file = join(root, 'file');
    await writeFile(file, '');
    await assert.rejects(FileDisk.at(file), {
      code: 'not_directory',
      message: `Use ${file} as a folder: it is a file`,
    });
    await assert.rejects(FileDisk.at(join(file, 'below')), { code: 'not_directory' });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});

for (const [errno, code, todo] of [
  ['EACCES', 'permission_denied', /owner and mode/],
  ['EROFS', 'disk_failed', /Mount it so that it can be written/],
  ['ENOSPC', 'no_space', /Make room on this disk/],
  ['EIO', 'disk_failed', /replace the disk/],
] as const) {
  test(`${errno} of a file is ${code}, with an advice about this machine`, () => {
    const error = fileError('Open /a', Object.assign(new Error(errno), { code: errno }));
    assert.equal(error.code, code);
    assert.match(error.todo, todo);
  });
}

test('damage is told with the folder that it lies in, once, and other errors stay as they are', () => {
  const damaged = new CollectiveError('store_damaged', 'Read disk.json', { todo: 'Look.' });
  const told = inFolder('/data/n', damaged) as CollectiveError;
  assert.deepEqual(
    [told.code, told.message, told.todo],
    ['store_damaged', 'Open the data in /data/n: Read disk.json', 'Look.'],
  );
  assert.equal(inFolder('/data/n', told), told);
  const other = new CollectiveError('data_in_use', 'Take it');
  assert.equal(inFolder('/data/n', other), other);
});
