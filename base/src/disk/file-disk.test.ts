import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CollectiveError } from '../errors/index.ts';
import { diskContract } from './disk-contract.ts';
import { FileDisk } from './file-disk.ts';

diskContract('files', async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-disk-'));
  return {
    disk: await FileDisk.at(root),
    next: () => FileDisk.at(root),
    dispose: () => rm(root, { recursive: true, force: true }),
  };
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
