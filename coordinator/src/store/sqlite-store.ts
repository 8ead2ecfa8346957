/**
 * The view in SQLite (M2, M3): this side only sends messages. Batches that wait while one is applied go together in the
 * next transaction. The WAL is checkpointed by us alone, in a thread of its own, never as a side effect of a commit.
 */
import { Worker } from 'node:worker_threads';
import { CollectiveError } from '@collective/base/errors';
import type { LogPosition } from '@collective/base/ids';
import type { Answer, Request, WorkerSetup } from './sqlite-messages.ts';
import type { KeyRange, Store, StoredRow } from './store.ts';

const FORMAT = 1;

type RequestBody = Request extends infer R ? (R extends Request ? Omit<R, 'id'> : never) : never;

export class SqliteStore implements Store {
  readonly applied: LogPosition;
  readonly #writer: Thread;
  readonly #reader: Thread;
  readonly #checkpointer: Thread;
  #waiting: { batch: Uint8Array; position: LogPosition; done: () => void; failed: (error: unknown) => void }[] = [];
  #applying = false;

  private constructor(threads: { writer: Thread; reader: Thread; checkpointer: Thread }, applied: LogPosition) {
    this.#writer = threads.writer;
    this.#reader = threads.reader;
    this.#checkpointer = threads.checkpointer;
    this.applied = applied;
  }

  /** `file`: path of the database; made if it is not there. Throws `version_too_new`, `store_damaged`. */
  static async open(file: string): Promise<SqliteStore> {
    const writer = new Thread(file);
    const opened = await writer.ask({ kind: 'open' });
    if (opened.kind !== 'opened') throw unexpected(opened);
    if (opened.format > FORMAT) {
      await writer.end();
      throw new CollectiveError(
        'version_too_new',
        `Open ${file}: it has format ${opened.format}, this program knows up to ${FORMAT}`,
      );
    }
    return new SqliteStore(
      { writer, reader: new Thread(file), checkpointer: new Thread(file) },
      opened.applied as LogPosition,
    );
  }

  async get(keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    const answer = await this.#reader.ask({ kind: 'get', keys });
    if (answer.kind !== 'values') throw unexpected(answer);
    return unpack(answer.lengths, answer.data);
  }

  async scan(ranges: readonly KeyRange[]): Promise<StoredRow[][]> {
    const answer = await this.#reader.ask({ kind: 'scan', ranges });
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

  apply(batch: Uint8Array, position: LogPosition): Promise<void> {
    return new Promise((done, failed) => {
      this.#waiting.push({ batch, position, done, failed });
      if (!this.#applying) void this.#applyAll();
    });
  }

  async checkpoint(): Promise<LogPosition | undefined> {
    const answer = await this.#checkpointer.ask({ kind: 'checkpoint' });
    if (answer.kind !== 'checkpointed') throw unexpected(answer);
    return answer.position < 0 ? undefined : (answer.position as LogPosition);
  }

  async close(): Promise<void> {
    await Promise.all([this.#reader.end(), this.#checkpointer.end()]);
    await this.#writer.end();
  }

  async #applyAll(): Promise<void> {
    this.#applying = true;
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        await this.#writer.ask({ kind: 'apply', batches: group.map(({ batch, position }) => ({ batch, position })) });
        for (const { done } of group) done();
      } catch (error) {
        for (const { failed } of group) failed(error);
      }
    }
    this.#applying = false;
  }
}

/** One worker thread and the answers that are awaited from it. */
class Thread {
  readonly #worker: Worker;
  #nextId = 1;
  #pending = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();

  constructor(file: string) {
    this.#worker = new Worker(new URL('./sqlite-worker.ts', import.meta.url), {
      workerData: { file } satisfies WorkerSetup,
    });
    this.#worker.on('message', (answer: Answer) => {
      const pending = this.#pending.get(answer.id);
      this.#pending.delete(answer.id);
      if (answer.kind === 'failed')
        pending?.reject(new CollectiveError('disk_failed', `Use the metadata database ${file}: ${answer.message}`));
      else pending?.resolve(answer);
    });
    const ended = (error: Error): void => {
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
    };
    this.#worker.on('error', (cause) =>
      ended(new CollectiveError('store_damaged', `Open the metadata database ${file}`, { cause })),
    );
    this.#worker.on('exit', () =>
      ended(new CollectiveError('internal', `Use the metadata database ${file}: its thread has ended`)),
    );
  }

  ask(body: RequestBody): Promise<Answer> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ ...body, id });
    });
  }

  async end(): Promise<void> {
    await this.ask({ kind: 'close' });
    await new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
  }
}

function unpack(lengths: Int32Array, data: Uint8Array): (Uint8Array | undefined)[] {
  const values: (Uint8Array | undefined)[] = new Array(lengths.length);
  let at = 0;
  for (const [i, length] of lengths.entries()) {
    if (length < 0) continue;
    values[i] = data.subarray(at, at + length);
    at += length;
  }
  return values;
}

function unexpected(answer: Answer): CollectiveError {
  return new CollectiveError('internal', `Use the metadata database: its thread answered '${answer.kind}'`);
}
