/**
 * Virtual time for tests and the simulator. Nothing happens by itself: whoever owns the FakeClock fires one event after
 * the other, ordered by time and then by creation, and between two events lets every promise run as far as it can. So one
 * order of calls gives one run, however fast the machine is.
 *
 * `ProcessClock` is what one simulated process sees: its own wall offset and drift, wall jumps, pauses, and an end after
 * which nothing that it waited for ever comes. Everything that reaches a simulated process (timers, disk completions,
 * messages) should be scheduled through its ProcessClock, so that pause and death hold for all of it.
 *
 * Real I/O must not take part: only promises, `queueMicrotask` and `process.nextTick` are drained between events.
 */
import { assert } from './assert.ts';
import type { Clock, Timer, Timestamp } from './clock.ts';

/** 2026-01-01T00:00:00Z: an ordinary moment, so that certificates and epochs look like real ones. */
const START_SECONDS = 1_767_225_600;
/** More events than this without time moving on is a loop that would never end. */
const EVENTS_AT_ONE_MOMENT_MAX = 1_000_000;

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly background: boolean;
  run: (() => void) | undefined;
}

export class FakeClock implements Clock {
  readonly #startSeconds: number;
  readonly #queue = new EventQueue();
  #elapsedMs = 0;
  #order = 0;
  #atThisMoment = 0;

  constructor(options: { startSeconds?: number } = {}) {
    this.#startSeconds = options.startSeconds ?? START_SECONDS;
  }

  /** Milliseconds of true time since the clock was made. */
  get elapsedMs(): number {
    return this.#elapsedMs;
  }

  now(): Timestamp {
    return timestampOf(this.#startSeconds, this.#elapsedMs);
  }

  bootMs(): number {
    return this.#elapsedMs;
  }

  setTimer(delayMs: number, fn: () => void, options: { background?: boolean } = {}): Timer {
    const event: Event = {
      atMs: this.#elapsedMs + Math.max(0, delayMs),
      order: this.#order++,
      background: options.background ?? false,
      run: fn,
    };
    this.#queue.add(event);
    return {
      cancel: () => {
        event.run = undefined;
      },
    };
  }

  defer(fn: () => void): void {
    this.setTimer(0, fn);
  }

  /** The clock of a process on a machine of its own. */
  process(options: ProcessClockOptions = {}): ProcessClock {
    return new ProcessClock(this, this.#startSeconds, options);
  }

  /** When the next event is due, in `elapsedMs`; undefined when nothing is waited for. */
  nextAtMs(): number | undefined {
    return this.#queue.first()?.atMs;
  }

  /** Whether only background timers are left. */
  get idle(): boolean {
    return !this.#queue.some((event) => !event.background);
  }

  /** Fires the next event and lets all promises run that follow from it. False when there is none. */
  async step(): Promise<boolean> {
    await promisesHaveRun();
    const event = this.#queue.take();
    if (event === undefined) return false;
    if (event.atMs > this.#elapsedMs) {
      this.#elapsedMs = event.atMs;
      this.#atThisMoment = 0;
    }
    this.#atThisMoment++;
    assert(this.#atThisMoment < EVENTS_AT_ONE_MOMENT_MAX, 'the events of one moment end');
    const run = event.run;
    event.run = undefined;
    run?.();
    await promisesHaveRun();
    return true;
  }

  /** Fires everything that is due now, without time moving on. */
  async settle(): Promise<void> {
    await this.advance(0);
  }

  /** Moves time on and fires everything that falls due on the way. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.#elapsedMs + byMs;
    await promisesHaveRun();
    for (let next = this.nextAtMs(); next !== undefined && next <= untilMs; next = this.nextAtMs()) await this.step();
    if (untilMs > this.#elapsedMs) {
      this.#elapsedMs = untilMs;
      this.#atThisMoment = 0;
    }
  }

  /** Moves time on until the promise has settled, and answers what it answered. */
  async finish<T>(promise: Promise<T>, options: { withinMs?: number } = {}): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    await this.until(() => settled, options);
    return promise;
  }

  /** Moves time on until the condition holds. Throws when `withinMs` (one hour) have passed or nothing is left to happen. */
  async until(condition: () => boolean, options: { withinMs?: number } = {}): Promise<void> {
    const startedMs = this.#elapsedMs;
    const withinMs = options.withinMs ?? 3_600_000;
    await promisesHaveRun();
    while (!condition()) {
      const next = this.nextAtMs();
      if (next === undefined)
        throw new Error(`Wait on the fake clock: nothing is left to happen at ${this.#elapsedMs} ms`);
      if (next > startedMs + withinMs)
        throw new Error(`Wait on the fake clock: not within ${withinMs} ms of virtual time`);
      await this.step();
    }
  }
}

export interface ProcessClockOptions {
  /** How far the wall clock is ahead of true time. */
  readonly wallOffsetMs?: number;
  /** How much faster than true time both clocks run, in parts per million. */
  readonly driftPpm?: number;
  /** True time since the machine booted. */
  readonly bootedForMs?: number;
}

export class ProcessClock implements Clock {
  readonly #world: FakeClock;
  readonly #startSeconds: number;
  readonly #bornMs: number;
  readonly #rate: number;
  readonly #bootedForMs: number;
  #wallOffsetMs: number;
  #pausedUntilMs = 0;
  #ended = false;

  constructor(world: FakeClock, startSeconds: number, options: ProcessClockOptions) {
    this.#world = world;
    this.#startSeconds = startSeconds;
    this.#bornMs = world.elapsedMs;
    this.#rate = 1 + (options.driftPpm ?? 0) / 1e6;
    this.#bootedForMs = options.bootedForMs ?? 0;
    this.#wallOffsetMs = options.wallOffsetMs ?? 0;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get paused(): boolean {
    return this.#world.elapsedMs < this.#pausedUntilMs;
  }

  now(): Timestamp {
    return timestampOf(this.#startSeconds, this.#bornMs + this.#localMs() + this.#wallOffsetMs);
  }

  bootMs(): number {
    return this.#bootedForMs + this.#localMs();
  }

  setTimer(delayMs: number, fn: () => void, options: { background?: boolean } = {}): Timer {
    let timer: Timer | undefined;
    let cancelled = false;
    const fire = (): void => {
      if (this.#ended || cancelled) return;
      if (this.paused) {
        // Comes after everything that was held back before it: both the moment and the order of creation say so.
        timer = this.#world.setTimer(this.#pausedUntilMs - this.#world.elapsedMs, fire, options);
        return;
      }
      fn();
    };
    if (!this.#ended) timer = this.#world.setTimer(delayMs / this.#rate, fire, options);
    return {
      cancel: () => {
        cancelled = true;
        timer?.cancel();
      },
    };
  }

  defer(fn: () => void): void {
    this.setTimer(0, fn);
  }

  /** Somebody sets the wall clock. Boot time does not notice. */
  jumpWall(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  /** The process gets no time for so long (stopped, swapped, suspended); what falls due meanwhile comes at its end, in order. */
  pause(forMs: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#world.elapsedMs + forMs);
  }

  /** The process is dead: no timer, completion or message reaches it any more. */
  end(): void {
    this.#ended = true;
  }

  #localMs(): number {
    return (this.#world.elapsedMs - this.#bornMs) * this.#rate;
  }
}

function timestampOf(startSeconds: number, elapsedMs: number): Timestamp {
  const micros = Math.floor(elapsedMs * 1000);
  const seconds = Math.floor(micros / 1e6);
  return { seconds: startSeconds + seconds, nanos: (micros - seconds * 1e6) * 1000 };
}

/** An immediate runs only after the queues of promises and of `process.nextTick` are empty. */
function promisesHaveRun(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** A binary heap by time, then by order of creation. */
class EventQueue {
  readonly #heap: Event[] = [];

  add(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || comesBefore(above, event)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  first(): Event | undefined {
    for (let event = this.#heap[0]; event !== undefined; event = this.#heap[0]) {
      if (event.run !== undefined) return event;
      this.#removeFirst();
    }
    return undefined;
  }

  take(): Event | undefined {
    const event = this.first();
    if (event !== undefined) this.#removeFirst();
    return event;
  }

  some(matches: (event: Event) => boolean): boolean {
    return this.#heap.some((event) => event.run !== undefined && matches(event));
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      let smaller = left;
      if (right !== undefined && comesBefore(right, left)) {
        smaller = right;
        child++;
      }
      if (comesBefore(last, smaller)) break;
      heap[at] = smaller;
      at = child;
    }
    heap[at] = last;
  }
}

function comesBefore(a: Event, b: Event): boolean {
  return a.atMs === b.atMs ? a.order < b.order : a.atMs < b.atMs;
}
