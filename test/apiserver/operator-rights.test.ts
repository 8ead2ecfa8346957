/**
 * The rights that the chart gives, as the operator uses them: through its own client, with the identity of its ServiceAccount,
 * against real RBAC. Whether a right is missing shows here and not in somebody's cluster.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import type { KubeObject, ResourceKind } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import { CertManager } from './cert-manager.ts';
import { installCrds } from './crds.ts';
import { RELEASE_NAMESPACE } from './helm.ts';
import { grantOperatorRights, OPERATOR_ACCOUNT } from './operator-account.ts';
import { operatorApi } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const NAMESPACE = 'photos';

const running = new AsyncDisposableStack();
let server: TestApiServer;
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  running.use(await CertManager.start(server));
  await installCrds(server);
  await grantOperatorRights(server);
  await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
  api = running.use(await operatorApi(server, { person: OPERATOR_ACCOUNT }));
});
after(() => running.disposeAsync());

const NOT_WATCHED: readonly ResourceKind[] = [RESOURCES.leases, RESOURCES.podMonitors, RESOURCES.namespaces];
const labels = { app: 'alice' };
const podTemplate = {
  metadata: { labels },
  spec: { restartPolicy: 'Always', containers: [{ name: 'main', image: 'main:1' }] },
};

/** Bodies of what the operator applies, each as small as the server takes it. */
const OWNED: Readonly<Partial<Record<keyof typeof RESOURCES, object>>> = {
  certificates: { spec: { secretName: 'alice', commonName: 'alice', issuerRef: { name: 'alice' } } },
  certificateRequests: { spec: { request: Buffer.from('a request').toString('base64'), issuerRef: { name: 'alice' } } },
  issuers: { spec: { selfSigned: {} } },
  configMaps: { data: { 'trust.pem': '' } },
  services: { spec: { selector: labels, ports: [{ port: 7420 }] } },
  serviceAccounts: { automountServiceAccountToken: false },
  volumeClaims: { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } },
  statefulSets: { spec: { serviceName: 'alice', selector: { matchLabels: labels }, template: podTemplate } },
  disruptionBudgets: { spec: { minAvailable: 1, selector: { matchLabels: labels } } },
  networkPolicies: { spec: { podSelector: { matchLabels: labels }, policyTypes: ['Egress'] } },
  cronJobs: {
    spec: {
      schedule: '17 3 * * *',
      jobTemplate: { spec: { template: { ...podTemplate, spec: { ...podTemplate.spec, restartPolicy: 'Never' } } } },
    },
  },
};

for (const [name, body] of Object.entries(OWNED)) {
  test(`K1: the operator makes, changes, finds and removes ${name}`, async () => {
    const resource = RESOURCES[name as keyof typeof OWNED];
    const made = await api.apply(resource, objectOf(resource, body));
    const changed = await api.apply(resource, {
      ...objectOf(resource, body),
      metadata: { name: 'alice', namespace: NAMESPACE, uid: made.metadata.uid, annotations: { changed: 'yes' } },
    });
    assert.equal(changed.metadata.annotations?.changed, 'yes');
    const { objects } = await api.list(resource, { namespace: NAMESPACE });
    assert.ok(objects.some(({ metadata }) => metadata.uid === made.metadata.uid));
    assert.ok(await api.delete(referenceTo(resource), { uid: made.metadata.uid }));
  });
}

test('K1: the operator writes the status of a member and its finalizer, and no new member', async () => {
  const spec = { collectiveRef: { name: 'photos' }, nodePools: [{ name: 'disks', replicas: 1, capacity: '1Gi' }] };
  const member = objectOf(RESOURCES.members, { spec });
  await assert.rejects(api.apply(RESOURCES.members, member), { status: 403 });
  await server.admin.apply(member);
  const finalizers = { metadata: { finalizers: ['collective.storage/member'] } };
  assert.deepEqual((await api.patch(referenceTo(RESOURCES.members), finalizers)).metadata.finalizers, [
    'collective.storage/member',
  ]);
  const status = await api.applyStatus(
    RESOURCES.members,
    objectOf(RESOURCES.members, { status: { nodesReady: '1/1' } }),
  );
  assert.deepEqual(status.status, { nodesReady: '1/1' });
});

test('T6: the operator asks cert-manager for a new leaf, and removes a Secret that it could neither make nor change', async () => {
  const certificate = objectOf(RESOURCES.certificates, OWNED.certificates ?? {});
  await api.apply(RESOURCES.certificates, certificate);
  const issuing = {
    type: 'Issuing',
    status: 'True',
    reason: 'Asked',
    message: '',
    lastTransitionTime: '2026-11-25T20:00:00Z',
  };
  await api.patch(
    referenceTo(RESOURCES.certificates),
    { status: { conditions: [issuing] } },
    { subresource: 'status' },
  );

  const secret = objectOf(RESOURCES.secrets, { data: {} });
  await assert.rejects(api.apply(RESOURCES.secrets, secret), { status: 403 });
  const made = await server.admin.apply(secret);
  const changed = { data: { 'tls.crt': '' } };
  await assert.rejects(api.patch(referenceTo(RESOURCES.secrets), changed), { status: 403 });
  assert.ok(await api.delete(referenceTo(RESOURCES.secrets), { uid: made.metadata.uid }));
});

test('K1: the operator takes the Lease in its own namespace, and in no other', async () => {
  const lease = (namespace: string): KubeObject => ({
    apiVersion: RESOURCES.leases.apiVersion,
    kind: RESOURCES.leases.kind,
    metadata: { name: 'collective-operator', namespace },
    spec: { holderIdentity: 'one' },
  });
  const reference = { resource: RESOURCES.leases, namespace: RELEASE_NAMESPACE, name: 'collective-operator' };
  await api.create(RESOURCES.leases, lease(RELEASE_NAMESPACE));
  await api.patch(reference, { spec: { holderIdentity: 'two' } });
  assert.deepEqual((await api.get(reference))?.spec, { holderIdentity: 'two' });
  await assert.rejects(api.create(RESOURCES.leases, lease(NAMESPACE)), { status: 403 });
});

test('K1: the operator tells events and reads them', async () => {
  const event = {
    apiVersion: RESOURCES.events.apiVersion,
    kind: RESOURCES.events.kind,
    metadata: { name: 'alice.1', namespace: NAMESPACE },
    eventTime: '2026-11-25T20:00:00.000000Z',
    reportingController: 'collective.storage/operator',
    reportingInstance: 'operator-0',
    action: 'Reconcile',
    reason: 'Rotated',
    type: 'Normal',
    note: 'Generation 2 signs.',
    regarding: { apiVersion: 'collective.storage/v1alpha1', kind: 'Member', name: 'alice', namespace: NAMESPACE },
  };
  await api.create(RESOURCES.events, event);
  const series = { series: { count: 2, lastObservedTime: '2026-11-25T20:01:00.000000Z' } };
  await api.patch({ resource: RESOURCES.events, namespace: NAMESPACE, name: 'alice.1' }, series);
  const { objects } = await api.list(RESOURCES.events, { namespace: NAMESPACE });
  assert.ok(objects.some(({ reason }) => reason === 'Rotated'));
});

test('K3: the operator sees whether a namespace is being deleted, and nothing else of it', async () => {
  const reference = { resource: RESOURCES.namespaces, namespace: '', name: NAMESPACE };
  assert.equal((await api.get(reference))?.metadata.deletionTimestamp, undefined);
  await assert.rejects(api.patch(reference, { metadata: { labels: { seen: 'yes' } } }), { status: 403 });
});

test('K1: the operator watches what it reads in all namespaces at once', async () => {
  for (const resource of Object.values(RESOURCES)) {
    if (NOT_WATCHED.includes(resource)) continue;
    assert.ok(await mayList(resource), resource.plural);
  }
});

async function mayList(resource: ResourceKind): Promise<boolean> {
  try {
    await api.list(resource);
    return true;
  } catch (thrown) {
    if ((thrown as { status?: number }).status === 403) return false;
    throw thrown;
  }
}

function objectOf({ apiVersion, kind }: ResourceKind, body: object): KubeObject {
  return { apiVersion, kind, metadata: { name: 'alice', namespace: NAMESPACE }, ...body };
}

function referenceTo(resource: ResourceKind) {
  return { resource, namespace: NAMESPACE, name: 'alice' };
}
