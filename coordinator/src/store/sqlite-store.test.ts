import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { encodeBatch } from './batch-codec.ts';
import { SqliteStore } from './sqlite-store.ts';
import { SqliteThread } from './sqlite-thread.ts';
import { contentOf, position, put, storeContract } from './store-contract.ts';

async function scratchFolder(): Promise<{ folder: string; file: string; [Symbol.asyncDispose]: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-view-'));
  return {
    folder,
    file: join(folder, 'metadata.db'),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}

storeContract('SQLite view', async () => {
  const scratch = await scratchFolder();
  return { open: () => SqliteStore.open(scratch.file), dispose: () => scratch[Symbol.asyncDispose]() };
});

test('a database of a newer format is refused and not changed', async () => {
  await using scratch = await scratchFolder();
  const db = new DatabaseSync(scratch.file);
  db.exec("CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL); INSERT INTO meta VALUES ('format', 2)");
  db.close();
  const before = await readFile(scratch.file);
  await assert.rejects(SqliteStore.open(scratch.file), { code: 'version_too_new', message: /format 2.*up to 1/ });
  assert.deepEqual(await readFile(scratch.file), before);
});

test('a file that is no database is told as damage, a folder that is missing as a failing disk', async () => {
  await using scratch = await scratchFolder();
  await writeFile(scratch.file, Buffer.alloc(8192, 'no database'));
  await assert.rejects(SqliteStore.open(scratch.file), { code: 'store_damaged' });
  await assert.rejects(SqliteStore.open(join(scratch.folder, 'nowhere', 'metadata.db')), { code: 'disk_failed' });
});

test('a damaged page is told as damage', async () => {
  await using scratch = await scratchFolder();
  const store = await SqliteStore.open(scratch.file);
  const rows = Array.from({ length: 2000 }, (_, i) => put(`key ${String(i).padStart(5, '0')}`, 'x'.repeat(100)));
  await store.apply(encodeBatch(rows), position(1));
  await store.checkpoint();
  await store.close();
  const bytes = await readFile(scratch.file);
  bytes.fill(0xee, 4096 * 5, bytes.length - 4096);
  await writeFile(scratch.file, bytes);
  await assert.rejects(
    async () => {
      const again = await SqliteStore.open(scratch.file);
      try {
        await contentOf(again);
      } finally {
        await again.close();
      }
    },
    { code: 'store_damaged' },
  );
});

test('a thread that has ended refuses its questions and leaves none unanswered', async () => {
  await using scratch = await scratchFolder();
  const thread = new SqliteThread({ file: scratch.file, role: 'writer' });
  await thread.ask({ kind: 'open' });
  const [last] = await Promise.allSettled([thread.end(), thread.end()]);
  assert.equal(last?.status, 'fulfilled');
  await assert.rejects(thread.ask({ kind: 'get', keys: ['a'] }), {
    code: 'internal',
    message: /writer thread has ended/,
  });
  await thread.end();
});

test('a key, a value and a batch may be large', async () => {
  await using scratch = await scratchFolder();
  const store = await SqliteStore.open(scratch.file);
  const key = 'k'.repeat(5_000);
  await store.apply(encodeBatch([put(key, 'v'.repeat(2_000_000))]), position(1));
  const [value] = await store.get([key]);
  assert.equal(value?.length, 2_000_000);
  await store.close();
});
