/**
 * What people do all day, by several of them at once: files are written, written anew, appended to, cut, renamed over each
 * other, read and removed, each person in a folder of their own, so that a model can tell what must be there afterwards.
 * Every call must end well: the session waits out what happens to the processes.
 */
import assert from 'node:assert/strict';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { Member } from '@collective/client';
import { until } from './cli-world.ts';
import { seededFile } from './random-file.ts';

/** Names in a folder. */
const NAMES = 40;
const READ_TRIES_MAX = 5;
const BYTES_MAX = 400_000;
const ENDS_WITHIN_MS = 180_000;

type What = 'write' | 'append' | 'cut' | 'rename' | 'remove' | 'read';
/** How often each is done, in shares of all. */
const SHARES: readonly (readonly [What, number])[] = [
  ['write', 35],
  ['append', 15],
  ['cut', 5],
  ['rename', 10],
  ['remove', 15],
  ['read', 20],
];

const clock = new SystemClock();

export interface LoadHabits {
  /** Between two calls of one person; the default is none. */
  readonly pauseMs?: number;
}

export class MixedLoad {
  /** Reads that were tried again. */
  unavailable = 0;
  readonly counts = new Map<What, number>();
  readonly #session: Member;
  readonly #files = new Map<string, Buffer>();
  readonly #pauseMs: number;
  readonly #ended: Promise<unknown>;
  #stopped = false;
  #failure: unknown;

  private constructor(session: Member, folders: readonly string[], seed: number, { pauseMs = 0 }: LoadHabits) {
    this.#session = session;
    this.#pauseMs = pauseMs;
    this.#ended = Promise.all(folders.map((folder, i) => this.#work(folder, new SeededRandom(seed + i)))).catch(
      (failure: unknown) => {
        this.#failure = failure;
        this.#stopped = true;
      },
    );
  }

  /** `people` of them begin at once, in folders that are made in `folder`. */
  static async start(
    session: Member,
    folder: string,
    people: number,
    seed: number,
    habits: LoadHabits = {},
  ): Promise<MixedLoad> {
    const folders = Array.from({ length: people }, (_, i) => `${folder}/${i}`);
    for (const name of folders) await session.files.mkdir(name, { recursive: true });
    return new MixedLoad(session, folders, seed, habits);
  }

  /** What must be there, by path. */
  get files(): ReadonlyMap<string, Buffer> {
    return this.#files;
  }

  get calls(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Nothing new is begun; throws what went wrong in a call. */
  async stop(): Promise<void> {
    this.#stopped = true;
    let hasEnded = false;
    void this.#ended.then(() => {
      hasEnded = true;
    });
    await until(() => hasEnded, 'every call of the load has ended', ENDS_WITHIN_MS);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #work(folder: string, random: SeededRandom): Promise<void> {
    const { files } = this.#session;
    while (!this.#stopped) {
      if (this.#pauseMs > 0) await sleep(clock, this.#pauseMs);
      const path = `${folder}/${randomBelow(random, NAMES)}`;
      const before = this.#files.get(path);
      const what = before === undefined ? 'write' : pick(random);
      const bytes = seededFile(randomBelow(random, 1_000_000), 1 + randomBelow(random, BYTES_MAX));
      if (what === 'write') {
        await files.write(path, [bytes]);
        this.#files.set(path, bytes);
      } else if (before === undefined) continue;
      else if (what === 'append') {
        const piece = bytes.subarray(0, 20_000);
        await using file = await files.open(path, { access: 'write' });
        await file.write(before.length, piece);
        await file.sync();
        this.#files.set(path, Buffer.concat([before, piece]));
      } else if (what === 'cut') {
        const size = randomBelow(random, before.length + 1);
        await files.truncate(path, size);
        this.#files.set(path, before.subarray(0, size));
      } else if (what === 'rename') {
        const to = `${folder}/${randomBelow(random, NAMES)}`;
        await files.rename(path, to);
        this.#files.delete(path);
        this.#files.set(to, before);
      } else if (what === 'remove') {
        await files.remove(path, { permanent: randomBelow(random, 2) === 0 });
        this.#files.delete(path);
      } else await this.#read(path, before);
      this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
    }
  }

  /** Other than a write, a read does not wait for ever: who wants the file tries again. */
  async #read(path: string, wanted: Buffer): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        assert.ok((await this.#session.files.readAll(path)).equals(wanted), `${path} reads as it was written`);
        return;
      } catch (thrown) {
        const isAway = thrown instanceof CollectiveError && thrown.code === 'unavailable';
        if (!isAway || tries === READ_TRIES_MAX) throw thrown;
        this.unavailable += 1;
      }
    }
  }

  /** Nothing is missing, nothing is there that should not be, and every byte is right. */
  async check(session: Member, folder: string): Promise<void> {
    const found: string[] = [];
    for await (const { path, type } of session.files.walk(folder)) if (type === 'file') found.push(path);
    assert.deepEqual(found.sort(), [...this.#files.keys()].sort());
    for (const [path, bytes] of this.#files)
      assert.ok((await session.files.readAll(path)).equals(bytes), `${path} reads as it was written`);
  }
}

function pick(random: SeededRandom): What {
  let at = randomBelow(
    random,
    SHARES.reduce((sum, [, share]) => sum + share, 0),
  );
  for (const [what, share] of SHARES) {
    if (at < share) return what;
    at -= share;
  }
  throw new Error('shares do not sum up');
}
