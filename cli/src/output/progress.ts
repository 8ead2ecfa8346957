/**
 * One progress line on a terminal's stderr: bytes, share, rate, time that remains. Silent where stderr is no terminal.
 * The rate is over the last seconds, so that it follows what the network does now, and the line is drawn again while
 * nothing comes, so that a standstill shows. At most ten times a second; on a narrow terminal parts are left out.
 */
import { formatByteSize } from '@collective/base/byte-size';
import type { Clock, Timer } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import type { Shell } from '../shell.ts';
import { counted } from './counted.ts';

const DRAW_EVERY_MS = 100;
const REDRAW_EVERY_MS = 1_000;
const RATE_WINDOW_MS = 5_000;
const RATE_SAMPLES_MAX = 64;
const BAR_CELLS = 20;
/** Terminals that do not know their width say 0. */
const COLUMNS_DEFAULT = 80;
const COLUMNS_MIN = 20;
const PARTS_GAP = '  ';

export interface ProgressTotals {
  readonly doneBytes: number;
  readonly totalBytes?: number;
  readonly doneFiles: number;
  readonly totalFiles?: number;
}

export class Progress {
  readonly #shell: Shell;
  readonly #clock: Clock;
  readonly #shown: boolean;
  readonly #startedMs: number;
  #samples: { atMs: number; bytes: number }[] = [];
  #drawnMs = Number.NEGATIVE_INFINITY;
  #drawn = false;
  #redraw: Timer | undefined;
  #last: ProgressTotals = { doneBytes: 0, doneFiles: 0 };

  constructor(shell: Shell, options: { quiet?: boolean } = {}) {
    this.#shell = shell;
    this.#clock = shell.clock;
    this.#shown = shell.stderr.isTTY === true && options.quiet !== true;
    this.#startedMs = shell.clock.bootMs();
  }

  update(totals: ProgressTotals): void {
    this.#last = totals;
    if (!this.#shown) return;
    const nowMs = this.#clock.bootMs();
    if (nowMs - this.#drawnMs < DRAW_EVERY_MS) return;
    this.#sample(nowMs);
  }

  #sample(nowMs: number): void {
    this.#drawnMs = nowMs;
    this.#samples.push({ atMs: nowMs, bytes: this.#last.doneBytes });
    while (
      this.#samples.length > RATE_SAMPLES_MAX ||
      (this.#samples.length > 2 && nowMs - (this.#samples[0]?.atMs ?? nowMs) > RATE_WINDOW_MS)
    ) {
      this.#samples.shift();
    }
    const columns = Math.max(COLUMNS_MIN, (this.#shell.stderr.columns || COLUMNS_DEFAULT) - 1);
    this.#shell.stderr.write(`\r${progressLine(this.#last, this.#rate(nowMs), columns)}\u001b[K`);
    this.#drawn = true;
    this.#redraw?.cancel();
    this.#redraw = this.#clock.setTimer(REDRAW_EVERY_MS, () => this.#sample(this.#clock.bootMs()), {
      background: true,
    });
  }

  /** Takes the line away; what is said on stderr afterwards starts in an empty line. */
  clear(): void {
    this.#redraw?.cancel();
    if (this.#drawn) this.#shell.stderr.write('\r\u001b[K');
    this.#drawn = false;
  }

  /** The closing sentence: `12 files, 60.0 MiB in 3s (20.0 MiB/s)`. Shown on a terminal only. */
  finish(): void {
    this.clear();
    if (!this.#shown) return;
    const elapsedMs = Math.max(1, this.#clock.bootMs() - this.#startedMs);
    const { doneBytes, doneFiles } = this.#last;
    const rate = formatByteSize(Math.round((doneBytes / elapsedMs) * 1000));
    this.#shell.stderr.write(
      `${counted(doneFiles, 'file')}, ${formatByteSize(doneBytes)} in ${formatDurationMs(elapsedMs)} (${rate}/s)\n`,
    );
  }

  #rate(nowMs: number): number | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || nowMs - first.atMs < 2 * DRAW_EVERY_MS) return undefined;
    return ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1000;
  }
}

/** Pure, so that its table test needs no terminal. What is left out first comes last in `parts`. */
export function progressLine(totals: ProgressTotals, bytesPerSecond: number | undefined, columns: number): string {
  const { doneBytes, totalBytes, doneFiles, totalFiles } = totals;
  const share = totalBytes === undefined || totalBytes === 0 ? undefined : Math.min(1, doneBytes / totalBytes);
  const cells = Math.floor((share ?? 0) * BAR_CELLS);
  const leftMs =
    totalBytes !== undefined && bytesPerSecond !== undefined && bytesPerSecond > 0 && doneBytes < totalBytes
      ? Math.ceil((totalBytes - doneBytes) / bytesPerSecond) * 1000
      : undefined;
  const bar = share === undefined ? undefined : `[${'#'.repeat(cells)}${'.'.repeat(BAR_CELLS - cells)}]`;
  const percent = share === undefined ? undefined : `${Math.floor(share * 100)}%`;
  // What moves no bytes is counted in files.
  const bytes =
    totalBytes === undefined && doneBytes === 0 && doneFiles > 0
      ? counted(doneFiles, 'file')
      : formatByteSize(doneBytes) + (totalBytes === undefined ? '' : `/${formatByteSize(totalBytes)}`);
  const files = totalFiles !== undefined && totalFiles > 1 ? `${doneFiles}/${totalFiles} files` : undefined;
  const rate = bytesPerSecond === undefined ? undefined : `${formatByteSize(Math.round(bytesPerSecond))}/s`;
  const left = leftMs === undefined ? undefined : `${formatDurationMs(leftMs)} left`;
  const inOrder = [bar, percent, bytes, files, rate, left];
  const byWeight = [percent, bytes, rate, left, files, bar];
  for (let count = byWeight.length; count > 0; count--) {
    const kept = new Set(byWeight.slice(0, count));
    const line = inOrder.filter((part) => part !== undefined && kept.has(part)).join(PARTS_GAP);
    if (line.length <= columns) return line;
  }
  return (percent ?? bytes).slice(0, columns);
}
