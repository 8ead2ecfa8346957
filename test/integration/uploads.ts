/**
 * Work that goes on while processes are killed: one large file that grows by many commits, and a stream of small ones.
 * What was acknowledged must be there afterwards, byte for byte; what failed is not there, or whole.
 */
import assert from 'node:assert/strict';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { SystemClock } from '@collective/base/system-clock';
import type { Member } from '@collective/client';
import { until } from './cli-world.ts';
import { seededBytes, sha256Of } from './random-file.ts';

const UPLOAD_ENDS_WITHIN_MS = 120_000;
const clock = new SystemClock();

export interface Upload {
  readonly path: string;
  readonly seed: number;
  readonly sizeBytes: number;
  outcome: 'under way' | 'acknowledged' | CollectiveError;
}

/** Runs until `stop` is called, or until it goes out of scope. */
export class Uploads {
  readonly all: Upload[] = [];
  storedBytes = 0;
  readonly #session: Member;
  readonly #folder: string;
  readonly #restMs: number;
  #stopped = false;
  readonly #ended: Promise<unknown>;

  /** `restMs`: after each small file, so that what is to end beside the load ends on a slow machine too. */
  constructor(session: Member, folder: string, largeBytes: number, { restMs = 0 }: { readonly restMs?: number } = {}) {
    this.#session = session;
    this.#folder = folder;
    this.#restMs = restMs;
    this.#ended = Promise.all([this.#store(1, largeBytes), ...[2, 3, 4].map((from) => this.#smallOnes(from))]);
    // Looked at when it is stopped.
    this.#ended.catch(() => undefined);
  }

  get acknowledged(): Upload[] {
    return this.all.filter(({ outcome }) => outcome === 'acknowledged');
  }

  /** No new small file is begun; resolves when all that were begun have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    let hasEnded = false;
    const note = (): void => {
      hasEnded = true;
    };
    this.#ended.then(note, note);
    await until(
      () => hasEnded,
      'every upload has ended',
      UPLOAD_ENDS_WITHIN_MS,
      () => JSON.stringify(this.all.filter(({ outcome }) => outcome === 'under way')),
    );
    await this.#ended;
  }

  /** For a test that fails: nothing more is begun. */
  [Symbol.dispose](): void {
    this.#stopped = true;
  }

  async #smallOnes(from: number): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      await this.#store(from * 10_000 + i, 1 + ((i * 7919) % 100_000));
      if (this.#restMs > 0) await sleep(clock, this.#restMs);
    }
  }

  async #store(seed: number, sizeBytes: number): Promise<void> {
    const upload: Upload = { path: `${this.#folder}/${seed}.raw`, seed, sizeBytes, outcome: 'under way' };
    this.all.push(upload);
    let before = 0;
    const onProgress = ({ storedBytes }: { storedBytes: number }): void => {
      this.storedBytes += storedBytes - before;
      before = storedBytes;
    };
    try {
      await this.#session.files.write(upload.path, seededBytes(seed, sizeBytes), { onProgress });
      upload.outcome = 'acknowledged';
    } catch (thrown) {
      assert.ok(thrown instanceof CollectiveError, `an upload fails with a CollectiveError: ${String(thrown)}`);
      upload.outcome = thrown;
    }
  }
}

/** Acknowledged: there, byte for byte. Failed: not there, or whole; a name never shows a part. */
export async function checkUploads(session: Member, uploads: readonly Upload[]): Promise<void> {
  for (const { path, seed, sizeBytes, outcome } of uploads) {
    if (outcome !== 'acknowledged' && !(await session.files.exists(path))) continue;
    const attributes = await session.files.stat(path);
    assert.equal(attributes.sizeBytes, sizeBytes, `size of ${path}`);
    const stored = await sha256Of(session.files.read(path));
    assert.equal(stored, await sha256Of(seededBytes(seed, sizeBytes)), `SHA-256 of ${path}`);
  }
}
