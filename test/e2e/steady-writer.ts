/**
 * Somebody who works while the cluster is in trouble: writes a small file, reads it back, and so on without pause, each file under one
 * of a few names. Steady and not as fast as can be: what counts is that no moment passes without a write, and that volumes do
 * not fill. The first error ends it, and whoever waits for progress hears of it.
 */
import assert from 'node:assert/strict';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import type { Member } from '@collective/client';
import { seededFile } from '../integration/random-file.ts';
import { until } from '../until.ts';

const FILE_BYTES = 64 * 1024;
const WRITE_EVERY_MS = 100;
const KEPT_FILES = 32;
const PROGRESS_WITHIN_MS = 240_000;

const clock = new SystemClock();

export interface WriterPace {
  readonly fileBytes?: number;
  readonly everyMs?: number;
}

export class SteadyWriter implements AsyncDisposable {
  readonly #session: Member;
  readonly #fileBytes: number;
  readonly #everyMs: number;
  readonly #running: Promise<void>;
  readonly #stop = new AbortController();
  #written = 0;
  #longestMs = 0;
  #isOver = false;
  #failure: unknown;

  constructor(session: Member, { fileBytes = FILE_BYTES, everyMs = WRITE_EVERY_MS }: WriterPace = {}) {
    this.#session = session;
    this.#fileBytes = fileBytes;
    this.#everyMs = everyMs;
    this.#running = this.#run().catch((thrown: unknown) => {
      this.#failure = thrown;
    });
  }

  get written(): number {
    return this.#written;
  }

  /** That one file took, from the first byte until it was read back. */
  get longestMs(): number {
    return this.#longestMs;
  }

  /** Waits until so many more files are written and read back. */
  async progress(files = 5, withinMs = PROGRESS_WITHIN_MS): Promise<void> {
    const goal = this.#written + files;
    await until(
      () => {
        this.#throwFailure();
        return this.#written >= goal;
      },
      `${files} more files are written`,
      withinMs,
      () => `${this.#written} files`,
    );
  }

  /** What the test waits for meanwhile; an error of the writer ends the wait. */
  async during<Result>(action: Promise<Result>): Promise<Result> {
    const failed = this.#running.then(() => {
      this.#throwFailure();
      return action;
    });
    return await Promise.race([action, failed]);
  }

  /** Ends the work, and reads everything again through `session`; answers how many files were written. */
  async finish(session: Member): Promise<number> {
    this.#isOver = true;
    await this.#running;
    this.#throwFailure();
    assert.ok(this.#written > 0);
    for (let number = Math.max(0, this.#written - KEPT_FILES); number < this.#written; number++) {
      const read = await session.files.readAll(pathOf(number));
      assert.ok(seededFile(number, this.#fileBytes).equals(read), `file ${number} of ${this.#written}`);
    }
    return this.#written;
  }

  /** What is under way is given up: after a failure nobody should wait until the cluster serves it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!this.#isOver) {
      const content = seededFile(this.#written, this.#fileBytes);
      const path = pathOf(this.#written);
      const beganMs = clock.bootMs();
      await this.#session.files.write(path, content, { signal });
      assert.ok(content.equals(await this.#session.files.readAll(path, { signal })), `${path} is what was written`);
      this.#longestMs = Math.max(this.#longestMs, Math.round(clock.bootMs() - beganMs));
      this.#written++;
      await sleep(clock, this.#everyMs);
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function pathOf(number: number): string {
  return `/steady-${number % KEPT_FILES}`;
}
