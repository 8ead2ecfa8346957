/** One SQLite worker thread and the answers that are awaited from it. Whatever ends it, no question stays unanswered. */
import { Worker } from 'node:worker_threads';
import { CollectiveError } from '@collective/base/errors';
import type { Answer, Request, WorkerSetup } from './sqlite-messages.ts';

type Question = Request extends infer R ? (R extends Request ? Omit<R, 'id'> : never) : never;

interface Pending {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

export class SqliteThread {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  /** Why it answers nothing any more. */
  #end: CollectiveError | undefined;

  constructor(setup: WorkerSetup) {
    const what = `Use the metadata database ${setup.file}`;
    this.#worker = new Worker(new URL('./sqlite-worker.ts', import.meta.url), { workerData: setup });
    this.#worker.on('message', (answer: Answer) => {
      const pending = this.#pending.get(answer.id);
      this.#pending.delete(answer.id);
      if (answer.kind === 'failed') pending?.reject(new CollectiveError(answer.code, `${what}: ${answer.message}`));
      else pending?.resolve(answer);
    });
    this.#worker.on('error', (cause) => {
      this.#refuse(new CollectiveError('internal', `${what}: its ${setup.role} thread failed`, { cause }));
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#refuse(new CollectiveError('internal', `${what}: its ${setup.role} thread has ended`));
        resolve();
      });
    });
  }

  ask(question: Question): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) {
        reject(this.#end);
        return;
      }
      const id = this.#nextId++;
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ ...question, id });
    });
  }

  /** Closes the database, after what was asked before. */
  async end(): Promise<void> {
    if (this.#end === undefined) await this.ask({ kind: 'close' });
    await this.#ended;
  }

  #refuse(error: CollectiveError): void {
    this.#end ??= error;
    for (const { reject } of this.#pending.values()) reject(this.#end);
    this.#pending.clear();
  }
}
