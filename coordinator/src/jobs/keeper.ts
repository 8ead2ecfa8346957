/**
 * One thing that a member does by itself in the background, over and over: a round of work, then rest until its time or
 * until somebody pokes it. Rounds never overlap; one that fails is tried again with growing pauses and tells why; the
 * end waits for the step under way. What a round does is the job's own business: bounded steps that may be cut off
 * between any two and begun again.
 */
import type { Clock, Timer } from '@collective/base/clock';

export interface KeeperOptions {
  readonly clock: Clock;
  /** A word for status and metrics, as 'repair'. */
  readonly name: string;
  /** Rest between rounds when nobody pokes. */
  readonly everyMs: number;
  /** One round; ends early when the signal is aborted. */
  work(round: Round): Promise<void>;
  onFailure(name: string, error: unknown): void;
}

/** What a round is given: when to stop, and where to say how far it is. */
export interface Round {
  readonly signal: AbortSignal;
  /** `total` undefined: not known. */
  progress(done: number, total: number | undefined, unit: 'bytes' | 'chunks' | 'files' | 'nodes'): void;
}

export interface KeeperFigures {
  readonly name: string;
  readonly state: 'resting' | 'working' | 'failing';
  readonly done: number;
  readonly total: number | undefined;
  readonly unit: string;
  readonly rounds: number;
  /** On boot time. */
  readonly beganMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly failure: string | undefined;
}

const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 60_000;

export class Keeper implements AsyncDisposable {
  readonly #options: KeeperOptions;
  readonly #stop = new AbortController();
  #timer: Timer | undefined;
  #round: Promise<void> | undefined;
  #poked = false;
  #pauseMs = RETRY_MIN_MS;
  #figures: Omit<KeeperFigures, 'name' | 'state'> = {
    done: 0,
    total: undefined,
    unit: '',
    rounds: 0,
    beganMs: undefined,
    endedMs: undefined,
    failure: undefined,
  };

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#restFor(options.everyMs);
  }

  get figures(): KeeperFigures {
    const working = this.#round !== undefined;
    const state = this.#figures.failure !== undefined ? 'failing' : working ? 'working' : 'resting';
    return { ...this.#figures, name: this.#options.name, state };
  }

  /** There is work: a round begins now, or right after the one under way. */
  poke(): void {
    if (this.#stop.signal.aborted) return;
    if (this.#round !== undefined) this.#poked = true;
    else if (this.#figures.failure === undefined) this.#begin();
  }

  /** No round begins any more; resolves when the one under way has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#timer?.cancel();
    await this.#round;
  }

  #begin(): void {
    this.#timer?.cancel();
    this.#poked = false;
    this.#round = this.#runRound().finally(() => {
      this.#round = undefined;
      if (this.#stop.signal.aborted) return;
      const failed = this.#figures.failure !== undefined;
      if (this.#poked && !failed) this.#begin();
      else this.#restFor(failed ? this.#pauseMs : this.#options.everyMs);
    });
  }

  async #runRound(): Promise<void> {
    const { clock, name, work, onFailure } = this.#options;
    this.#figures = { ...this.#figures, beganMs: clock.bootMs(), endedMs: undefined, done: 0, total: undefined };
    try {
      await work({
        signal: this.#stop.signal,
        progress: (done, total, unit) => {
          this.#figures = { ...this.#figures, done, total, unit };
        },
      });
      this.#pauseMs = RETRY_MIN_MS;
      this.#figures = { ...this.#figures, failure: undefined };
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.#pauseMs = Math.min(RETRY_MAX_MS, this.#figures.failure === undefined ? RETRY_MIN_MS : this.#pauseMs * 2);
      this.#figures = { ...this.#figures, failure: error instanceof Error ? error.message : String(error) };
      onFailure(name, error);
    } finally {
      this.#figures = { ...this.#figures, endedMs: clock.bootMs(), rounds: this.#figures.rounds + 1 };
    }
  }

  #restFor(pauseMs: number): void {
    this.#timer = this.#options.clock.setTimer(pauseMs, () => this.#begin(), { background: true });
  }
}
