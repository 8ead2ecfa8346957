import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planRoom } from './room-plan.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

for (const { name, given, want } of [
  {
    name: 'a small disk keeps 64 MiB free, and its segments are half of that',
    given: { capacityBytes: 1 * GiB },
    want: { reserveBytes: 64 * MiB, segmentBytes: 32 * MiB },
  },
  {
    name: 'a large one keeps 2% free, and segments have their bound',
    given: { capacityBytes: 100 * GiB },
    want: { reserveBytes: 2 * GiB, segmentBytes: 256 * MiB },
  },
  {
    name: 'what the owner says of the reserve holds',
    given: { capacityBytes: 1 * GiB, reserveBytes: 300 * MiB },
    want: { reserveBytes: 300 * MiB, segmentBytes: 150 * MiB },
  },
]) {
  test(name, () => assert.deepEqual(planRoom(given), want));
}

for (const given of [
  { capacityBytes: 0 },
  { capacityBytes: 5 },
  { capacityBytes: 64 * MiB },
  { capacityBytes: 1 * GiB, reserveBytes: 1 * GiB },
]) {
  test(`${given.capacityBytes} bytes with a reserve of ${given.reserveBytes ?? 'the usual size'} hold nothing and are refused`, () =>
    assert.throws(() => planRoom(given), { code: 'invalid_argument', message: /at least [\d.]+ [MG]iB are needed/ }));
}

test('the least that is named is enough', () => {
  assert.throws(() => planRoom({ capacityBytes: 73 * MiB - 1 }), { message: /at least 73\.0 MiB/ });
  assert.equal(planRoom({ capacityBytes: 73 * MiB }).reserveBytes, 64 * MiB);
});
