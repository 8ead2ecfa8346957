import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { type Log, silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import type { KubeObject } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import { EventRecorder } from '@collective/operator/runtime/event-recorder';
import { until } from '../until.ts';
import { configMap, namespaceNamed, operatorApi } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const WITHIN_MS = 30_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  await server.admin.apply(namespaceNamed('events'));
  api = running.use(await operatorApi(server));
});
after(() => running.disposeAsync());

interface EventSeen extends KubeObject {
  readonly note: string;
  readonly type: string;
  readonly reason: string;
  readonly series?: { readonly count: number };
  readonly regarding: { readonly name: string; readonly uid: string };
}

async function eventsOf(object: KubeObject): Promise<readonly EventSeen[]> {
  const events = (await server.admin.list('events.k8s.io/v1', 'Event', 'events')) as readonly unknown[];
  return (events as readonly EventSeen[]).filter(({ regarding }) => regarding.uid === object.metadata.uid);
}

test('an event is taken by the server, and what happens again is a series of it', async () => {
  const object = await api.apply(RESOURCES.configMaps, configMap('events', 'alice', {}));
  // The minute between two counts is the recorder's own; the server is real.
  const clock = new FakeClock({ startSeconds: new SystemClock().now().seconds });
  await using recorder = new EventRecorder({ api, clock, log: silentLog, instance: 'operator-0' });
  const lost = { type: 'Warning', reason: 'VolumeLost', message: 'The volume of node a-0 is gone' } as const;
  recorder.record(object, lost);
  await until(async () => (await eventsOf(object)).length === 1, 'the event is there', WITHIN_MS);
  recorder.record(object, lost);
  recorder.record(object, lost);
  recorder.record(object, { type: 'Normal', reason: 'Created', message: 'Made the volume again' });
  const counted = async (): Promise<number | undefined> =>
    (await eventsOf(object)).find(({ reason }) => reason === 'VolumeLost')?.series?.count;
  await until(
    async () => {
      await clock.advance(60_000);
      return (await counted()) === 3;
    },
    'it is counted',
    WITHIN_MS,
  );
  const events = await eventsOf(object);
  assert.deepEqual(events.map(({ type, reason, note }) => [type, reason, note]).sort(), [
    ['Normal', 'Created', 'Made the volume again'],
    ['Warning', 'VolumeLost', 'The volume of node a-0 is gone'],
  ]);
  const [event] = events.filter(({ reason }) => reason === 'VolumeLost');
  assert.deepEqual(
    [event?.action, event?.reportingController, event?.reportingInstance],
    ['Reconcile', 'collective-operator', 'operator-0'],
  );
  // As `kubectl describe` and older tools read it.
  const core = (await server.admin.find({
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { namespace: 'events', name: event?.metadata.name ?? '' },
  })) as { message?: string; involvedObject?: { name: string } } | undefined;
  assert.deepEqual([core?.message, core?.involvedObject?.name], [lost.message, 'alice']);
});

test('who may not write events is told so in its log, and nothing else happens', async () => {
  const object = await api.apply(RESOURCES.configMaps, configMap('events', 'bob', {}));
  const mute = running.use(await operatorApi(server, { person: { user: 'mute' } }));
  const heard: unknown[] = [];
  const log: Log = { ...silentLog, warn: ({ err }) => void heard.push(err) };
  await using recorder = new EventRecorder({ api: mute, clock: new SystemClock(), log, instance: 'operator-0' });
  recorder.record(object, { type: 'Normal', reason: 'Created', message: 'Made' });
  await until(() => heard.length === 1, 'the log says so', WITHIN_MS);
  assert.match(String(heard[0]), /403 Forbidden: .*User "mute" cannot create resource "events"/);
});
