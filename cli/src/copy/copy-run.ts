/**
 * What all directions of a copy share: so many files at once and no more, large ones fewer, one tally for the progress
 * line, and failures that do not stop the others. A copy of a tree holds the files under way in memory, not the tree.
 */
import type { Files } from '@collective/client';
import { isPipeClosed } from '../output/pipe-closed.ts';
import type { ProgressTotals } from '../output/progress.ts';

export interface CopyOptions {
  readonly recursive: boolean;
  /** Mode and time of modification. */
  readonly preserve: boolean;
  readonly replace: boolean;
  /** Skips files that are there already (same size and time). An interrupted large file goes on in any case. */
  readonly continue: boolean;
  /** Follows symbolic links of the source. */
  readonly dereference: boolean;
  /** Within the member: owner and extended attributes too, since the source is to go. */
  readonly everything?: boolean;
}

export interface CopyObserver {
  /** A file or directory failed; the others go on. */
  failed(thrown: unknown): void;
  progressed(totals: ProgressTotals): void;
}

/** Files under way at once: small ones cost a round trip each, so many of them fill the line. */
const FILES_AT_ONCE = 24;
/** Large files each read ahead tens of MiB. */
const LARGE_FILES_AT_ONCE = 3;
export const LARGE_FILE_BYTES = 4 * 1024 * 1024;

export class CopyRun {
  readonly files: Files;
  readonly options: CopyOptions;
  readonly signal: AbortSignal;
  readonly #observer: CopyObserver;
  readonly #all = new Slots(FILES_AT_ONCE);
  readonly #large = new Slots(LARGE_FILES_AT_ONCE);
  #doneBytes = 0;
  #doneFiles = 0;
  #totalBytes: number | undefined;
  #totalFiles: number | undefined;

  constructor(files: Files, options: CopyOptions, signal: AbortSignal, observer: CopyObserver) {
    this.files = files;
    this.options = options;
    this.signal = signal;
    this.#observer = observer;
  }

  expect(totalBytes: number, totalFiles: number): void {
    this.#totalBytes = (this.#totalBytes ?? 0) + totalBytes;
    this.#totalFiles = (this.#totalFiles ?? 0) + totalFiles;
    this.#draw();
  }

  addBytes(count: number): void {
    this.#doneBytes += count;
    this.#draw();
  }

  /** Runs one file when there is room; resolves when it has begun, so that a walk does not run far ahead. */
  async start(sizeBytes: number, copy: () => Promise<void>): Promise<void> {
    const large = sizeBytes > LARGE_FILE_BYTES;
    await this.#all.take(this.signal);
    if (large) await this.#large.take(this.signal);
    void this.#runOne(copy).finally(() => {
      if (large) this.#large.give();
      this.#all.give();
    });
  }

  /** Runs what must be done before going on, e.g. making a directory; false: it failed and was reported. */
  async step(act: () => Promise<void>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (thrown) {
      if (this.signal.aborted || isPipeClosed(thrown)) throw thrown;
      this.#observer.failed(thrown);
      return false;
    }
  }

  /** Resolves when nothing is under way any more. */
  async idle(): Promise<void> {
    await this.#all.idle();
    this.signal.throwIfAborted();
  }

  async #runOne(copy: () => Promise<void>): Promise<void> {
    try {
      await copy();
      this.#doneFiles++;
      this.#draw();
    } catch (thrown) {
      // An interrupted run reports itself once, in idle().
      if (this.signal.aborted) return;
      this.#observer.failed(thrown);
    }
  }

  #draw(): void {
    this.#observer.progressed({
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      doneFiles: this.#doneFiles,
      totalFiles: this.#totalFiles,
    });
  }
}

class Slots {
  readonly #count: number;
  #taken = 0;
  #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#count = count;
  }

  async take(signal: AbortSignal): Promise<void> {
    while (this.#taken >= this.#count) await this.#changed();
    signal.throwIfAborted();
    this.#taken++;
  }

  give(): void {
    this.#taken--;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  async idle(): Promise<void> {
    while (this.#taken > 0) await this.#changed();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
