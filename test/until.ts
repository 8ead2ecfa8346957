/** Waits for a level, never for a time: asks again until it holds, and fails with what it last saw. */
import assert from 'node:assert/strict';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';

const ASK_EVERY_MS = 25;
const clock = new SystemClock();

export async function until(
  level: () => boolean | Promise<boolean>,
  what: string,
  withinMs: number,
  state: () => string = () => '',
): Promise<void> {
  const startedMs = clock.bootMs();
  while (!(await level())) {
    assert.ok(clock.bootMs() - startedMs < withinMs, `waited ${withinMs} ms until ${what}; last seen:\n${state()}`);
    await sleep(clock, ASK_EVERY_MS);
  }
}
