import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import type { KubeObject, ObjectKey } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import { Applier } from '@collective/operator/runtime/applier';
import { Controller } from '@collective/operator/runtime/controller';
import { Elector } from '@collective/operator/runtime/elector';
import { OperatorMetrics } from '@collective/operator/runtime/metrics';
import { keyOf, nameOf } from '@collective/operator/runtime/object-store';
import { Reflector } from '@collective/operator/runtime/reflector';
import { WorkQueue } from '@collective/operator/runtime/work-queue';
import { until } from '../until.ts';
import { installCrd } from './crds.ts';
import { configMap, namespaceNamed, operatorApi, WIDGET_DEFINITION, WIDGETS, widget } from './operator-side.ts';
import { loudCalls, quiet } from './quiet.ts';
import { TestApiServer } from './test-apiserver.ts';

// All parts of the runtime at once, as the operator puts them together: each Widget owns a ConfigMap that says its size.

const clock = new SystemClock();
const random = new SystemRandom();
const log = silentLog;
const NAMESPACE = 'widgets';
const USER_AGENT = 'runtime-test';
const WITHIN_MS = 60_000;
const QUIET_MS = 20_000;
const BROKEN_MS = 5_000;
const WIDGETS_MADE = 25;
const LOOKS = 15;

const running = new AsyncDisposableStack();
const metrics = new OperatorMetrics();
let server: TestApiServer;
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  await server.admin.apply(namespaceNamed(NAMESPACE));
  await installCrd(server, WIDGET_DEFINITION);
  api = running.use(await operatorApi(server, { userAgent: USER_AGENT, metrics }));
  startRuntime();
});
after(() => running.disposeAsync());

function startRuntime(): void {
  const queue = new WorkQueue<ObjectKey>({ clock, random, nameOf, metrics: metrics.ofQueue('widget') });
  const follow = (resource: typeof WIDGETS): Reflector => {
    const reflector = new Reflector({ api, resource, namespace: NAMESPACE, clock, random, log });
    reflector.onChange(({ object }) => queue.add(keyOf(object)));
    return reflector;
  };
  const widgets = follow(WIDGETS);
  const configMaps = follow(RESOURCES.configMaps);
  const applier = new Applier({ api, log, observed: (reference) => configMaps.store.get(reference) });
  const controller = new Controller({
    name: 'widget',
    queue,
    workers: 4,
    clock,
    log,
    metrics: metrics.ofController('widget'),
    reconcile: async (key, signal) => {
      const found = widgets.store.get(key);
      if (found === undefined) return {};
      const { size } = found.spec as { size: number };
      const object = configMap(NAMESPACE, key.name, { size: String(size) });
      await applier.apply([{ resource: RESOURCES.configMaps, object }], signal);
      return { requeueAfterMs: 1_000 };
    },
  });
  const elector = new Elector({
    api,
    namespace: NAMESPACE,
    name: 'runtime',
    identity: 'one',
    clock,
    random,
    log,
    metrics,
  });
  const stop = new AbortController();
  const lead = async (signal: AbortSignal): Promise<void> => {
    await Promise.all([widgets.whenSynced(signal), configMaps.whenSynced(signal)]);
    await controller.run(signal);
  };
  const ended = Promise.all([widgets.run(stop.signal), configMaps.run(stop.signal), elector.run(lead, stop.signal)]);
  running.defer(async () => {
    stop.abort(new Error('the test is over'));
    await ended;
    queue.stop();
  });
}

const named = (index: number): string => `widget-${index}`;
const dataOf = async (name: string): Promise<unknown> =>
  (await server.admin.find(configMap(NAMESPACE, name, {})))?.data;
const says = async (name: string, size: string): Promise<void> => {
  await until(
    async () => JSON.stringify(await dataOf(name)) === JSON.stringify({ size }),
    `${name} says ${size}`,
    WITHIN_MS,
  );
};

async function metricOf(series: string): Promise<number> {
  const lines = (await metrics.registry.metrics()).split('\n');
  return Number(lines.find((line) => line.startsWith(`${series} `))?.split(' ')[1]);
}

test('what is wished for is made, and after that there is no call but watches and the lease, though each is looked at each second', async () => {
  for (let index = 0; index < WIDGETS_MADE; index++)
    await server.admin.apply(widget(NAMESPACE, named(index), index % 9));
  for (let index = 0; index < WIDGETS_MADE; index++) await says(named(index), String(index % 9));
  const looks = () => metricOf('controller_runtime_reconcile_total{controller="widget",result="requeue_after"}');
  const enough = (await looks()) + WIDGETS_MADE * LOOKS;
  await quiet(server, { userAgent: USER_AGENT, forMs: QUIET_MS, withinMs: 9 * QUIET_MS });
  // It is not idle: it looks, and finds nothing to do.
  const tail = server.auditTail();
  await until(async () => (await looks()) >= enough, 'each widget is looked at again and again', WITHIN_MS);
  assert.deepEqual(loudCalls(tail.next(), USER_AGENT), []);
  assert.equal(await metricOf('controller_runtime_reconcile_errors_total{controller="widget"}'), 0);
  assert.equal(await metricOf('leader_election_master_status{name="runtime"}'), 1);
});

test('a call breaks the quiet, and is named', async () => {
  const ask = async (): Promise<KubeObject | undefined> =>
    await api.get({ resource: RESOURCES.secrets, namespace: NAMESPACE, name: 'asked-for' });
  // As long as it may take at most: it is broken by one call, whenever that is.
  const disturbed = quiet(server, { userAgent: USER_AGENT, forMs: BROKEN_MS, withinMs: BROKEN_MS });
  const over = new AbortController();
  const noise = (async () => {
    while (!over.signal.aborted) await ask();
  })();
  try {
    await assert.rejects(disturbed, /is quiet for 5000 ms; last seen:\n(.*get .*\/secrets\/asked-for 404\n?)+$/);
  } finally {
    over.abort();
    await noise;
  }
});

test('a change, drift and a deletion are followed at once, also after the server was restarted', async () => {
  await server.admin.apply(widget(NAMESPACE, named(0), 9));
  await says(named(0), '9');
  await server.admin.patch(configMap(NAMESPACE, named(1), {}), { data: { size: '7', foreign: 'x' } });
  await says(named(1), '1');
  await server.admin.remove(configMap(NAMESPACE, named(2), {}));
  await says(named(2), '2');
  await server.restart();
  await server.admin.apply(widget(NAMESPACE, named(3), 8));
  await says(named(3), '8');
});
