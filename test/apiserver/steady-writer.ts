/** Somebody who writes and reads without pause while things happen to the member; the first call that fails is kept. */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { Member } from '@collective/client';
import { seededFile } from '../integration/random-file.ts';

const FILE_BYTES = 64 * 1024;
/** Steady, not as fast as can be: what counts is that no moment passes without a write. */
const WRITE_EVERY_MS = 50;
const KEPT_FILES = 16;

export class SteadyWriter {
  readonly #session: Member;
  readonly #running: Promise<void>;
  #isOver = false;
  #failure: unknown;
  written = 0;

  constructor(session: Member) {
    this.#session = session;
    this.#running = this.#run().catch((thrown: unknown) => {
      this.#failure = thrown;
    });
  }

  /** Fails with what failed. */
  async stop(): Promise<number> {
    this.#isOver = true;
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure;
    assert.ok(this.written > 0, 'something was written');
    return this.written;
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      const path = `/steady-${this.written % KEPT_FILES}`;
      const content = seededFile(this.written, FILE_BYTES);
      await this.#session.files.write(path, content);
      assert.ok(content.equals(await this.#session.files.readAll(path)), `${path} is what was written`);
      this.written++;
      await delay(WRITE_EVERY_MS);
    }
  }
}
