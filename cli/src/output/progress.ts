/**
 * One progress line on a terminal's stderr: bytes, share, rate, time that remains. Silent where stderr is no terminal.
 * The rate is over the last seconds, so that it follows what the network does now; the line is drawn at most ten times
 * a second and never wider than the terminal.
 */
import { formatByteSize } from '@collective/base/byte-size';
import type { Clock } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import type { Shell } from '../shell.ts';

const DRAW_EVERY_MS = 100;
const RATE_WINDOW_MS = 5_000;
const RATE_SAMPLES_MAX = 64;
const BAR_CELLS = 20;
/** Terminals that do not know their width say 0. */
const COLUMNS_DEFAULT = 80;

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
    this.#drawnMs = nowMs;
    this.#samples.push({ atMs: nowMs, bytes: totals.doneBytes });
    while (
      this.#samples.length > RATE_SAMPLES_MAX ||
      (this.#samples.length > 2 && nowMs - (this.#samples[0]?.atMs ?? nowMs) > RATE_WINDOW_MS)
    ) {
      this.#samples.shift();
    }
    this.#draw(progressLine(totals, this.#rate(nowMs)));
  }

  /** Takes the line away; what is said on stderr afterwards starts in an empty line. */
  clear(): void {
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
    const files = doneFiles === 1 ? '1 file' : `${doneFiles} files`;
    this.#shell.stderr.write(`${files}, ${formatByteSize(doneBytes)} in ${formatDurationMs(elapsedMs)} (${rate}/s)\n`);
  }

  #rate(nowMs: number): number | undefined {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || nowMs - first.atMs < 2 * DRAW_EVERY_MS) return undefined;
    return ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1000;
  }

  #draw(line: string): void {
    const width = Math.max(20, (this.#shell.stderr.columns || COLUMNS_DEFAULT) - 1);
    this.#shell.stderr.write(`\r${line.slice(0, width)}\u001b[K`);
    this.#drawn = true;
  }
}

/** Pure, so that its table test needs no terminal. */
export function progressLine(totals: ProgressTotals, bytesPerSecond: number | undefined): string {
  const { doneBytes, totalBytes, doneFiles, totalFiles } = totals;
  const parts: string[] = [];
  if (totalBytes !== undefined && totalBytes > 0) {
    const share = Math.min(1, doneBytes / totalBytes);
    const cells = Math.floor(share * BAR_CELLS);
    parts.push(`[${'#'.repeat(cells)}${'.'.repeat(BAR_CELLS - cells)}]`, `${Math.floor(share * 100)}%`);
  }
  parts.push(
    totalBytes === undefined ? formatByteSize(doneBytes) : `${formatByteSize(doneBytes)}/${formatByteSize(totalBytes)}`,
  );
  if (totalFiles !== undefined && totalFiles > 1) parts.push(`${doneFiles}/${totalFiles} files`);
  if (bytesPerSecond !== undefined) {
    parts.push(`${formatByteSize(Math.round(bytesPerSecond))}/s`);
    if (totalBytes !== undefined && bytesPerSecond > 0 && doneBytes < totalBytes) {
      parts.push(`${formatDurationMs(Math.ceil((totalBytes - doneBytes) / bytesPerSecond) * 1000)} left`);
    }
  }
  return parts.join('  ');
}
