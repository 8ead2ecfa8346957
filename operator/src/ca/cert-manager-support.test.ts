import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { CertManagerSupport, UNKNOWN_AGAIN_MS } from './cert-manager-support.ts';

const NEW = { 'io.cert-manager.v1.Certificate': { properties: { spec: { properties: { renewal: {} } } } } };
const OLD = { 'io.cert-manager.v1.Certificate': { properties: { spec: { properties: {} } } } };
const { signal } = new AbortController();

function asking(answers: readonly (Readonly<Record<string, unknown>> | undefined | Error)[]) {
  const clock = new FakeClock();
  const left = [...answers];
  const asked = { times: 0 };
  const api = {
    schemas: async () => {
      asked.times++;
      const answer = left.shift();
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
  return { clock, asked, support: new CertManagerSupport({ api, clock }) };
}

test('K1: members that are looked at together ask for the schemas of cert-manager once', async () => {
  const { asked, support } = asking([NEW]);
  assert.deepEqual(
    await Promise.all(Array.from({ length: 8 }, () => support.support(true, signal))),
    Array(8).fill(true),
  );
  assert.equal(await support.support(true, signal), true);
  assert.equal(asked.times, 1);
});

test('one that is missing or too old is asked for again after a while', async () => {
  const { clock, asked, support } = asking([undefined, OLD, NEW]);
  assert.equal(await support.support(false, signal), 'absent');
  assert.equal(await support.support(false, signal), 'absent');
  await clock.advance(10_000);
  assert.equal(await support.support(true, signal), false);
  assert.equal(await support.support(true, signal), false);
  await clock.advance(10_000);
  assert.equal(await support.support(true, signal), true);
  assert.equal(asked.times, 3);
});

test('an apiserver that lists certificates and has no schema of them yet is asked again soon, and nothing is known till then', async () => {
  const { clock, asked, support } = asking([undefined, {}, NEW]);
  assert.equal(await support.support(true, signal), 'unknown');
  assert.equal(await support.support(true, signal), 'unknown');
  assert.equal(asked.times, 1, 'not at each look');
  await clock.advance(UNKNOWN_AGAIN_MS);
  assert.equal(await support.support(true, signal), 'unknown');
  await clock.advance(UNKNOWN_AGAIN_MS);
  assert.equal(await support.support(true, signal), true);
  assert.equal(asked.times, 3);
});

test('one whose kinds are seen right after it was missing is not taken for missing any longer', async () => {
  const { clock, support } = asking([undefined, NEW]);
  assert.equal(await support.support(false, signal), 'absent');
  await clock.advance(UNKNOWN_AGAIN_MS);
  assert.equal(await support.support(true, signal), true);
});

test('kinds that have a schema and are not watched yet are not missing either', async () => {
  const { support } = asking([NEW]);
  assert.equal(await support.support(false, signal), 'unknown');
  assert.equal(await support.support(true, signal), true);
});

test('what stays unknown for long is missing; doubts that ended do not count', async () => {
  const { clock, support } = asking([NEW]);
  assert.equal(await support.support(false, signal), 'unknown');
  await clock.advance(29_000);
  assert.equal(await support.support(false, signal), 'unknown');
  assert.equal(await support.support(true, signal), true);
  await clock.advance(2_000);
  assert.equal(await support.support(false, signal), 'unknown');
  await clock.advance(30_000);
  assert.equal(await support.support(false, signal), 'absent');
});

test('a question that failed is asked again by the next look', async () => {
  const { asked, support } = asking([new Error('the server restarts'), NEW]);
  await assert.rejects(support.support(true, signal));
  assert.equal(await support.support(true, signal), true);
  assert.equal(asked.times, 2);
});
