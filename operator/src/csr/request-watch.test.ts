/** T5: a kept request is heard of at once, and whatever a coordinator does, it is not asked without pause. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { silentLog } from '@collective/base/log';
import type { Admin, CertificateRequestsQuery, KeptCertificateRequests } from '@collective/client';
import { RequestWatch } from './request-watch.ts';

const ALICE = { namespace: 'team', name: 'alice' };
const one = { id: 'r1', subject: 'spiffe://alice.home/user/ann', csr: Buffer.alloc(1) };

interface Bench {
  readonly clock: FakeClock;
  readonly watch: RequestWatch;
  readonly heard: string[];
}

function bench(): Bench {
  const clock = new FakeClock();
  const heard: string[] = [];
  const watch = new RequestWatch({ clock, log: silentLog, onRequest: ({ name }) => heard.push(name) });
  return { clock, watch, heard };
}

/** A coordinator that answers so, and how often it was asked, with which marks. */
function coordinator(
  answer: (query: CertificateRequestsQuery, signal?: AbortSignal) => Promise<KeptCertificateRequests>,
): { admin: Admin; marks: string[] } {
  const marks: string[] = [];
  const certificateRequests = {
    list: (query: CertificateRequestsQuery = {}, { signal }: { signal?: AbortSignal } = {}) => {
      marks.push(query.after ?? '');
      return answer(query, signal);
    },
    answer: async () => true,
  };
  return { admin: { certificateRequests } as unknown as Admin, marks };
}

test('T5: news wake the member, once for each mark; a call without news is held and made again', async () => {
  const { clock, watch, heard } = bench();
  let kept: KeptCertificateRequests = { requests: [], mark: '1.1.0' };
  const { admin, marks } = coordinator(async ({ after = '', waitSeconds = 0 }, signal) => {
    if (kept.requests.length === 0 || kept.mark === after) await sleep(clock, waitSeconds * 1_000, signal);
    return kept;
  });
  watch.follow(ALICE, admin);
  watch.follow(ALICE, admin);
  await clock.advance(100);
  assert.deepEqual([marks, heard], [[''], []], 'followed once');
  kept = { requests: [one], mark: '1.1.1' };
  await clock.advance(20_000);
  assert.deepEqual(heard, ['alice']);
  await clock.advance(60_000);
  assert.deepEqual(heard, ['alice'], 'the same mark is no news');
  kept = { requests: [one], mark: '1.1.2' };
  await clock.advance(21_000);
  assert.deepEqual(heard, ['alice', 'alice']);
  watch.forget(ALICE);
  const asked = marks.length;
  await clock.advance(120_000);
  assert.equal(marks.length, asked);
});

test('T5: a coordinator that fails is asked less and less often, and from the beginning', async () => {
  const { clock, watch, heard } = bench();
  let isThere = false;
  const { admin, marks } = coordinator(async ({ waitSeconds = 0 }, signal) => {
    if (!isThere) throw new CollectiveError('unavailable', 'Ask: nothing listens there');
    if (marks.at(-1) !== '') await sleep(clock, waitSeconds * 1_000, signal);
    return { requests: [one], mark: '2.1.0' };
  });
  watch.follow(ALICE, admin);
  await clock.advance(600_000);
  assert.ok(marks.length < 20, `${marks.length} calls in ten minutes`);
  isThere = true;
  // A look that found it answering need not wait for the next try.
  watch.follow(ALICE, admin);
  await clock.advance(1_000);
  assert.deepEqual(heard, ['alice']);
  watch[Symbol.dispose]();
});

test('T5: a coordinator that holds no call is not asked more than four times a second', async () => {
  const { clock, watch } = bench();
  const { admin, marks } = coordinator(async () => ({ requests: [], mark: String(marks.length) }));
  watch.follow(ALICE, admin);
  await clock.advance(10_000);
  assert.ok(marks.length <= 41, `${marks.length} calls in ten seconds`);
  watch[Symbol.dispose]();
});

test('T5: another connection takes the place of the one before', async () => {
  const { clock, watch, heard } = bench();
  const holding = () =>
    coordinator(async ({ waitSeconds = 0 }, signal) => {
      await sleep(clock, waitSeconds * 1_000, signal);
      return { requests: [one], mark: '1' };
    });
  const [first, second] = [holding(), holding()];
  watch.follow(ALICE, first.admin);
  await clock.advance(1);
  watch.follow(ALICE, second.admin);
  await clock.advance(20_000);
  assert.deepEqual([first.marks.length, heard], [1, ['alice']]);
  watch[Symbol.dispose]();
});
