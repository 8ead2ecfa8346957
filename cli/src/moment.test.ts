import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMoment } from './moment.ts';

const now = { seconds: 1_772_366_400, nanos: 500_000_000 }; // 2026-03-01T12:00:00.5Z

test('a moment is a time ago or a date, in local time unless it says otherwise', () => {
  assert.deepEqual(parseMoment('2h', '--at', now), { seconds: now.seconds - 7_200, nanos: 500_000_000 });
  assert.deepEqual(parseMoment('1d12h', '--at', now), { seconds: now.seconds - 129_600, nanos: 500_000_000 });
  assert.deepEqual(parseMoment('2026-03-01T12:00:00Z', '--at', now), { seconds: now.seconds, nanos: 0 });
  assert.deepEqual(parseMoment('2026-03-01T12:00:00.25+02:00', '--at', now), {
    seconds: now.seconds - 7_200,
    nanos: 250_000_000,
  });
  const local = new Date(2026, 2, 1, 12, 0).getTime() / 1000;
  assert.deepEqual(parseMoment('2026-03-01 12:00', '--at', now), { seconds: local, nanos: 0 });
  assert.deepEqual(parseMoment(' 2026-03-01 ', '--at', now), { seconds: local - 43_200, nanos: 0 });
});

for (const text of ['', 'yesterday', '12', '2026-13-01', '2026-03-01 25:00', '2x', '2026', '-2h']) {
  test(`'${text}' is no moment`, () => {
    assert.throws(() => parseMoment(text, '--at', now), { code: 'invalid_argument' });
  });
}
