import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { until } from '../until.ts';
import type { KubeObject } from './api-client.ts';
import { readCrds } from './crds.ts';
import { CHART, Helm, RELEASE, RELEASE_NAMESPACE } from './helm.ts';
import { Kubectl } from './kubectl.ts';
import { OPERATOR_ACCOUNT } from './operator-account.ts';
import { installPrometheusCrds } from './prometheus-crds.ts';
import { TestApiServer } from './test-apiserver.ts';

const ROLE_COUNTS_WITHIN_MS = 30_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
let helm: Helm;
let kubectl: Kubectl;
before(async () => {
  server = running.use(await TestApiServer.start());
  await installPrometheusCrds(server);
  helm = new Helm(server);
  kubectl = new Kubectl(server);
  for (const name of [RELEASE_NAMESPACE, 'photos', 'home', 'elsewhere']) {
    const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
    await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
  }
});
after(() => running.disposeAsync());

const set = (name: string): string => `${import.meta.dirname}/../fixtures/chart/${name}.values.yaml`;

for (const name of ['bare', 'default', 'everything', 'namespaced']) {
  test(`K1: the apiserver takes every object of the chart with the values "${name}", and knows every field`, async () => {
    const rendered = await helm.render('--values', set(name));
    assert.ok(rendered.length > 0);
    for (const object of rendered) await server.admin.apply(object, { strict: true, dryRun: true });
  });
}

test('K1: pods of the chart may run where Pod Security is restricted', async () => {
  for (const name of ['default', 'everything']) {
    const rendered = await helm.render('--values', set(name));
    const pods = rendered.map(podOf).filter((pod) => pod !== undefined);
    assert.equal(pods.length, 2);
    for (const pod of pods) await server.admin.apply(pod, { strict: true, dryRun: true });
  }
});

test('K1: helm installs, changes and uninstalls it, and the kinds with their objects stay', async () => {
  const where = ['--namespace', RELEASE_NAMESPACE];
  const notes = await helm.run('install', RELEASE, CHART, ...where);
  assert.match(notes, /^! This cluster has no cert-manager\./m);
  assert.match(notes, /^The Collective operator 0\.[0-9.]+ looks after all namespaces\.$/m);
  await kubectl.run('wait', '--for=condition=Established', 'crd', ...readCrds().map(({ metadata }) => metadata.name));

  await helm.run('upgrade', RELEASE, CHART, ...where, '--set', 'operator.replicas=2');
  const budget = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name: 'collective-operator', namespace: RELEASE_NAMESPACE },
  };
  assert.ok(await server.admin.find(budget));
  // As the page about upgrades says it: values that were set stay.
  await helm.run('upgrade', RELEASE, CHART, ...where, '--reset-then-reuse-values');
  assert.ok(await server.admin.find(budget));

  const collective = {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Collective',
    metadata: { name: 'photos', namespace: 'photos' },
    spec: { domain: 'photos.example' },
  };
  await server.admin.apply(collective);
  await helm.run('uninstall', RELEASE, ...where);
  assert.equal(await server.admin.find(budget), undefined);
  assert.ok(await server.admin.find(collective));
});

test('K1: in the whole cluster the operator may do just what it needs', async () => {
  await withAccess('default', async () => {
    await becomes(true, 'patch', 'leases.coordination.k8s.io/collective-operator', '-n', RELEASE_NAMESPACE);
    await mayNever('patch', 'leases.coordination.k8s.io/another', '-n', RELEASE_NAMESPACE);
    await becomes(true, 'patch', 'members.collective.storage/status', '-n', 'photos');
    await becomes(true, 'create', 'statefulsets.apps', '-n', 'elsewhere');
    await becomes(true, 'get', 'namespaces/elsewhere');
    await mayNever('list', 'namespaces');
    await mayNever('list', 'nodes');
    await mayNever('patch', 'leases.coordination.k8s.io/collective-operator', '-n', 'photos');
    await mayNever('create', 'secrets', '-n', 'photos');
    await mayNever('create', 'pods', '-n', 'photos');
    await mayNever('create', 'pods/exec', '-n', 'photos');
    await mayNever('create', 'pods/portforward', '-n', 'photos');
    await mayNever('delete', 'members.collective.storage', '-n', 'photos');
    await mayNever('create', 'clusterroles.rbac.authorization.k8s.io');
  });
});

test('K1: in namespaced mode it may do nothing elsewhere', async () => {
  await withAccess('namespaced', async () => {
    await becomes(true, 'get', 'secrets', '-n', 'photos');
    await becomes(true, 'create', 'statefulsets.apps', '-n', 'home');
    await becomes(true, 'get', 'namespaces/home', '-n', 'home');
    await mayNever('get', 'namespaces/elsewhere', '-n', 'elsewhere');
    await mayNever('get', 'secrets', '-n', 'elsewhere');
    await mayNever('get', 'secrets', '-n', RELEASE_NAMESPACE);
    await mayNever('list', 'members.collective.storage', '--all-namespaces');
    await mayNever('list', 'nodes');
  });
});

const ACCESS = ['ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding'];

async function accessOf(name: string): Promise<readonly KubeObject[]> {
  return (await helm.render('--values', set(name))).filter(({ kind }) => ACCESS.includes(kind));
}

/** The authorizer hears of roles a moment after they are stored or removed. */
async function withAccess(name: string, judge: () => Promise<void>): Promise<void> {
  const objects = await accessOf(name);
  await becomes(false, 'get', 'secrets', '-n', 'photos');
  for (const object of objects) await server.admin.apply(object, { strict: true });
  await judge();
  for (const object of objects) await server.admin.remove(object);
}

async function becomes(allowed: boolean, ...what: string[]): Promise<void> {
  const level = async (): Promise<boolean> => (await mayOperator(...what)) === allowed;
  await until(level, `the operator may${allowed ? '' : ' not'} ${what.join(' ')}`, ROLE_COUNTS_WITHIN_MS);
}

async function mayNever(...what: string[]): Promise<void> {
  assert.equal(await mayOperator(...what), false, what.join(' '));
}

/** As the apiserver itself judges it. */
async function mayOperator(...what: string[]): Promise<boolean> {
  // "no" ends with exit code 1 and is no failure of ours.
  const said = await kubectl.ask('auth', 'can-i', ...what, '--as', OPERATOR_ACCOUNT.user);
  assert.match(said, /^(yes|no)/m, said);
  return said.startsWith('yes');
}

/** The pod that an object is or has a template of. */
function podOf(object: KubeObject): KubeObject | undefined {
  if (object.kind === 'Pod') return object;
  if (object.kind !== 'Deployment') return undefined;
  const { template } = object.spec as { template: { metadata: object; spec: object } };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...template.metadata, name: 'operator', namespace: RELEASE_NAMESPACE },
    spec: template.spec,
  };
}
