import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { encodeBatch } from './batch-codec.ts';
import { SqliteDatabase } from './sqlite-database.ts';
import { put } from './store-contract.ts';

test('M2: a checkpoint that a reader holds up tells of nothing durable, and the log begins anew after it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'collective-view-'));
  const file = join(folder, 'metadata.db');
  const writer = new SqliteDatabase(file, 'writer');
  const checkpointer = new SqliteDatabase(file, 'checkpointer');
  const reader = new DatabaseSync(file);
  let position = 0;
  const apply = (): void => {
    position++;
    const rows = Array.from({ length: 50 }, (_, i) => put(`${i} ${position}`, 'v'.repeat(500)));
    writer.apply([{ batch: encodeBatch(rows), position }]);
  };
  try {
    apply();
    reader.exec('BEGIN');
    reader.prepare('SELECT count(*) FROM kv').get();
    for (let i = 0; i < 10; i++) apply();
    const held = checkpointer.checkpoint();
    assert.equal(held.position, -1, 'not every frame could be moved');
    reader.exec('COMMIT');
    // Batches that come between: the log never is as short as what was moved.
    apply();
    writer.restartWal({ givesBack: false });
    apply();
    const after = checkpointer.checkpoint();
    assert.equal(after.position, 13);
    assert.ok(after.frames < held.frames, `${after.frames} frames after ${held.frames}`);
  } finally {
    for (const database of [reader, checkpointer, writer]) database.close();
    await rm(folder, { recursive: true });
  }
});

test('M10: pages that hold nothing any more are counted, and a write-ahead log that is not needed goes back to the disk', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'collective-view-'));
  const file = join(folder, 'metadata.db');
  const writer = new SqliteDatabase(file, 'writer');
  try {
    const keys = Array.from({ length: 2_000 }, (_, i) => `key ${i}`);
    writer.apply([{ batch: encodeBatch(keys.map((key) => put(key, 'v'.repeat(1_000)))), position: 1 }]);
    assert.equal(writer.checkpoint().reusableBytes, 0);
    writer.apply([{ batch: encodeBatch(keys.map((key) => ({ key, value: undefined }))), position: 2 }]);
    const { reusableBytes } = writer.checkpoint();
    assert.ok(reusableBytes > 1_500_000, `${reusableBytes} bytes`);
    assert.ok((await stat(`${file}-wal`)).size > 1_000_000);
    writer.restartWal({ givesBack: true });
    assert.equal((await stat(`${file}-wal`)).size, 0);
    writer.apply([{ batch: encodeBatch([put('a', 'b')]), position: 3 }]);
    assert.equal(writer.checkpoint().position, 3);
  } finally {
    writer.close();
    await rm(folder, { recursive: true });
  }
});
