import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '@collective/base/random';
import { KubeError, NO_ANSWER } from './kube-error.ts';
import { parseRetryAfter, RETRY_AFTER_MAX_MS, retryDelayMs, TRIES_MAX } from './retry-policy.ts';

const random = new SeededRandom(7);
const error = (status: number, reason = '', retryAfterMs?: number): KubeError =>
  new KubeError('Try', { status, reason, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });

const table: readonly { name: string; error: KubeError; again: 'always' | 'when repeatable' | 'never' }[] = [
  { name: 'turned away for load', error: error(429, 'TooManyRequests'), again: 'always' },
  { name: 'a failure that asks for another try', error: error(500, 'InternalError', 1000), again: 'always' },
  { name: 'no connection was made', error: error(0, NO_ANSWER.notConnected), again: 'always' },
  {
    name: 'a connection lost after something was sent',
    error: error(0, NO_ANSWER.connectionLost),
    again: 'when repeatable',
  },
  { name: 'a server that is not there yet', error: error(503, 'ServiceUnavailable'), again: 'when repeatable' },
  { name: 'our own deadline', error: error(0, NO_ANSWER.timeout), again: 'never' },
  { name: 'a failing webhook', error: error(500, 'InternalError'), again: 'never' },
  { name: 'a conflict', error: error(409, 'Conflict'), again: 'never' },
  { name: 'a refusal', error: error(403, 'Forbidden'), again: 'never' },
];
for (const { name, error: failed, again } of table) {
  test(`${name} is tried ${again}${again === 'never' ? '' : ' again'}`, () => {
    const delays = [true, false].map((repeatable) => retryDelayMs({ error: failed, repeatable, tries: 1 }, random));
    assert.deepEqual(
      delays.map((delay) => delay !== undefined),
      [again !== 'never', again === 'always'],
    );
  });
}

test('the delay doubles up to its bound, half of it by chance, and tries end', () => {
  const lost = error(503, 'ServiceUnavailable');
  for (const [tries, most] of [100, 200, 400, 800].entries()) {
    const delayMs = retryDelayMs({ error: lost, repeatable: true, tries: tries + 1 }, random);
    assert.ok(delayMs !== undefined && delayMs >= most / 2 && delayMs <= most, `${delayMs} of ${most}`);
  }
  assert.equal(retryDelayMs({ error: lost, repeatable: true, tries: TRIES_MAX }, random), undefined);
});

test('a try comes no sooner than the server asks for, and not at all when that is long', () => {
  const delayMs = retryDelayMs({ error: error(429, '', 2000), repeatable: false, tries: 1 }, random) ?? 0;
  assert.ok(delayMs >= 2000 && delayMs <= 2100, String(delayMs));
  const long = error(429, '', RETRY_AFTER_MAX_MS + 1);
  assert.equal(retryDelayMs({ error: long, repeatable: true, tries: 1 }, random), undefined);
});

test('Retry-After counts in seconds; what is no number counts for nothing', () => {
  assert.equal(parseRetryAfter('1'), 1000);
  assert.equal(parseRetryAfter('Wed, 21 Oct 2026 07:28:00 GMT'), undefined);
  assert.equal(parseRetryAfter(undefined), undefined);
});
