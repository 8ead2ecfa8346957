import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock, Timer } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { testShell } from '../shell-for-tests.ts';
import { Progress, progressLine } from './progress.ts';

const MiB = 1024 * 1024;

test('the line shows share, bytes, files, rate and the time that remains', () => {
  assert.equal(
    progressLine({ doneBytes: 30 * MiB, totalBytes: 120 * MiB, doneFiles: 1, totalFiles: 4 }, 10 * MiB, 80),
    '[#####...............]  25%  30.0 MiB/120 MiB  1/4 files  10.0 MiB/s  9s left',
  );
  assert.equal(progressLine({ doneBytes: 5 * MiB, doneFiles: 0 }, undefined, 80), '5.0 MiB');
  assert.equal(progressLine({ doneBytes: 0, totalBytes: 0, doneFiles: 0 }, undefined, 80), '0 B/0 B');
});

const narrow: { columns: number; line: string }[] = [
  { columns: 60, line: '25%  30.0 MiB/120 MiB  1/4 files  10.0 MiB/s  9s left' },
  { columns: 45, line: '25%  30.0 MiB/120 MiB  10.0 MiB/s  9s left' },
  { columns: 39, line: '25%  30.0 MiB/120 MiB  10.0 MiB/s' },
  { columns: 25, line: '25%  30.0 MiB/120 MiB' },
  { columns: 20, line: '25%' },
];

for (const { columns, line } of narrow) {
  test(`a terminal of ${columns} columns loses the bar first, the share last`, () => {
    const totals = { doneBytes: 30 * MiB, totalBytes: 120 * MiB, doneFiles: 1, totalFiles: 4 };
    assert.equal(progressLine(totals, 10 * MiB, columns), line);
  });
}

/** Time that moves only when told to. */
class HandClock extends SystemClock implements Clock {
  ms = 1_000;
  readonly #timers = new Set<() => void>();

  override bootMs(): number {
    return this.ms;
  }

  override setTimer(_delayMs: number, fn: () => void): Timer {
    this.#timers.add(fn);
    return { cancel: () => void this.#timers.delete(fn) };
  }

  /** Lets all timers fire that wait now. */
  fire(): number {
    const due = [...this.#timers];
    this.#timers.clear();
    for (const fn of due) fn();
    return due.length;
  }
}

test('a standstill shows: the rate falls though nothing comes, until the line is taken away', () => {
  const clock = new HandClock();
  const shell = testShell({ isTTY: true, columns: 100, clock });
  const progress = new Progress(shell);
  for (let i = 0; i <= 10; i++) {
    progress.update({ doneBytes: i * MiB, totalBytes: 100 * MiB, doneFiles: 0 });
    clock.ms += 100;
  }
  assert.match(shell.err(), /10\.0 MiB\/s/);
  for (let i = 0; i < 10; i++) {
    clock.ms += 1_000;
    assert.equal(clock.fire(), 1);
  }
  assert.match(shell.err().split('\r').at(-1) ?? '', / 0 B\/s/);
  progress.clear();
  assert.equal(clock.fire(), 0);
});

test('on a terminal the line is drawn at most ten times a second, never wider than it, and taken away in the end', () => {
  const clock = new HandClock();
  const shell = testShell({ isTTY: true, columns: 40, clock });
  const progress = new Progress(shell);
  for (let i = 0; i < 100; i++) {
    clock.ms += 10;
    progress.update({ doneBytes: i * MiB, totalBytes: 100 * MiB, doneFiles: 0 });
  }
  const draws = shell.err().split('\r').slice(1);
  assert.ok(draws.length <= 11, `${draws.length} draws in one second`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the terminal's own escape is looked for.
  assert.ok(draws.every((draw) => draw.replace(/\u001b\[K/, '').length < 40));
  clock.ms += 1_000;
  progress.finish();
  assert.ok(shell.err().endsWith('\u001b[K0 files, 99.0 MiB in 2s (49.5 MiB/s)\n'), shell.err());
});

test('nothing is drawn where stderr is no terminal, or with --quiet', () => {
  for (const [isTTY, quiet] of [
    [false, false],
    [true, true],
  ] as const) {
    const shell = testShell({ isTTY });
    const progress = new Progress(shell, { quiet });
    progress.update({ doneBytes: 5, doneFiles: 1 });
    progress.finish();
    assert.equal(shell.err(), '');
  }
});
