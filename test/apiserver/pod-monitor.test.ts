import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Collective } from '@collective/operator/api/collective';
import { podMonitor } from '@collective/operator/collective/pod-monitor';
import { PodMonitorKeeper } from '@collective/operator/collective/pod-monitor-keeper';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import type { PlannedEvent } from '@collective/operator/member/plan-types';
import type { KubeObject } from './api-client.ts';
import { installCrds } from './crds.ts';
import { OPERATOR, operatorApi } from './operator-side.ts';
import { installPrometheusCrds } from './prometheus-crds.ts';
import { TestApiServer } from './test-apiserver.ts';

const NAMESPACE = 'photos';
const NEVER = new AbortController().signal;

const running = new AsyncDisposableStack();
let server: TestApiServer;
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  await installCrds(server);
  await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
  api = running.use(await operatorApi(server));
});
after(() => running.disposeAsync());

const monitorOf = (name: string): KubeObject => ({
  apiVersion: 'monitoring.coreos.com/v1',
  kind: 'PodMonitor',
  metadata: { name, namespace: NAMESPACE },
});

async function collective(name: string, monitoring: object): Promise<Collective> {
  const stored = await server.admin.apply<KubeObject>({
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Collective',
    metadata: { name, namespace: NAMESPACE },
    spec: { domain: 'photos.example', monitoring },
  });
  return stored as unknown as Collective;
}

function keeper(): { keeper: PodMonitorKeeper; events: PlannedEvent[] } {
  const events: PlannedEvent[] = [];
  return { keeper: new PodMonitorKeeper({ api, events: { record: (_, event) => void events.push(event) } }), events };
}

const calls = (): number =>
  server.auditEvents().filter(({ user, objectRef }) => user.username === OPERATOR.user && objectRef !== undefined)
    .length;

test('K1: without the Prometheus operator a Collective is told so, and nothing is asked when it wants none', async () => {
  const { keeper: keeping, events } = keeper();
  assert.deepEqual(await keeping.keep(await collective('plain', {}), NEVER), {});
  assert.deepEqual(events, []);
  const { requeueAfterMs } = await keeping.keep(await collective('wishful', { enabled: true }), NEVER);
  assert.ok(requeueAfterMs !== undefined && requeueAfterMs > 0);
  assert.deepEqual(
    events.map(({ type, reason }) => [type, reason]),
    [['Warning', 'PrometheusOperatorMissing']],
  );
});

test('K1: a PodMonitor comes, follows its Collective and goes, and a steady Collective costs no call', async () => {
  await installPrometheusCrds(server);
  const { keeper: keeping } = keeper();
  const first = await collective('photos', { enabled: true, interval: '30s' });
  await keeping.keep(first, NEVER);
  const made = await server.admin.find(monitorOf('photos'));
  const owners = (made ?? first).metadata as { ownerReferences?: readonly { uid: string }[] };
  assert.deepEqual(
    owners.ownerReferences?.map(({ uid }) => uid),
    [first.metadata.uid],
  );

  const before = calls();
  await keeping.keep(first, NEVER);
  assert.equal(calls(), before);

  await keeping.keep(await collective('photos', { enabled: true, interval: '1m' }), NEVER);
  const changed = await server.admin.find(monitorOf('photos'));
  assert.ok(changed !== undefined);
  // A field that the kind does not know would have been dropped in silence.
  const wanted = podMonitor(
    await collective('photos', { enabled: true, interval: '1m', labels: { release: 'prometheus' } }),
  );
  assert.ok(wanted !== undefined);
  await server.admin.apply(wanted, { strict: true, dryRun: true });
  const { podMetricsEndpoints } = changed.spec as { podMetricsEndpoints: readonly { interval?: string }[] };
  assert.equal(podMetricsEndpoints[0]?.interval, '1m');

  await keeping.keep(await collective('photos', { enabled: false }), NEVER);
  assert.equal(await server.admin.find(monitorOf('photos')), undefined);
});

test("K1: a PodMonitor of the same name that is somebody else's stays", async () => {
  await installPrometheusCrds(server);
  await server.admin.apply({ ...monitorOf('theirs'), spec: { selector: {}, podMetricsEndpoints: [] } });
  await keeper().keeper.keep(await collective('theirs', {}), NEVER);
  assert.ok(await server.admin.find(monitorOf('theirs')));
});
