import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDurationMs, parseDurationMs } from './duration.ts';
import { CollectiveError } from './errors/index.ts';

const good: { text: string; ms: number }[] = [
  { text: '500ms', ms: 500 },
  { text: '90s', ms: 90_000 },
  { text: '10m', ms: 600_000 },
  { text: '1h', ms: 3_600_000 },
  { text: '1h30m', ms: 5_400_000 },
  { text: '1.5h', ms: 5_400_000 },
  { text: '30d', ms: 30 * 86_400_000 },
  { text: '0s', ms: 0 },
];

for (const { text, ms } of good) {
  test(`reads '${text}' as ${ms} ms`, () => assert.equal(parseDurationMs(text), ms));
}

const bad: { text: string; says: RegExp }[] = [
  { text: '10', says: /unit is missing/ },
  { text: '10x', says: /no unit 'x'/ },
  { text: '10min', says: /no unit 'min'/ },
  { text: '', says: /not a duration/ },
  { text: '-5m', says: /not a duration/ },
  { text: '30m1h', says: /'h' stands at the wrong place/ },
  { text: '5m5m', says: /'m' stands at the wrong place/ },
  { text: '999999d', says: /hundred years/ },
];

for (const { text, says } of bad) {
  test(`refuses '${text}' and says what is wrong`, () => {
    assert.throws(
      () => parseDurationMs(text, '--ttl'),
      (thrown) => thrown instanceof CollectiveError && says.test(thrown.message) && thrown.message.includes('--ttl'),
    );
  });
}

test('prints the two largest units', () => {
  assert.equal(formatDurationMs(0), '0ms');
  assert.equal(formatDurationMs(350), '350ms');
  assert.equal(formatDurationMs(12_400), '12s');
  assert.equal(formatDurationMs(5_400_000), '1h30m');
  assert.equal(formatDurationMs(3_600_000 + 5_000), '1h');
  assert.equal(formatDurationMs(2 * 86_400_000 + 3 * 3_600_000 + 60_000), '2d3h');
  assert.equal(formatDurationMs(-90_000), '-1m30s');
});
