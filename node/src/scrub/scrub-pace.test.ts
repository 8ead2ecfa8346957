import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bytesPerSecond, SCRUB_BYTES_PER_SECOND_MIN, waitBeforePassMs } from './scrub-pace.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const TB = 1e12;

describe('pace of the scrub', () => {
  test('a pass takes nine tenths of its period', () => {
    const rate = bytesPerSecond({ beganMs: 0, bytesLeft: 20 * TB }, 30 * DAY_MS, 0);
    assert.equal(Math.round((20 * TB) / rate / 86_400), 27);
    // On the way it stays the same.
    const halfWay = bytesPerSecond({ beganMs: 0, bytesLeft: 10 * TB }, 30 * DAY_MS, 13.5 * DAY_MS);
    assert.equal(Math.round(halfWay), Math.round(rate));
  });

  test('little is not read slower than the least', () => {
    assert.equal(bytesPerSecond({ beganMs: 0, bytesLeft: 1e9 }, 30 * DAY_MS, 0), SCRUB_BYTES_PER_SECOND_MIN);
    assert.equal(bytesPerSecond({ beganMs: 0, bytesLeft: 0 }, 30 * DAY_MS, 99 * DAY_MS), SCRUB_BYTES_PER_SECOND_MIN);
  });

  test('a pass that is late hurries, and not without bound', () => {
    const rate = bytesPerSecond({ beganMs: 0, bytesLeft: 20 * TB }, 30 * DAY_MS, 60 * DAY_MS);
    assert.equal(Math.round((20 * TB) / rate / 86_400), 3);
  });

  test('the next pass begins a period after the last began, at once if that is over or the clock was set back', () => {
    assert.equal(waitBeforePassMs(undefined, DAY_MS, 5), 0);
    assert.equal(waitBeforePassMs(1000, DAY_MS, 2000), DAY_MS - 1000);
    assert.equal(waitBeforePassMs(1000, DAY_MS, 1000 + DAY_MS), 0);
    assert.equal(waitBeforePassMs(1000, DAY_MS, 1000 + 5 * DAY_MS), 0);
    assert.equal(waitBeforePassMs(1000, DAY_MS, 999), 0);
  });
});
