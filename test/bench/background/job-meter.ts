/**
 * What a job costs while it runs: time, processor time, memory above that of its start, and what a change meanwhile waits. Memory is
 * looked at again and again as it is, with what V8 has not collected yet, which is a bound from above; and now and then after a
 * collection, which is what is held.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { InodeNumber } from '@collective/base/ids';
import { SystemClock } from '@collective/base/system-clock';
import type { Engine } from '@collective/coordinator/engine/engine';
import { XATTRS } from '@collective/coordinator/tables/tables';
import { type Figures, secondsOf } from '../figures.ts';

const PROBE_EVERY_MS = 10;
const LOOK_EVERY_MS = 100;
/** Rarely: it collects, so that less garbage is seen, and all wait for it. */
const HELD_EVERY_MS = 5_000;
/** A job that holds more above its start keeps what it has seen. How much garbage lies about is for V8 to say. */
const HELD_MAX_MB = 100;

export interface JobMeterParts {
  readonly figures: Figures;
  /** How many files, chunks or notes a job is measured with. */
  readonly count: number;
  /** What somebody else does meanwhile, stable when it resolves. */
  probe(): Promise<unknown>;
  readonly probed: string;
}

export class JobMeter {
  readonly #parts: JobMeterParts;
  readonly #clock = new SystemClock();

  static ofEngine(figures: Figures, count: number, engine: Engine): JobMeter {
    const probe = (): Promise<void> =>
      engine.run((tx) => tx.put(XATTRS, { value: Buffer.alloc(8) }, 1 as InodeNumber, 'probe'));
    return new JobMeter({ figures, count, probe, probed: 'a stable change meanwhile' });
  }

  constructor(parts: JobMeterParts) {
    this.#parts = parts;
  }

  async measure(name: string, work: () => Promise<unknown>): Promise<void> {
    const { figures, count, probed } = this.#parts;
    collectHeap();
    const before = memoryBytes();
    const cpuBefore = process.cpuUsage();
    const stop = new AbortController();
    const watched = this.#watch(stop.signal);
    let seconds: number;
    try {
      seconds = await secondsOf(work);
    } finally {
      stop.abort();
    }
    const { peak, held, waits } = await watched;
    const { user, system } = process.cpuUsage(cpuBefore);
    const at = (share: number): number => waits[Math.floor(waits.length * share)] ?? Number.NaN;
    figures.add({ name: `${name}, ${count.toLocaleString('en')}`, value: seconds, unit: 's' });
    figures.add({
      name: '  of processors, all threads, changes meanwhile too',
      value: (user + system) / 1e6,
      unit: 's',
    });
    figures.add({
      name: '  memory above the start, garbage of V8 too',
      value: Math.max(0, peak - before) / 1e6,
      unit: 'MB',
    });
    figures.add({
      name: '  of that held after collections',
      value: Math.max(0, held - before) / 1e6,
      unit: 'MB',
      atMost: HELD_MAX_MB,
    });
    figures.add({ name: `  ${probed}, p50`, value: at(0.5), unit: 'ms' });
    figures.add({ name: `  ${probed}, p99`, value: at(0.99), unit: 'ms' });
  }

  /** Until it is stopped. */
  async #watch(stopped: AbortSignal): Promise<Watched> {
    const waits: number[] = [];
    const most = { peak: 0, held: 0 };
    const look = (): void => {
      most.peak = Math.max(most.peak, memoryBytes());
    };
    const looking = setInterval(look, LOOK_EVERY_MS);
    const holding = setInterval(() => {
      look();
      collectHeap();
      most.held = Math.max(most.held, memoryBytes());
    }, HELD_EVERY_MS);
    do {
      const beganMs = performance.now();
      await this.#parts.probe();
      waits.push(performance.now() - beganMs);
      await new Promise<void>((resolve) => this.#clock.setTimer(PROBE_EVERY_MS, resolve));
    } while (!stopped.aborted);
    clearInterval(looking);
    clearInterval(holding);
    look();
    return { ...most, waits: waits.toSorted((a, b) => a - b) };
  }
}

interface Watched {
  /** The highest that memory was, in bytes. */
  readonly peak: number;
  readonly held: number;
  /** How long each probe took. */
  readonly waits: readonly number[];
}

/** Objects, and the buffers that they hold. */
function memoryBytes(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

setFlagsFromString('--expose-gc');
const collectHeap = runInNewContext('gc') as () => void;
