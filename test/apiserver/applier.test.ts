import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import type { KubeObject, ObjectReference, ResourceKind } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import type { Apply } from '@collective/operator/member/plan-types';
import { Applier, type ApplyOutcome } from '@collective/operator/runtime/applier';
import { Reflector } from '@collective/operator/runtime/reflector';
import { until } from '../until.ts';
import { ApiError } from './api-client.ts';
import { configMap, namespaceNamed, operatorApi } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const clock = new SystemClock();
const WITHIN_MS = 60_000;
const NAMESPACE = 'applied';
const WATCHED = [RESOURCES.configMaps, RESOURCES.services, RESOURCES.statefulSets, RESOURCES.networkPolicies];

const running = new AsyncDisposableStack();
let server: TestApiServer;
let api: HttpKubeApi;
const reflectors = new Map<ResourceKind, Reflector>();
let applier: Applier;
before(async () => {
  server = running.use(await TestApiServer.start());
  await server.admin.apply(namespaceNamed(NAMESPACE));
  api = running.use(await operatorApi(server, { userAgent: 'applier' }));
  const stop = new AbortController();
  for (const resource of WATCHED) {
    const random = new SeededRandom(1);
    const reflector = new Reflector({ api, resource, namespace: NAMESPACE, clock, random, log: silentLog });
    reflectors.set(resource, reflector);
    const ended = reflector.run(stop.signal);
    running.defer(async () => {
      stop.abort(new Error('the test is over'));
      await ended;
    });
    await reflector.whenSynced(AbortSignal.timeout(WITHIN_MS));
  }
  applier = new Applier({ api, log: silentLog, observed });
});
after(() => running.disposeAsync());

const observed = ({ resource, namespace, name }: ObjectReference): KubeObject | undefined =>
  reflectors.get(resource)?.store.get({ namespace, name });

/** The caches have what the server has. */
async function caughtUp(intents: readonly Apply[]): Promise<void> {
  for (const { resource, object } of intents) {
    const there = (await server.admin.find(object))?.metadata.resourceVersion;
    const { namespace = '', name } = object.metadata;
    await until(
      () => observed({ resource, namespace, name })?.metadata.resourceVersion === there,
      `the cache has ${name}`,
      WITHIN_MS,
    );
  }
}

/** Applies until nothing is left to do, and says how many calls that took; never more than one round beyond the first. */
async function settle(intents: readonly Apply[]): Promise<readonly number[]> {
  const rounds: number[] = [];
  let outcome: ApplyOutcome;
  do {
    outcome = await applier.apply(intents);
    rounds.push(outcome.writes);
    await caughtUp(intents);
    assert.ok(rounds.length < 4, `it does not come to rest: ${rounds}`);
  } while (outcome.writes > 0);
  return rounds;
}

const labels = { app: 'alice' };
const settings = (name: string, data: Readonly<Record<string, string>> = { key: 'value' }): Apply => ({
  resource: RESOURCES.configMaps,
  object: configMap(NAMESPACE, name, data),
});
const service = (name: string, nodePort?: number): Apply => ({
  resource: RESOURCES.services,
  object: {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: NAMESPACE, name },
    spec: {
      type: 'NodePort',
      selector: labels,
      ports: [{ name: 'grpc', port: 7420, ...(nodePort === undefined ? {} : { nodePort }) }],
    },
  },
});
const statefulSet = (name: string, replicas = 1): Apply => ({
  resource: RESOURCES.statefulSets,
  object: {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { namespace: NAMESPACE, name, labels },
    spec: {
      replicas,
      serviceName: name,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [{ name: 'main', image: 'example/main:1' }] } },
    },
  },
});
const policy = (name: string): Apply => ({
  resource: RESOURCES.networkPolicies,
  object: {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { namespace: NAMESPACE, name },
    spec: { podSelector: { matchLabels: labels }, policyTypes: ['Ingress'], ingress: [{ ports: [{ port: 7420 }] }] },
  },
});
const all = (name: string): readonly Apply[] => [settings(name), service(name), statefulSet(name), policy(name)];

test('objects are made once; applied again there is no call at all, also after their status has gone on', async () => {
  const intents = all('quiet');
  assert.deepEqual(await settle(intents), [4, 0]);
  await server.admin.patch(statefulSet('quiet').object, { status: { replicas: 1, readyReplicas: 1 } }, 'status');
  await caughtUp(intents);
  const before = server.auditEvents().length;
  const { objects, writes } = await applier.apply(intents);
  assert.equal(writes, 0);
  assert.deepEqual(
    objects.map(({ kind }) => kind),
    ['ConfigMap', 'Service', 'StatefulSet', 'NetworkPolicy'],
  );
  const calls = server
    .auditEvents()
    .slice(before)
    .filter(({ userAgent, verb }) => userAgent === 'applier' && verb !== 'watch');
  assert.deepEqual(calls, []);
});

test('K1: an operator that begins anew makes no call for what is as its like applied it', async () => {
  const intents = all('anew');
  await settle(intents);
  applier = new Applier({ api, log: silentLog, observed });
  assert.deepEqual(await settle(intents), [0]);
});

test('K1: what is meant otherwise by an operator that begins anew is applied, and what it no longer means is taken away', async () => {
  const before = settings('meant', { key: 'value', old: 'x' });
  await settle([before, service('meant')]);
  applier = new Applier({ api, log: silentLog, observed });
  const now = settings('meant');
  assert.deepEqual(await settle([now, service('meant')]), [1, 0]);
  assert.deepEqual((await server.admin.find(now.object))?.data, { key: 'value' });
});

const drifts: readonly {
  name: string;
  intent: (name: string) => Apply;
  change: object;
  mended: (object: KubeObject) => unknown;
  want: unknown;
}[] = [
  {
    name: 'a foreign key of a ConfigMap',
    intent: (name) => settings(name),
    change: { data: { foreign: 'x' }, binaryData: { more: 'eA==' } },
    mended: ({ data, binaryData }) => [data, binaryData],
    want: [{ key: 'value' }, undefined],
  },
  {
    name: 'a changed value of a ConfigMap',
    intent: (name) => settings(name),
    change: { data: { key: 'other' } },
    mended: ({ data }) => data,
    want: { key: 'value' },
  },
  {
    name: 'a foreign key in the selector of a Service',
    intent: service,
    change: { spec: { selector: { canary: 'yes' } } },
    mended: ({ spec }) => (spec as { selector: object }).selector,
    want: labels,
  },
  {
    name: 'a scaled StatefulSet',
    intent: (name) => statefulSet(name),
    change: { spec: { replicas: 0 } },
    mended: ({ spec }) => (spec as { replicas: number }).replicas,
    want: 1,
  },
  {
    name: 'a label that was taken from a StatefulSet',
    intent: (name) => statefulSet(name),
    change: { metadata: { labels: { app: null } } },
    mended: ({ metadata }) => metadata.labels,
    want: labels,
  },
  {
    name: 'a way out that a NetworkPolicy did not have',
    intent: policy,
    change: { spec: { egress: [{}] } },
    mended: ({ spec }) => (spec as { egress?: object }).egress,
    want: undefined,
  },
];
for (const [index, { name, intent: intended, change, mended, want, begins }] of drifts
  .flatMap((drift) => [false, true].map((begins) => ({ ...drift, begins })))
  .entries()) {
  const by = begins ? 'by an operator that begins anew ' : '';
  test(`K1: drift is found ${by}and mended, and then it is quiet again: ${name}`, async () => {
    const intent = intended(`drift-${index}`);
    await settle([intent]);
    await server.admin.patch(intent.object, change);
    await caughtUp([intent]);
    if (begins) applier = new Applier({ api, log: silentLog, observed });
    const rounds = await settle([intent]);
    assert.ok((rounds[0] ?? 0) >= 1, `rounds: ${rounds}`);
    const object = await server.admin.find(intent.object);
    assert.ok(object !== undefined);
    assert.deepEqual(mended(object as KubeObject), want);
  });
}

test('a foreign port goes, and ours keeps the node port that the server gave it', async () => {
  const intent = service('ports');
  await settle([intent]);
  const ports = async (): Promise<readonly object[]> => {
    const found = await server.admin.find(intent.object);
    assert.ok(found !== undefined);
    return (found.spec as { ports: readonly object[] }).ports;
  };
  const [ours] = await ports();
  await server.admin.patch(intent.object, { spec: { ports: [ours, { name: 'ssh', port: 22 }] } });
  assert.equal((await ports()).length, 2);
  await caughtUp([intent]);
  await settle([intent]);
  assert.deepEqual(await ports(), [ours]);
  assert.ok(ours !== undefined && 'nodePort' in ours);
});

test('a deleted object is made again', async () => {
  const intent = settings('deleted');
  await settle([intent]);
  await server.admin.remove(intent.object);
  await caughtUp([intent]);
  assert.deepEqual(await settle([intent]), [1, 0]);
  assert.deepEqual((await server.admin.find(intent.object))?.data, { key: 'value' });
});

test('an object that must exist is not made again: its uid makes that a conflict, and the others are applied', async () => {
  const lost = settings('lost');
  await settle([lost]);
  const { uid = '' } = (await server.admin.find(lost.object))?.metadata ?? {};
  await server.admin.remove(lost.object);
  await caughtUp([lost]);
  const mustExist = { ...lost, object: { ...lost.object, metadata: { ...lost.object.metadata, uid } } };
  await assert.rejects(applier.apply([mustExist, settings('beside')]), { status: 409, reason: 'Conflict' });
  assert.equal(await server.admin.find(lost.object), undefined);
  assert.notEqual(await server.admin.find(settings('beside').object), undefined);
});

test('a refused object is the outcome, with what the server says, and keeps no other from being applied', async () => {
  const hard = { 'count/statefulsets.apps': '0' };
  const quota = { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { namespace: NAMESPACE, name: 'none' } };
  await server.admin.apply({ ...quota, spec: { hard } });
  // Nobody counts here: the status is what a controller manager would write.
  await server.admin.patch(quota, { status: { hard, used: hard } }, 'status');
  let tries = 0;
  await until(
    async () => await isRefused(server.admin.apply(statefulSet(`until-the-quota-counts-${++tries}`).object)),
    'the server knows of the quota',
    WITHIN_MS,
  );
  const intents = [statefulSet('over-quota'), settings('within-quota')];
  const { refused, objects } = await applier.apply(intents);
  assert.equal(refused.length, 1);
  assert.equal(refused[0]?.intent, intents[0]);
  assert.match(
    refused[0]?.error.message ?? '',
    /^Apply statefulsets applied\/over-quota: 403 Forbidden: .*exceeded quota: none/,
  );
  assert.equal(objects.length, 1);
  await server.admin.remove(quota);
});

test('a webhook that does not answer holds up objects of its group only, and they come once it is gone', async () => {
  const webhook = {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: 'silent' },
  };
  const silent = {
    name: 'silent.example.test',
    clientConfig: { url: 'https://127.0.0.1:1' },
    rules: [
      { apiGroups: ['networking.k8s.io'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['networkpolicies'] },
    ],
    namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': NAMESPACE } },
    sideEffects: 'None',
    admissionReviewVersions: ['v1'],
  };
  await server.admin.apply({ ...webhook, webhooks: [silent] });
  let tries = 0;
  await until(
    async () => await isRefused(server.admin.apply(policy(`until-the-webhook-counts-${++tries}`).object), 500),
    'the server knows of the webhook',
    WITHIN_MS,
  );
  const intents = [settings('before-it'), policy('held-up'), policy('not-even-tried'), settings('after-it')];
  const { refused, objects } = await applier.apply(intents);
  assert.deepEqual(
    refused.map(({ intent, error }) => [intent, error.status]),
    [[intents[1], 500]],
  );
  assert.match(refused[0]?.error.message ?? '', /failed calling webhook "silent\.example\.test"/);
  assert.deepEqual(
    objects.map(({ metadata }) => metadata.name),
    ['before-it', 'after-it'],
  );
  await server.admin.remove(webhook);
  await until(async () => (await applier.apply(intents)).refused.length === 0, 'nothing is held up', WITHIN_MS);
});

test('D10: what is asked for at first is a matter of the beginning, and the port stays when it is asked for no more', async () => {
  const usual = service('returned');
  await settle([usual]);
  const port = await nodePort('returned');
  const intent = { ...usual, atFirst: service('returned', port).object };
  assert.deepEqual(await settle([intent]), [0]);
  await server.admin.remove(usual.object);
  await caughtUp([intent]);
  assert.deepEqual(await settle([intent]), [1, 1, 0]);
  assert.equal(await nodePort('returned'), port);
  assert.ok(!JSON.stringify((await server.admin.find(usual.object))?.metadata).includes('f:nodePort'));
});

test('what is refused at first gives way to the usual, and when that is refused too it is refused', async () => {
  await settle([service('holder')]);
  const held = await nodePort('holder');
  const intent = { ...service('late'), atFirst: service('late', held).object };
  const { refused, gaveWay, writes } = await applier.apply([intent]);
  assert.deepEqual([refused.length, writes], [0, 2]);
  assert.deepEqual(
    gaveWay.map(({ intent: of, error: { status }, object }) => [of, status, object.metadata.name]),
    [[intent, 422, 'late']],
  );
  assert.notEqual(await nodePort('late'), held);
  await caughtUp([intent]);
  assert.deepEqual(await settle([intent]), [0]);
  const hopeless = service('hopeless', held);
  const outcome = await applier.apply([{ ...hopeless, atFirst: hopeless.object }]);
  assert.deepEqual([outcome.refused.length, outcome.gaveWay.length], [1, 0]);
});

async function nodePort(name: string): Promise<number | undefined> {
  const found = await server.admin.find(service(name).object);
  return (found?.spec as { ports?: { nodePort?: number }[] } | undefined)?.ports?.[0]?.nodePort;
}

test('an object that cannot be changed so is refused with the field', async () => {
  await settle([statefulSet('immutable')]);
  const changed = statefulSet('immutable');
  const { spec } = changed.object as { spec?: object };
  const { refused } = await applier.apply([
    { ...changed, object: { ...changed.object, spec: { ...spec, serviceName: 'x' } } },
  ]);
  assert.deepEqual(
    refused.map(({ error: { status, reason } }) => [status, reason]),
    [[422, 'Invalid']],
  );
});

test('a removal is of the very object, and safe to do twice', async () => {
  const intent = settings('removed');
  await settle([intent]);
  const { uid = '' } = (await server.admin.find(intent.object))?.metadata ?? {};
  const reference = { resource: RESOURCES.configMaps, namespace: NAMESPACE, name: 'removed' };
  await assert.rejects(applier.remove([{ reference, uid: 'another' }]), { status: 409 });
  assert.equal((await applier.remove([{ reference, uid }])).removed, 1);
  assert.equal((await applier.remove([{ reference, uid }])).removed, 0);
});

async function isRefused(asked: Promise<unknown>, as = 403): Promise<boolean> {
  try {
    await asked;
    return false;
  } catch (thrown) {
    if (thrown instanceof ApiError && thrown.status === as) return true;
    throw thrown;
  }
}
