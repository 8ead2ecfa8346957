/**
 * The view in SQLite (M2, M3): this side only sends messages. Batches that wait while one is applied go together in the
 * next transaction; after a failure none is applied any more, for the next would leave a gap. The write-ahead log is
 * checkpointed by us alone, in a thread of its own, never as a side effect of a commit.
 */
import { open } from 'node:fs/promises';
import { fileError } from '@collective/base/disk/file-error';
import { CollectiveError } from '@collective/base/errors';
import type { LogPosition } from '@collective/base/ids';
import type { Answer } from './sqlite-messages.ts';
import { SqliteThread } from './sqlite-thread.ts';
import type { CheckpointOptions, KeyRange, Store, StoredRow, StoreSnapshot } from './store.ts';

/** 64 MiB of pages: above it the writer lets the write-ahead log begin anew, which costs it one sync. */
const WAL_FRAMES_MAX = 16_384;
/** The same where room is tight: 4 MiB. */
const TIGHT_WAL_FRAMES_MAX = 1_024;

interface Waiting {
  readonly batch: Uint8Array;
  readonly position: LogPosition;
  readonly done: () => void;
  readonly failed: (error: unknown) => void;
}

export class SqliteStore implements Store {
  readonly applied: LogPosition;
  readonly #writer: SqliteThread;
  readonly #reader: SqliteThread;
  readonly #checkpointer: SqliteThread;
  #waiting: Waiting[] = [];
  #applying = false;
  readonly #file: string;
  readonly #snapshots = new Set<SqliteThread>();
  #failure: unknown;
  #reusableBytes = 0;
  /** Its file keeps the greatest length that the write-ahead log ever had; one may be there from before. */
  #walIsLong = true;

  private constructor(
    file: string,
    threads: { writer: SqliteThread; reader: SqliteThread; checkpointer: SqliteThread },
    applied: LogPosition,
  ) {
    this.#file = file;
    this.#writer = threads.writer;
    this.#reader = threads.reader;
    this.#checkpointer = threads.checkpointer;
    this.applied = applied;
  }

  /** `file`: path of the database; made if it is not there. Throws `version_too_new`, `store_damaged`. */
  static async open(file: string): Promise<SqliteStore> {
    await mayBeWritten(file);
    const writer = new SqliteThread({ file, role: 'writer' });
    const others: SqliteThread[] = [];
    try {
      const opened = await writer.ask({ kind: 'open' });
      if (opened.kind !== 'opened') throw unexpected(opened);
      const reader = new SqliteThread({ file, role: 'reader' });
      const checkpointer = new SqliteThread({ file, role: 'checkpointer' });
      others.push(reader, checkpointer);
      await Promise.all(others.map((thread) => thread.ask({ kind: 'open' })));
      return new SqliteStore(file, { writer, reader, checkpointer }, opened.applied as LogPosition);
    } catch (error) {
      await Promise.all([writer, ...others].map((thread) => thread.end()));
      throw error;
    }
  }

  async get(keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const answer = await this.#reader.ask({ kind: 'get', keys });
    if (answer.kind !== 'values') throw unexpected(answer);
    return unpack(answer.lengths, answer.data);
  }

  async scan(ranges: readonly KeyRange[]): Promise<StoredRow[][]> {
    return rowsOf(await this.#reader.ask({ kind: 'scan', ranges }));
  }

  apply(batch: Uint8Array, position: LogPosition): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.push({ batch, position, done, failed });
      if (!this.#applying) void this.#applyAll();
    });
  }

  get reusableBytes(): number {
    return this.#reusableBytes;
  }

  async checkpoint({ givesBack }: CheckpointOptions = { givesBack: false }): Promise<LogPosition | undefined> {
    const answer = await this.#checkpointer.ask({ kind: 'checkpoint' });
    if (answer.kind !== 'checkpointed') throw unexpected(answer);
    this.#reusableBytes = answer.reusableBytes;
    if (answer.frames > TIGHT_WAL_FRAMES_MAX) this.#walIsLong = true;
    const isTooLong = givesBack ? this.#walIsLong : answer.frames > WAL_FRAMES_MAX;
    // It would wait for a snapshot's reader, and all batches behind it.
    if (isTooLong && this.#snapshots.size === 0) {
      await this.#writer.ask({ kind: 'restart-wal', givesBack });
      if (givesBack) this.#walIsLong = false;
    }
    return answer.position < 0 ? undefined : (answer.position as LogPosition);
  }

  async snapshot(): Promise<StoreSnapshot> {
    const thread = new SqliteThread({ file: this.#file, role: 'snapshot' });
    this.#snapshots.add(thread);
    const close = async (): Promise<void> => {
      this.#snapshots.delete(thread);
      await thread.end();
    };
    try {
      await thread.ask({ kind: 'open' });
      const begun = await thread.ask({ kind: 'begin-snapshot' });
      if (begun.kind !== 'opened') throw unexpected(begun);
      return {
        applied: begun.applied as LogPosition,
        read: async (after, bytesMax) => rowsOf(await thread.ask({ kind: 'read-on', after, bytesMax }))[0] ?? [],
        close,
      };
    } catch (error) {
      await close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#snapshots].map((thread) => thread.end()));
    await Promise.all([this.#reader.end(), this.#checkpointer.end()]);
    await this.#writer.end();
  }

  async #applyAll(): Promise<void> {
    this.#applying = true;
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        if (this.#failure !== undefined) throw this.#failure;
        await this.#writer.ask({ kind: 'apply', batches: group.map(({ batch, position }) => ({ batch, position })) });
        for (const { done } of group) done();
      } catch (error) {
        this.#failure = error;
        for (const { failed } of group) failed(error);
      }
    }
    this.#applying = false;
  }
}

/** A page a range. */
function rowsOf(answer: Answer): StoredRow[][] {
  if (answer.kind !== 'rows') throw unexpected(answer);
  const values = unpack(answer.lengths, answer.data);
  let at = 0;
  return answer.counts.map((count) => {
    const page: StoredRow[] = [];
    for (const end = at + count; at < end; at++)
      page.push({ key: answer.keys[at] ?? '', value: values[at] ?? new Uint8Array() });
    return page;
  });
}

function unpack(lengths: Int32Array, data: Uint8Array): (Uint8Array | undefined)[] {
  const values = new Array<Uint8Array | undefined>(lengths.length).fill(undefined);
  let at = 0;
  for (const [i, length] of lengths.entries()) {
    if (length < 0) continue;
    values[i] = data.subarray(at, at + length);
    at += length;
  }
  return values;
}

/** SQLite says of such a file only that it cannot be opened. */
async function mayBeWritten(file: string): Promise<void> {
  try {
    await (await open(file, 'r+')).close();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ENOENT') throw fileError(`Open the metadata database ${file}`, cause);
  }
}

function unexpected(answer: Answer): CollectiveError {
  return new CollectiveError('internal', `Use the metadata database: its thread answered '${answer.kind}'`);
}
