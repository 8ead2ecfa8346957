/**
 * Reads what was written lately for the first time within one period (D8): a pass of the scrub goes from old to young, so that a chunk
 * that is written while one is under way would wait for the end of the next, nearly two periods. Every half period all that was written
 * since the last time is read, over most of the half period that follows. What compaction wrote counts as new: it was compared before it
 * was written, and is compared here as the disk has it.
 *
 * What was there when a store is first opened by a version that knows this, or when its small file was lost, is left to the pass.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import type { Log } from '@collective/base/log';
import { PAUSE_MS_MAX, Pauses } from './pauses.ts';
import { bytesLeft, bytesPerSecond, waitBeforePassMs } from './scrub-pace.ts';
import type { ScrubSource } from './scrubber.ts';

const STATE_FILE = 'first-reading.json';
const FORMAT = 1;
const PIECE_BYTES = 1024 * 1024;
const SAVE_EVERY_MS = 5 * 60 * 1000;

export interface FirstReadingOptions {
  readonly source: ScrubSource;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
}

interface State {
  /** Segments up to this one have been read since they were written, or are left to the pass. */
  readonly through: number;
  /** The round under way, or the last one, ends with this segment. */
  readonly upTo: number;
  /** When that round began. */
  readonly beganMs: number;
}

export class FirstReading implements AsyncDisposable {
  readonly #options: FirstReadingOptions;
  readonly #pauses: Pauses;
  readonly #running: Promise<void>;
  #state: State;
  #halfMs = 0;
  #verifiedBytes = 0;
  #savedMs: number;
  #ended = false;

  static async open(options: FirstReadingOptions): Promise<FirstReading> {
    const { source, clock, disk, log } = options;
    const youngest = youngestOf(source);
    const kept = await load(disk, log);
    if (kept !== undefined) return new FirstReading(options, kept);
    const state = { through: youngest, upTo: youngest, beganMs: wallMs(clock) };
    await save(disk, state, log);
    return new FirstReading(options, state);
  }

  private constructor(options: FirstReadingOptions, state: State) {
    this.#options = options;
    this.#pauses = new Pauses(options.clock);
    this.#state = state;
    this.#savedMs = options.clock.bootMs();
    this.#running = this.#run();
  }

  /** Since the start. */
  get verifiedBytes(): number {
    return this.#verifiedBytes;
  }

  /** That of the scrub; 0: nothing is read. */
  setPeriod(seconds: number): void {
    const halfMs = (seconds * 1000) / 2;
    if (halfMs === this.#halfMs) return;
    this.#halfMs = halfMs;
    this.#pauses.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#pauses.wake();
    await this.#running;
  }

  /** Never throws. */
  async #run(): Promise<void> {
    const { source, clock } = this.#options;
    while (!this.#ended) {
      const { through, upTo, beganMs } = this.#state;
      const next = source.segments().find(({ segment }) => segment > through && segment <= upTo);
      if (this.#halfMs === 0) await this.#pauses.pause(PAUSE_MS_MAX);
      else if (next !== undefined) await this.#read(next.segment);
      else if (waitBeforePassMs(beganMs, this.#halfMs, wallMs(clock)) > 0)
        await this.#pauses.pause(waitBeforePassMs(beganMs, this.#halfMs, wallMs(clock)));
      else {
        this.#state = { through: upTo, upTo: Math.max(upTo, youngestOf(source)), beganMs: wallMs(clock) };
        await this.#save();
      }
    }
    await this.#save();
  }

  async #read(segment: number): Promise<void> {
    const { source, clock, log } = this.#options;
    try {
      for await (const { bytes, damaged } of source.verify(segment, PIECE_BYTES)) {
        this.#verifiedBytes += bytes;
        if (damaged > 0) log.warn({ segment, damaged }, 'first reading found damage');
        const facts = { beganMs: this.#state.beganMs, bytesLeft: bytesLeft(source.segments(), this.#state) };
        const rate = bytesPerSecond(facts, this.#halfMs, wallMs(clock));
        await this.#pauses.pause((bytes / rate) * 1000);
        while (this.#halfMs === 0 && !this.#ended) await this.#pauses.pause(PAUSE_MS_MAX);
        if (this.#ended) return;
      }
    } catch (error) {
      // The next pass tries it again.
      if (!this.#ended) log.error({ segment, err: error }, 'segment not read for the first time');
    }
    this.#state = { ...this.#state, through: segment };
    if (clock.bootMs() - this.#savedMs >= SAVE_EVERY_MS) await this.#save();
  }

  async #save(): Promise<void> {
    const { disk, clock, log } = this.#options;
    this.#savedMs = clock.bootMs();
    await save(disk, this.#state, log);
  }
}

function youngestOf(source: ScrubSource): number {
  return source.segments().at(-1)?.segment ?? 0;
}

async function load(disk: Disk, log: Log): Promise<State | undefined> {
  try {
    const text = await readWhole(disk, STATE_FILE);
    if (text === undefined) return undefined;
    const { format, through, upTo, beganMs } = JSON.parse(text.toString('utf8')) ?? {};
    if (format === FORMAT && [through, upTo, beganMs].every((value) => Number.isSafeInteger(value) && value >= 0))
      return { through, upTo, beganMs };
    log.warn({ file: STATE_FILE }, 'position of the first reading not understood, it begins with what comes');
  } catch (error) {
    log.warn({ file: STATE_FILE, err: error }, 'position of the first reading not readable, it begins with what comes');
  }
  return undefined;
}

async function save(disk: Disk, state: State, log: Log): Promise<void> {
  try {
    await replaceWhole(disk, STATE_FILE, Buffer.from(`${JSON.stringify({ format: FORMAT, ...state })}\n`));
  } catch (error) {
    log.warn({ err: error }, 'position of the first reading not kept');
  }
}
