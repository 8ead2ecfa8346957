/**
 * One connection to the view's database: the tables, the statements, and the rule that batches come without a gap (M2).
 * Synchronous, so it lives in a thread (`sqlite-worker.ts`).
 *
 * Layout (docs/formats/metadata.md): `kv` holds the rows, `meta` the format and the log position that was applied, which
 * changes in the same transaction as the rows.
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { CollectiveError } from '@collective/base/errors';
import { decodeBatch } from './batch-codec.ts';
import type { ThreadRole } from './sqlite-messages.ts';
import type { KeyRange, StoredRow } from './store.ts';

export const FORMAT = 1;
const BUSY_TIMEOUT_MS = 5_000;

export class SqliteDatabase {
  readonly #db: DatabaseSync;
  readonly #get: StatementSync;
  readonly #scan: StatementSync;
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  readonly #setApplied: StatementSync;

  /** Throws `version_too_new`, and then has changed nothing. */
  constructor(file: string, role: ThreadRole) {
    this.#db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
    try {
      const format = this.#has('meta') ? this.#meta('format') : undefined;
      if (format !== undefined && format > FORMAT)
        throw new CollectiveError(
          'version_too_new',
          `it has format ${format}, this program knows up to ${FORMAT}; nothing was changed`,
        );
      this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0');
      if (format === undefined && role === 'writer') this.#create();
      this.#get = this.#db.prepare('SELECT v FROM kv WHERE k = ?');
      this.#scan = this.#db.prepare('SELECT k, v FROM kv WHERE k >= ? AND k < ? ORDER BY k LIMIT ?');
      this.#put = this.#db.prepare('INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v');
      this.#remove = this.#db.prepare('DELETE FROM kv WHERE k = ?');
      this.#setApplied = this.#db.prepare("UPDATE meta SET value = ? WHERE name = 'applied'");
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  get applied(): number {
    return this.#meta('applied');
  }

  get(key: string): Uint8Array | undefined {
    return this.#get.get(bytesOf(key))?.v as Uint8Array | undefined;
  }

  scan({ from, to, limit }: KeyRange): StoredRow[] {
    return this.#scan
      .all(bytesOf(from), bytesOf(to), limit)
      .map(({ k, v }) => ({ key: Buffer.from(k as Uint8Array).toString('latin1'), value: v as Uint8Array }));
  }

  /** All batches in one transaction. A gap would silently lose what lies in it. */
  apply(batches: readonly { batch: Uint8Array; position: number }[]): void {
    this.#inTransaction(() => {
      let { applied } = this;
      for (const { batch, position } of batches) {
        if (position !== applied + 1)
          throw new CollectiveError('internal', `the batch at position ${position} does not follow ${applied}`);
        for (const { key, value } of decodeBatch(batch)) {
          if (value === undefined) this.#remove.run(bytesOf(key));
          else this.#put.run(bytesOf(key), value);
        }
        applied = position;
      }
      this.#setApplied.run(applied);
    });
  }

  /** Moves the write-ahead log into the database and syncs both. Does not wait for readers or the writer. */
  checkpoint(): { position: number; frames: number; reusableBytes: number } {
    const { applied } = this;
    const row = this.#db.prepare('PRAGMA wal_checkpoint(PASSIVE)').get();
    const frames = Number(row?.log ?? 0);
    // Only a checkpoint that moved every frame of its moment made durable what was applied then.
    const finished = row?.busy === 0 && row.log === row.checkpointed;
    const reusableBytes = this.#pragma('freelist_count') * this.#pragma('page_size');
    return { position: finished ? applied : -1, frames, reusableBytes };
  }

  /**
   * Lets the write-ahead log begin anew. While batches keep coming, no other checkpoint finds the moment for it. `givesBack`: its file
   * is cut to nothing; else it keeps its length for the next batches.
   */
  restartWal({ givesBack }: { readonly givesBack: boolean }): void {
    this.#db.exec(`PRAGMA wal_checkpoint(${givesBack ? 'TRUNCATE' : 'RESTART'})`);
  }

  #pragma(name: 'freelist_count' | 'page_size'): number {
    return Number(this.#db.prepare(`PRAGMA ${name}`).get()?.[name] ?? 0);
  }

  /** What this connection reads from now on is as of now. Answers the position that is applied in it. */
  beginSnapshot(): number {
    this.#db.exec('BEGIN');
    // The snapshot is taken by the first read.
    return this.applied;
  }

  readOn(after: string | undefined, bytesMax: number): StoredRow[] {
    const rows: StoredRow[] = [];
    let bytes = 0;
    const query = this.#db.prepare('SELECT k, v FROM kv WHERE k > ? ORDER BY k');
    for (const { k, v } of query.iterate(after === undefined ? Buffer.alloc(0) : bytesOf(after))) {
      const row = { key: Buffer.from(k as Uint8Array).toString('latin1'), value: v as Uint8Array };
      rows.push(row);
      bytes += row.key.length + row.value.length;
      if (bytes >= bytesMax) break;
    }
    return rows;
  }

  /** Rows of a backup into a database of its own, before anybody uses it. */
  fill(rows: readonly StoredRow[], applied: number): void {
    this.#inTransaction(() => {
      for (const { key, value } of rows) this.#put.run(bytesOf(key), value);
      this.#setApplied.run(applied);
    });
  }

  close(): void {
    this.#db.close();
  }

  #create(): void {
    this.#inTransaction(() => {
      this.#db.exec('CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID, STRICT');
      this.#db.exec('CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT');
      this.#db.exec(`INSERT INTO meta VALUES ('format', ${FORMAT}), ('applied', 0)`);
    });
  }

  #has(table: string): boolean {
    return this.#db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(table) !== undefined;
  }

  #meta(name: string): number {
    return Number(this.#db.prepare('SELECT value FROM meta WHERE name = ?').get(name)?.value ?? 0);
  }

  #inTransaction(change: () => void): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      change();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }
}

function bytesOf(key: string): Buffer {
  return Buffer.from(key, 'latin1');
}
