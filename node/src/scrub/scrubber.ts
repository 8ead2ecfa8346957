/**
 * Reads everything that is here once within a period, so that bytes that rot are found while other replicas are whole (D8). It goes
 * from the oldest segment to the youngest of when the pass began: what was written since is read by the next pass, and for the first
 * time by `first-reading.ts`. What compaction copies meanwhile it has read and compared itself.
 *
 * One piece at a time and then a pause: whoever reads or writes finds the disk idle nearly always. A pass that somebody asked for
 * takes no pauses.
 */
import { type Clock, type Timestamp, wallMs } from '@collective/base/clock';
import type { Disk } from '@collective/base/disk';
import type { Log } from '@collective/base/log';
import type { ScrubReport } from '@collective/protocol/gen/node';
import type { VerifiedPiece } from '../chunk-store/segment-verifier.ts';
import { PAUSE_MS_MAX, Pauses } from './pauses.ts';
import { bytesLeft, bytesPerSecond, waitBeforePassMs } from './scrub-pace.ts';
import { loadScrubState, type ScrubState, saveScrubState } from './scrub-state.ts';

/** One chunk or some small ones: what a read beside it may have to wait for. */
const PACED_PIECE_BYTES = 1024 * 1024;
/** Large enough for a disk, small enough to be still in the processor's cache when it is compared. */
const HURRIED_PIECE_BYTES = 2 * 1024 * 1024;
const SAVE_EVERY_MS = 5 * 60 * 1000;
/** After a segment that could not be read; then the next is tried. */
const FAILED_PAUSE_MS = 60_000;

export interface ScrubSource {
  /** In the order of their numbers. */
  segments(): readonly { readonly segment: number; readonly liveBytes: number }[];
  verify(segment: number, pieceBytes: number): AsyncGenerator<VerifiedPiece, void, undefined>;
}

export interface ScrubberOptions {
  readonly source: ScrubSource;
  /** Chunks found damaged since the disk was first used. */
  damagedFound(): number;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
}

interface Pass {
  readonly beganMs: number;
  readonly upTo: number;
  readonly hurried: boolean;
  /** Found since the disk was first used, when it began. */
  readonly damagedBefore: number;
  through: number;
  verifiedBytes: number;
}

export class Scrubber implements AsyncDisposable {
  readonly #options: ScrubberOptions;
  readonly #pauses: Pauses;
  readonly #running: Promise<void>;
  #periodMs = 0;
  #pass: Pass | undefined;
  #lastBeganMs: number | undefined;
  #lastEndedMs: number | undefined;
  /** The last whole pass. */
  #last: ScrubState['last'];
  #ended = false;
  #verifiedBytes = 0;
  #rememberedBytes = 0;
  #savedMs = 0;

  static async open(options: ScrubberOptions): Promise<Scrubber> {
    return new Scrubber(options, await loadScrubState(options.disk, options.log));
  }

  private constructor(options: ScrubberOptions, { beganMs, position, endedMs, last }: ScrubState) {
    this.#options = options;
    this.#pauses = new Pauses(options.clock);
    this.#lastBeganMs = beganMs;
    this.#lastEndedMs = endedMs;
    this.#last = last;
    if (beganMs !== undefined && position !== undefined) this.#pass = { beganMs, ...position };
    this.#running = this.#run();
  }

  /** Since the start. */
  get verifiedBytes(): number {
    return this.#verifiedBytes;
  }

  /** Of them, what the kernel may have answered from its memory. */
  get rememberedBytes(): number {
    return this.#rememberedBytes;
  }

  /** 0: only when asked for. */
  setPeriod(seconds: number): void {
    if (seconds * 1000 === this.#periodMs) return;
    this.#periodMs = seconds * 1000;
    this.#pauses.wake();
  }

  /** A new pass, at full speed. One that is under way is given up for it. */
  beginNow(): void {
    this.#begin(true);
    this.#pauses.wake();
  }

  report(): ScrubReport {
    const pass = this.#pass;
    const lastEnded = timestampOf(this.#lastEndedMs);
    const results = {
      lastBegan: timestampOf(this.#last?.beganMs),
      lastEnded,
      lastDamaged: this.#last?.damaged ?? 0,
      damaged: this.#options.damagedFound(),
    };
    if (pass === undefined) return { passBegan: undefined, verifiedBytes: 0, totalBytes: 0, ...results };
    const totalBytes = pass.verifiedBytes + bytesLeft(this.#options.source.segments(), pass);
    return { passBegan: timestampOf(pass.beganMs), verifiedBytes: pass.verifiedBytes, totalBytes, ...results };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#pauses.wake();
    await this.#running;
  }

  /** Never throws. */
  async #run(): Promise<void> {
    const { clock } = this.#options;
    while (!this.#ended) {
      const pass = this.#pass;
      if (pass !== undefined && (pass.hurried || this.#periodMs > 0)) {
        await this.#step(pass);
        continue;
      }
      const waitMs =
        this.#periodMs > 0 ? waitBeforePassMs(this.#lastBeganMs, this.#periodMs, wallMs(clock)) : PAUSE_MS_MAX;
      if (waitMs === 0) this.#begin(false);
      else await this.#pauses.pause(waitMs);
    }
    await this.#save();
  }

  #begin(hurried: boolean): void {
    const upTo = this.#options.source.segments().at(-1)?.segment ?? 0;
    const beganMs = wallMs(this.#options.clock);
    this.#lastBeganMs = beganMs;
    this.#pass = { beganMs, upTo, hurried, damagedBefore: this.#options.damagedFound(), through: 0, verifiedBytes: 0 };
    // A restart shall not forget what somebody asked for.
    if (hurried) this.#savedMs = Number.NEGATIVE_INFINITY;
    this.#options.log.info({ bytes: bytesLeft(this.#options.source.segments(), this.#pass), hurried }, 'scrub began');
  }

  /** The next segment of the pass, or its end. */
  async #step(pass: Pass): Promise<void> {
    const { source, clock, log } = this.#options;
    const next = source.segments().find(({ segment }) => segment > pass.through && segment <= pass.upTo);
    if (next === undefined) {
      this.#pass = undefined;
      this.#lastEndedMs = wallMs(clock);
      this.#last = {
        beganMs: pass.beganMs,
        damaged: Math.max(0, this.#options.damagedFound() - pass.damagedBefore),
      };
      log.info({ bytes: pass.verifiedBytes, damaged: this.#options.damagedFound() }, 'scrub ended');
      await this.#save();
      return;
    }
    try {
      if (!(await this.#verify(pass, next.segment))) return;
    } catch (error) {
      if (this.#ended) return;
      log.error({ segment: next.segment, err: error }, 'segment not scrubbed');
      await this.#pauses.pause(FAILED_PAUSE_MS);
    }
    pass.through = next.segment;
    if (clock.bootMs() - this.#savedMs >= SAVE_EVERY_MS) await this.#save();
  }

  /** False if the pass was given up meanwhile. */
  async #verify(pass: Pass, segment: number): Promise<boolean> {
    const { source, log } = this.#options;
    const isCurrent = (): boolean => this.#pass === pass && !this.#ended;
    for await (const { bytes, damaged, isDirect } of source.verify(
      segment,
      pass.hurried ? HURRIED_PIECE_BYTES : PACED_PIECE_BYTES,
    )) {
      if (!isCurrent()) return false;
      pass.verifiedBytes += bytes;
      this.#verifiedBytes += bytes;
      if (!isDirect) {
        if (this.#rememberedBytes === 0)
          log.warn({ segment }, 'scrub may read what the kernel remembers: the file system cannot read past it');
        this.#rememberedBytes += bytes;
      }
      if (damaged > 0) log.warn({ segment, damaged }, 'scrub found damage');
      if (!pass.hurried) await this.#rest(pass, bytes);
      if (!isCurrent()) return false;
    }
    return true;
  }

  /** As long as so many bytes are to take. */
  async #rest(pass: Pass, bytes: number): Promise<void> {
    const { clock } = this.#options;
    // Without a period the pass waits where it is.
    while (this.#periodMs === 0 && this.#pass === pass && !this.#ended) await this.#pauses.pause(PAUSE_MS_MAX);
    if (this.#periodMs === 0) return;
    const facts = { beganMs: pass.beganMs, bytesLeft: bytesLeft(this.#options.source.segments(), pass) };
    await this.#pauses.pause((bytes / bytesPerSecond(facts, this.#periodMs, wallMs(clock))) * 1000);
  }

  async #save(): Promise<void> {
    const { disk, clock, log } = this.#options;
    this.#savedMs = clock.bootMs();
    const pass = this.#pass;
    try {
      await saveScrubState(disk, {
        ...(this.#lastBeganMs === undefined ? {} : { beganMs: this.#lastBeganMs }),
        ...(this.#lastEndedMs === undefined ? {} : { endedMs: this.#lastEndedMs }),
        ...(this.#last === undefined ? {} : { last: this.#last }),
        ...(pass === undefined ? {} : { position: positionOf(pass) }),
      });
    } catch (error) {
      log.warn({ err: error }, 'position of the scrub not kept');
    }
  }
}

function positionOf({ through, upTo, verifiedBytes, hurried, damagedBefore }: Pass): ScrubState['position'] {
  return { through, upTo, verifiedBytes, hurried, damagedBefore };
}

function timestampOf(ms: number | undefined): Timestamp | undefined {
  return ms === undefined ? undefined : { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 };
}
