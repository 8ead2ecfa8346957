import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import type { Listed, WatchEvent, WatchOptions } from '../kube/kube-api.ts';
import { KubeError, NO_ANSWER } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import { Reflector } from './reflector.ts';

// How it behaves against a real apiserver is in test/apiserver/reflector.test.ts; here are its decisions in time.

const object = (name: string, resourceVersion: string): KubeObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { namespace: 'members', name, uid: name, resourceVersion },
});
const added = (name: string, resourceVersion: string): WatchEvent => ({
  type: 'ADDED',
  object: object(name, resourceVersion),
});
const lost = new KubeError('Watch', { status: 0, reason: NO_ANSWER.connectionLost });
const gone = new KubeError('Watch', { status: 410, reason: 'Expired' });
const forbidden = new KubeError('List', { status: 403, reason: 'Forbidden' });

/** What the server answers, call after call; after the last one a watch stays open and says nothing. */
type Answer = { list: Listed | KubeError } | { watch: readonly WatchEvent[]; end?: KubeError | 'by the server' };

class ScriptedServer {
  readonly calls: { readonly call: string; readonly atMs: number }[] = [];
  readonly #clock: FakeClock;
  readonly #answers: Answer[];

  constructor(clock: FakeClock, answers: readonly Answer[]) {
    this.#clock = clock;
    this.#answers = [...answers];
  }

  async list(): Promise<Listed> {
    this.calls.push({ call: 'list', atMs: this.#clock.elapsedMs });
    const answer = this.#answers.shift();
    assert.ok(answer !== undefined && 'list' in answer, 'a list was not expected');
    if (answer.list instanceof KubeError) throw answer.list;
    return answer.list;
  }

  async *watch(
    _resource: unknown,
    { resourceVersion, onOpen, signal }: WatchOptions,
  ): AsyncGenerator<WatchEvent, void> {
    this.calls.push({ call: `watch ${resourceVersion}`, atMs: this.#clock.elapsedMs });
    const answer = this.#answers.shift() ?? { watch: [] };
    assert.ok('watch' in answer, 'a watch was not expected');
    onOpen?.();
    yield* answer.watch;
    if (answer.end === 'by the server') return;
    if (answer.end !== undefined) throw answer.end;
    await new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  }
}

function following(answers: readonly Answer[], resyncMs?: number) {
  const clock = new FakeClock();
  const server = new ScriptedServer(clock, answers);
  const reflector = new Reflector({
    api: server,
    resource: RESOURCES.configMaps,
    clock,
    random: new SeededRandom(1),
    log: silentLog,
    ...(resyncMs === undefined ? {} : { resyncMs }),
  });
  const told: string[] = [];
  reflector.onChange(({ type, object: { metadata } }) => void told.push(`${type} ${metadata.name}`));
  const stop = new AbortController();
  const calls = (): readonly string[] => server.calls.map(({ call }) => call);
  return { clock, server, reflector, told, calls, stop, run: () => reflector.run(stop.signal) };
}

test('it lists once, then watches on from the newest version that it saw, also from a bookmark', async () => {
  const { clock, reflector, told, calls, run } = following([
    { list: { objects: [object('a', '3')], resourceVersion: '5' } },
    { watch: [added('b', '7')], end: 'by the server' },
    { watch: [{ type: 'BOOKMARK', resourceVersion: '40' }], end: lost },
    { watch: [{ type: 'DELETED', object: object('a', '41') }] },
  ]);
  assert.equal(reflector.hasSynced, false);
  void run();
  await clock.advance(1_000);
  assert.deepEqual(calls(), ['list', 'watch 5', 'watch 7', 'watch 40']);
  assert.deepEqual(told, ['added a', 'added b', 'removed a']);
  assert.deepEqual([reflector.hasSynced, reflector.store.size], [true, 1]);
});

test('a forgotten version leads to a list, which tells only what has changed since', async () => {
  const { clock, told, calls, run } = following([
    { list: { objects: [object('a', '3'), object('b', '4')], resourceVersion: '5' } },
    { watch: [], end: gone },
    { list: { objects: [object('a', '3'), object('c', '90')], resourceVersion: '99' } },
  ]);
  void run();
  await clock.advance(1_000);
  assert.deepEqual(calls(), ['list', 'watch 5', 'list', 'watch 99']);
  assert.deepEqual(told, ['added a', 'added b', 'removed b', 'added c']);
});

test('a server that forgets each list at once is not stormed with lists', async () => {
  const once: readonly Answer[] = [{ list: { objects: [], resourceVersion: '5' } }, { watch: [], end: gone }];
  const { clock, server, run } = following(Array.from({ length: 60 }, () => once).flat());
  void run();
  await clock.advance(60_000);
  const lists = server.calls.filter(({ call }) => call === 'list');
  assert.ok(lists.length <= 14, `${lists.length} lists in a minute`);
  const last = lists.at(-1);
  const before = lists.at(-2);
  assert.ok((last?.atMs ?? 0) - (before?.atMs ?? 0) > 5_000);
});

test('watches that break at once are tried later and later; one event makes it quick again', async () => {
  const broken: readonly Answer[] = Array.from({ length: 8 }, () => ({ watch: [], end: lost }));
  const { clock, server, run } = following([
    { list: { objects: [], resourceVersion: '5' } },
    ...broken,
    { watch: [added('a', '6')], end: lost },
  ]);
  void run();
  await clock.advance(120_000);
  const times = server.calls.slice(1).map(({ atMs }) => atMs);
  const gaps = times.slice(1).map((atMs, index) => atMs - (times[index] ?? 0));
  for (const [index, gapMs] of gaps.slice(0, 8).entries()) {
    const fullMs = 200 * 2 ** index;
    assert.ok(gapMs >= fullMs / 2 && gapMs <= fullMs, `gap ${index} of ${gapMs} ms`);
  }
  assert.equal(gaps[8], 0);
});

test('a refused list is trouble that is said and ends, and is tried again no sooner than the server asks', async () => {
  const busy = new KubeError('List', { status: 429, reason: 'TooManyRequests', retryAfterMs: 7_000 });
  const { clock, reflector, server, run } = following([
    { list: forbidden },
    { list: busy },
    { list: { objects: [], resourceVersion: '5' } },
  ]);
  void run();
  await clock.settle();
  assert.deepEqual([reflector.trouble, reflector.hasSynced], [forbidden, false]);
  await clock.until(() => reflector.hasSynced);
  assert.equal(reflector.trouble, undefined);
  const [, second, third] = server.calls;
  assert.equal((third?.atMs ?? 0) - (second?.atMs ?? 0), 7_000);
});

test('whoever waits for the first list gets it, or the reason why it waits no longer', async () => {
  const { clock, reflector, run } = following([{ list: forbidden }, { list: { objects: [], resourceVersion: '5' } }]);
  const reason = new Error('enough');
  const impatient = new AbortController();
  const given = reflector.whenSynced(impatient.signal);
  const synced = reflector.whenSynced(new AbortController().signal);
  void run();
  impatient.abort(reason);
  await assert.rejects(given, reason);
  await clock.finish(synced);
});

test('what cannot be listed is heard of at once, and what can with its first list', async () => {
  const listed: readonly Answer[] = [{ list: { objects: [], resourceVersion: '5' } }, { watch: [] }];
  for (const [answers, synced] of [
    [[{ list: forbidden }, ...listed], false],
    [listed, true],
  ] as const) {
    const { clock, reflector, run } = following(answers);
    const heard = reflector.whenHeard(new AbortController().signal);
    void run();
    await clock.settle();
    await heard;
    assert.equal(reflector.hasSynced, synced);
  }
});

test('everything is told again at each resync, and after the stop nothing', async () => {
  const { clock, told, stop, run } = following(
    [{ list: { objects: [object('a', '3')], resourceVersion: '5' } }],
    60_000,
  );
  const ended = run();
  await clock.advance(130_000);
  assert.deepEqual(told, ['added a', 'resync a', 'resync a']);
  stop.abort(new Error('stopping'));
  await clock.finish(ended);
  assert.equal(clock.nextAtMs(), undefined);
});

test('stop is final, also in the middle of a backoff', async () => {
  const { clock, calls, stop, run } = following([{ list: forbidden }]);
  const ended = run();
  await clock.settle();
  stop.abort(new Error('stopping'));
  await clock.finish(ended);
  await clock.advance(3_600_000);
  assert.deepEqual(calls(), ['list']);
});

for (const [when, answers, resyncMs] of [
  ['of a list', [{ list: { objects: [object('bad', '3')], resourceVersion: '5' } }], undefined],
  ['of a watch', [{ list: { objects: [], resourceVersion: '5' } }, { watch: [added('bad', '6')] }], undefined],
  ['of a resync', [{ list: { objects: [object('later', '3')], resourceVersion: '5' } }], 1_000],
] as const) {
  test(`a listener that throws ${when} ends the reflector loudly, once the others have heard`, async () => {
    const { clock, reflector, told, run } = following(answers, resyncMs);
    const defect = new TypeError('a defect');
    const heard: string[] = [];
    reflector.onChange(({ type, object: { metadata } }) => {
      if (metadata.name === 'bad' || type === 'resync') throw defect;
    });
    reflector.onChange(({ type }) => void heard.push(type));
    const ended = run();
    void ended.catch(() => undefined);
    await clock.advance(2_000);
    await assert.rejects(ended, { code: 'internal', cause: defect });
    assert.equal(heard.length, told.length);
    assert.equal(clock.nextAtMs(), undefined);
  });
}
