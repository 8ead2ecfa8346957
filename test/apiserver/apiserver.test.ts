import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { until } from '../until.ts';
import { type ApiClient, ApiError, type KubeObject } from './api-client.ts';
import { installCrd } from './crds.ts';
import { WIDGET_DEFINITION, WIDGETS, widget } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const ROLE_COUNTS_WITHIN_MS = 30_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
before(async () => {
  server = running.use(await TestApiServer.start());
});
after(() => running.disposeAsync());

const namespace: KubeObject = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'members' } };
const settings = (value: string, name = 'settings') => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'members' },
  data: { value },
});

test('an applied object is stored, applied again it keeps its version, changed it gets another', async () => {
  await server.admin.apply(namespace);
  const first = await server.admin.apply(settings('one'));
  const again: KubeObject = await server.admin.apply(settings('one'));
  const changed: KubeObject = await server.admin.apply(settings('two'));
  const { resourceVersion } = (first as KubeObject).metadata;
  assert.ok(resourceVersion !== undefined);
  assert.equal(again.metadata.resourceVersion, resourceVersion);
  assert.notEqual(changed.metadata.resourceVersion, resourceVersion);
  assert.deepEqual((await server.admin.find(settings('')))?.data, { value: 'two' });
});

test('who has no role may do nothing, and with a role just that', async () => {
  await server.admin.apply(namespace);
  using reader = await server.clientFor({ user: 'reader', groups: ['readers'] });
  await assert.rejects(reader.list('v1', 'ConfigMap', 'members'), { status: 403, reason: 'Forbidden' });
  const rbac = 'rbac.authorization.k8s.io';
  await server.admin.apply({
    apiVersion: `${rbac}/v1`,
    kind: 'Role',
    metadata: { name: 'read', namespace: 'members' },
    rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['list'] }],
  });
  await server.admin.apply({
    apiVersion: `${rbac}/v1`,
    kind: 'RoleBinding',
    metadata: { name: 'read', namespace: 'members' },
    roleRef: { apiGroup: rbac, kind: 'Role', name: 'read' },
    subjects: [{ apiGroup: rbac, kind: 'Group', name: 'readers' }],
  });
  // The authorizer hears of a new role a moment after it is stored.
  await until(() => mayList(reader), 'the role counts', ROLE_COUNTS_WITHIN_MS);
  await assert.rejects(reader.apply(settings('theirs')), { status: 403 });
});

test('what a server does not know is refused by name', async () => {
  await assert.rejects(server.admin.remove(settings('', 'nobody')), (thrown: ApiError) => {
    assert.ok(thrown instanceof ApiError);
    assert.equal(thrown.reason, 'NotFound');
    return true;
  });
  assert.equal(await server.admin.find(settings('', 'nobody')), undefined);
});

test('objects of a kind that was just installed can be stored and listed', async () => {
  // Several of one group at once: what the server tells of the group lags behind the last of them.
  const size = 12;
  const kinds = Array.from({ length: size }, (_, index) => `Widget${index}`);
  const apiVersion = WIDGETS.apiVersion;
  const counts = await Promise.all(
    kinds.map(async (kind) => {
      const [plural, singular] = [`${kind.toLowerCase()}s`, kind.toLowerCase()];
      const names = { plural, singular, kind, listKind: `${kind}List` };
      const { spec } = WIDGET_DEFINITION as unknown as { readonly spec: object };
      const metadata = { name: `${plural}.test.collective.storage` };
      await installCrd(server, { ...WIDGET_DEFINITION, metadata, spec: { ...spec, names } });
      await server.admin.apply({ ...widget('default', 'first', 1), kind });
      return (await server.admin.list(apiVersion, kind, 'default')).length;
    }),
  );
  assert.deepEqual(
    counts,
    kinds.map(() => 1),
  );
});

test('the audit log holds every request with who made it, before the answer is read', async () => {
  await server.admin.apply(namespace);
  const before = server.auditEvents().length;
  using watcher = await server.clientFor({ user: 'watcher' });
  await assert.rejects(watcher.list('v1', 'Secret', 'members'));
  await server.admin.apply(settings('audited', 'audited'));
  const events = server.auditEvents().slice(before);
  const seen = (user: string) =>
    events
      .filter((event) => event.user.username === user && event.objectRef !== undefined)
      .map(({ verb, objectRef, responseStatus }) => [verb, objectRef?.resource, objectRef?.name, responseStatus?.code]);
  assert.deepEqual(seen('watcher'), [['list', 'secrets', undefined, 403]]);
  assert.deepEqual(seen('admin'), [['patch', 'configmaps', 'audited', 201]]);
});

test('a restarted server answers at the same address and has lost nothing', async () => {
  await server.admin.apply(namespace);
  await server.admin.apply(settings('kept', 'kept'));
  await server.restart();
  assert.deepEqual((await server.admin.find(settings('', 'kept')))?.data, { value: 'kept' });
});

async function mayList(client: ApiClient): Promise<boolean> {
  try {
    await client.list('v1', 'ConfigMap', 'members');
    return true;
  } catch (thrown) {
    if (thrown instanceof ApiError && thrown.status === 403) return false;
    throw thrown;
  }
}
