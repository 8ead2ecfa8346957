import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import type { Job } from './api.ts';
import { waitForJob } from './wait-for-job.ts';

const JOB: Job = {
  id: 7,
  kind: 'make-realm',
  state: 'working',
  path: '/studio',
  subject: 'ann',
  moved: 0,
  passes: 1,
  failure: '',
};

type Said = Partial<Job> | CollectiveError;

/** Answers, one after the other, what the coordinator says; the last one for ever. */
function answers(...all: Said[]): () => Promise<readonly Job[]> {
  let asked = 0;
  return async () => {
    const answer = all[Math.min(asked++, all.length - 1)];
    if (answer instanceof CollectiveError) throw answer;
    return [{ ...JOB, id: 6, state: 'failed' }, ...(answer === undefined ? [] : [{ ...JOB, ...answer }])];
  };
}

const away = new CollectiveError('unavailable', 'List jobs: connection refused');

test('a job is waited for, over a restart of the coordinator too, and every look is told', async () => {
  const clock = new FakeClock();
  const told: number[] = [];
  const jobs = answers({ moved: 1 }, away, away, { moved: 5 }, { moved: 9, state: 'done' });
  const job = await clock.finish(waitForJob(clock, jobs, 7, { onProgress: ({ moved }) => told.push(moved) }));
  assert.equal(job.state, 'done');
  assert.deepEqual(told, [1, 5, 9]);
});

test('a coordinator that stays away ends the wait after a minute, and the error says that the job goes on', async () => {
  const clock = new FakeClock();
  const wait = clock.finish(waitForJob(clock, answers({}, away), 7), { withinMs: 70_000 });
  await assert.rejects(wait, (error: CollectiveError) => {
    assert.equal(error.code, 'unavailable');
    assert.match(error.todo, /the job goes on by itself, and collective realm jobs/);
    assert.equal(error.cause, away);
    return true;
  });
  assert.ok(clock.elapsedMs >= 60_000, `after ${clock.elapsedMs} ms`);
});

test('the wait for a job ends with the reason of its failure, and with any error that is not an absence', async () => {
  const clock = new FakeClock();
  const ends = (...said: Said[]): Promise<Job> => clock.finish(waitForJob(clock, answers(...said), 7));
  await assert.rejects(ends({}, { state: 'failed', failure: '/studio/a has 2 names' }), {
    code: 'cross_realm',
    message: '/studio/a has 2 names',
    todo: /All is as it was before/,
  });
  await assert.rejects(ends({}, new CollectiveError('permission_denied', 'no')), { code: 'permission_denied' });
  await assert.rejects(clock.finish(waitForJob(clock, answers({}), 8)), { code: 'not_found' });
});

test('an abort ends the wait for a job at once, also while the coordinator is away', async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const reason = new Error('no more patience');
  clock.setTimer(1_000, () => stop.abort(reason));
  await assert.rejects(clock.finish(waitForJob(clock, answers(away), 7, { signal: stop.signal })), reason);
  assert.equal(clock.elapsedMs, 1_000);
});
