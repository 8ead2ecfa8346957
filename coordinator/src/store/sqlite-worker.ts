/**
 * Body of the SQLite threads. The same file serves as writer, reader or checkpointer, each with a connection of its own:
 * a read never waits behind a commit, and neither waits for a checkpoint's fsync (M3, measured: 0.03 ms against 7 ms).
 */
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { decodeBatch } from './batch-codec.ts';
import type { Answer, Request, WorkerSetup } from './sqlite-messages.ts';

const { file } = workerData as WorkerSetup;
const port = parentPort;
if (port === null) throw new Error('This file runs as a worker thread only');

const db = new DatabaseSync(file);
db.exec(
  'PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 5000;',
);
db.exec('CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID, STRICT');
db.exec('CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT');
db.exec("INSERT OR IGNORE INTO meta VALUES ('format', 1), ('applied', 0)");

const getOne = db.prepare('SELECT v FROM kv WHERE k = ?');
const scanRange = db.prepare('SELECT k, v FROM kv WHERE k >= ? AND k < ? ORDER BY k LIMIT ?');
const put = db.prepare('INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v');
const remove = db.prepare('DELETE FROM kv WHERE k = ?');
const setApplied = db.prepare("UPDATE meta SET value = ? WHERE name = 'applied'");
const getMeta = db.prepare('SELECT value FROM meta WHERE name = ?');

port.on('message', (request: Request) => {
  let answer: Answer;
  try {
    answer = serve(request);
  } catch (error) {
    answer = { id: request.id, kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
  port.postMessage(answer);
  if (request.kind === 'close') port.close();
});

function serve(request: Request): Answer {
  const { id } = request;
  switch (request.kind) {
    case 'open':
      return { id, kind: 'opened', applied: meta('applied'), format: meta('format') };
    case 'get': {
      const values = request.keys.map((key) => getOne.get(bytes(key))?.v as Uint8Array | undefined);
      return { id, kind: 'values', ...pack(values) };
    }
    case 'scan': {
      const pages = request.ranges.map(({ from, to, limit }) => scanRange.all(bytes(from), bytes(to), limit));
      const rows = pages.flat();
      return {
        id,
        kind: 'rows',
        counts: pages.map((page) => page.length),
        keys: rows.map((row) => text(row.k as Uint8Array)),
        ...pack(rows.map((row) => row.v as Uint8Array)),
      };
    }
    case 'apply': {
      db.exec('BEGIN IMMEDIATE');
      try {
        for (const { batch, position } of request.batches) {
          for (const { key, value } of decodeBatch(batch)) {
            if (value === undefined) remove.run(bytes(key));
            else put.run(bytes(key), value);
          }
          setApplied.run(position);
        }
        db.exec('COMMIT');
      } catch (error) {
        db.exec('ROLLBACK');
        throw error;
      }
      return { id, kind: 'done' };
    }
    case 'checkpoint': {
      const applied = meta('applied');
      const row = db.prepare('PRAGMA wal_checkpoint(PASSIVE)').get();
      // Columns: busy, log, checkpointed. Only a checkpoint that moved every frame counts.
      const finished = row !== undefined && row.busy === 0 && row.log === row.checkpointed;
      return { id, kind: 'checkpointed', position: finished ? applied : -1 };
    }
    case 'close':
      db.close();
      return { id, kind: 'done' };
  }
}

function meta(name: string): number {
  return Number(getMeta.get(name)?.value ?? 0);
}

function bytes(key: string): Buffer {
  return Buffer.from(key, 'latin1');
}

function text(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1');
}

/** One buffer for all values: cloning many small ones between threads costs more than reading them. */
function pack(values: readonly (Uint8Array | undefined)[]): { lengths: Int32Array; data: Uint8Array } {
  const lengths = new Int32Array(values.length);
  let total = 0;
  for (const [i, value] of values.entries()) {
    lengths[i] = value?.length ?? -1;
    total += value?.length ?? 0;
  }
  const data = new Uint8Array(total);
  let at = 0;
  for (const value of values) {
    if (value === undefined) continue;
    data.set(value, at);
    at += value.length;
  }
  return { lengths, data };
}
