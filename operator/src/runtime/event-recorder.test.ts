import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { type Log, silentLog } from '@collective/base/log';
import { KubeError, NO_ANSWER } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import type { PlannedEvent } from '../member/plan-types.ts';
import { EventRecorder } from './event-recorder.ts';

// What a real apiserver takes and keeps is in test/apiserver/event-recorder.test.ts; here are times and bounds.

const member = (name = 'alice'): KubeObject => ({
  apiVersion: 'collective.storage/v1alpha1',
  kind: 'Member',
  metadata: { namespace: 'members', name, uid: `uid-${name}`, resourceVersion: '7' },
});
const warning = (message: string): PlannedEvent => ({ type: 'Warning', reason: 'VolumeLost', message });

interface Call {
  readonly call: 'create' | 'patch';
  readonly count: number;
  readonly note?: string;
  readonly atMs: number;
}

function recording(fails: () => KubeError | undefined = () => undefined) {
  const clock = new FakeClock();
  const calls: Call[] = [];
  const logged: string[] = [];
  const log: Log = { ...silentLog, warn: (_, event) => void logged.push(event) };
  const answer = async (call: 'create' | 'patch', of: object): Promise<KubeObject> => {
    const { series, note } = of as { series?: { count: number }; note?: string };
    calls.push({ call, count: series?.count ?? 1, ...(note === undefined ? {} : { note }), atMs: clock.elapsedMs });
    const error = fails();
    if (error !== undefined) throw error;
    return of as KubeObject;
  };
  const api = {
    create: (_: unknown, object: KubeObject) => answer('create', object),
    patch: (_: unknown, change: object) => answer('patch', change),
  };
  return { clock, calls, logged, recorder: new EventRecorder({ api, clock, log, instance: 'operator-0' }) };
}

test('what happens again is counted on the first event, at most once a minute', async () => {
  const { clock, calls, recorder } = recording();
  for (let second = 0; second < 150; second += 10) {
    recorder.record(member(), warning('gone'));
    await clock.advance(10_000);
  }
  await clock.advance(120_000);
  assert.deepEqual(
    calls.map(({ call, count, atMs }) => [call, count, atMs]),
    [
      ['create', 1, 0],
      ['patch', 7, 70_000],
      ['patch', 13, 130_000],
      ['patch', 15, 190_000],
    ],
  );
});

test('the same after a long time, another reason, note or object is another event', async () => {
  const { clock, calls, recorder } = recording();
  recorder.record(member(), warning('gone'));
  recorder.record(member(), warning('gone again'));
  recorder.record(member('bob'), warning('gone'));
  recorder.record(member(), { ...warning('gone'), reason: 'VolumeFound' });
  await clock.advance(6 * 60_000);
  recorder.record(member(), warning('gone'));
  await clock.settle();
  assert.deepEqual(
    calls.map(({ call }) => call),
    Array.from({ length: 5 }, () => 'create'),
  );
});

test('one object that flaps has its budget, others have theirs', async () => {
  const { clock, calls, logged, recorder } = recording();
  for (let index = 0; index < 200; index++) recorder.record(member(), warning(`flap ${index}`));
  recorder.record(member('bob'), warning('gone'));
  await clock.settle();
  assert.equal(calls.length, 26);
  assert.equal(calls.at(-1)?.note, 'gone');
  assert.ok(logged.length <= 8 && logged.every((event) => event === 'events are dropped'), logged.join());
  await clock.advance(60_000);
  recorder.record(member(), warning('one more'));
  await clock.settle();
  assert.equal(calls.length, 27);
});

test('an event that cannot be told now is told later, a refused one is given up, and record never throws', async () => {
  let error: KubeError | undefined = new KubeError('Create', { status: 0, reason: NO_ANSWER.notConnected });
  const { clock, calls, logged, recorder } = recording(() => error);
  recorder.record(member(), warning('gone'));
  await clock.advance(6_000);
  error = undefined;
  await clock.advance(6_000);
  assert.deepEqual([calls.length, logged], [3, []]);
  error = new KubeError('Create', { status: 403, reason: 'Forbidden' });
  recorder.record(member(), warning('refused'));
  await clock.advance(60_000);
  assert.deepEqual([calls.length, logged], [4, ['event is not told']]);
});

test('stopped, it tells what it has noted and then nothing more', async () => {
  const { clock, calls, recorder } = recording();
  recorder.record(member(), warning('gone'));
  recorder.record(member(), warning('gone'));
  recorder.record(member(), warning('gone'));
  await clock.finish(recorder[Symbol.asyncDispose]());
  recorder.record(member(), warning('late'));
  await clock.advance(600_000);
  assert.equal(calls.at(-1)?.count, 3);
  assert.ok(calls.length <= 2);
});

test('stopping takes no longer than its bound, whatever the server does', async () => {
  const failing = new KubeError('Create', { status: 0, reason: NO_ANSWER.notConnected });
  const { clock, logged, recorder } = recording(() => failing);
  recorder.record(member(), warning('gone'));
  await clock.finish(recorder[Symbol.asyncDispose](), { withinMs: 3_000 });
  assert.deepEqual(logged, ['events were not told']);
});

test('a note is cut to what the API takes, between letters', async () => {
  const { clock, calls, recorder } = recording();
  recorder.record(member(), warning('ü'.repeat(2_000)));
  await clock.settle();
  const note = calls[0]?.note ?? '';
  assert.ok(Buffer.byteLength(note) <= 1_024 && Buffer.byteLength(note) > 1_020);
  assert.match(note, /^ü+ …$/);
});
