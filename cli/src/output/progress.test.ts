import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { testShell } from '../shell-for-tests.ts';
import { Progress, progressLine } from './progress.ts';

const MiB = 1024 * 1024;

test('the line shows share, bytes, files, rate and the time that remains', () => {
  assert.equal(
    progressLine({ doneBytes: 30 * MiB, totalBytes: 120 * MiB, doneFiles: 1, totalFiles: 4 }, 10 * MiB),
    '[#####...............]  25%  30.0 MiB/120 MiB  1/4 files  10.0 MiB/s  9s left',
  );
  assert.equal(progressLine({ doneBytes: 5 * MiB, doneFiles: 0 }, undefined), '5.0 MiB');
  assert.equal(progressLine({ doneBytes: 0, totalBytes: 0, doneFiles: 0 }, undefined), '0 B/0 B');
});

/** Time that moves only when told to. */
class HandClock extends SystemClock implements Clock {
  ms = 1_000;

  override bootMs(): number {
    return this.ms;
  }
}

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
