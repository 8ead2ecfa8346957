import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import { KubeAccess } from '@collective/operator/kube/kube-access';
import type { WatchEvent } from '@collective/operator/kube/kube-api';
import { KubeError } from '@collective/operator/kube/kube-error';
import type { KubeObject, ObjectReference } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import { TcpProxy } from '../tcp-proxy.ts';
import { until } from '../until.ts';
import { installCrd } from './crds.ts';
import { configMap, namespaceNamed, operatorApi, WIDGET_DEFINITION, WIDGETS, widget } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const clock = new SystemClock();
const CONFIG_MAPS = RESOURCES.configMaps;
const WITHIN_MS = 60_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  api = running.use(await operatorApi(server));
  await server.admin.apply(namespaceNamed('members'));
  await installCrd(server, WIDGET_DEFINITION);
});
after(() => running.disposeAsync());

const reference = (name: string, namespace = 'members'): ObjectReference => ({
  resource: CONFIG_MAPS,
  namespace,
  name,
});
const versionOf = (event: WatchEvent | undefined): string | undefined =>
  event?.type === 'BOOKMARK' ? event.resourceVersion : event?.object.metadata.resourceVersion;
const rejectsWith = (status: number, reason: string) => (thrown: KubeError) => {
  assert.ok(thrown instanceof KubeError, String(thrown));
  assert.deepEqual([thrown.status, thrown.reason], [status, reason]);
  return true;
};

test('an applied object is stored under our field manager, applied again it keeps its version', async () => {
  const first = await api.apply(CONFIG_MAPS, configMap('members', 'applied', { a: '1' }));
  const again = await api.apply(CONFIG_MAPS, configMap('members', 'applied', { a: '1' }));
  const changed = await api.apply(CONFIG_MAPS, configMap('members', 'applied', { a: '2' }));
  assert.equal(again.metadata.resourceVersion, first.metadata.resourceVersion);
  assert.notEqual(changed.metadata.resourceVersion, first.metadata.resourceVersion);
  const managers = changed.metadata.managedFields as readonly { manager: string; operation: string }[];
  assert.deepEqual(
    managers.map(({ manager, operation }) => [manager, operation]),
    [['collective-operator', 'Apply']],
  );
  assert.deepEqual(await api.get(reference('applied')), changed);
});

test('what another one set is taken over by force; a field that nobody of us names stays', async () => {
  await server.admin.apply(configMap('members', 'shared', { ours: 'theirs', other: 'kept' }));
  const applied = await api.apply(CONFIG_MAPS, configMap('members', 'shared', { ours: 'ours' }));
  assert.deepEqual(applied.data, { ours: 'ours', other: 'kept' });
});

test('an apply with a uid is a conflict when the object is gone, not a blank re-creation', async () => {
  const made = await api.apply(CONFIG_MAPS, configMap('members', 'once', { a: '1' }));
  const { uid = '' } = made.metadata;
  const intent = { ...configMap('members', 'once', { a: '2' }), metadata: { namespace: 'members', name: 'once', uid } };
  assert.deepEqual((await api.apply(CONFIG_MAPS, intent)).data, { a: '2' });
  assert.equal(await api.delete(reference('once'), { uid }), true);
  await assert.rejects(api.apply(CONFIG_MAPS, intent), rejectsWith(409, 'Conflict'));
  assert.equal(await server.admin.find(configMap('members', 'once', {})), undefined);
});

test('a status is applied beside the spec and leaves it alone', async () => {
  await api.apply(WIDGETS, widget('members', 'w', 3));
  const { apiVersion, kind, metadata } = widget('members', 'w', 0);
  const answered = await api.applyStatus(WIDGETS, { apiVersion, kind, metadata, status: { seen: 3 } });
  assert.deepEqual([answered.spec, answered.status], [{ size: 3 }, { seen: 3 }]);
  assert.equal(answered.metadata.generation, 1);
});

test('a merge patch changes what it names, bound to a version where it says so, also of a subresource', async () => {
  const made = await api.apply(CONFIG_MAPS, configMap('members', 'patched', { a: '1', b: '1' }));
  const { resourceVersion } = made.metadata;
  const patched = await api.patch(reference('patched'), { metadata: { resourceVersion }, data: { b: null } });
  assert.deepEqual(patched.data, { a: '1' });
  const late = { metadata: { resourceVersion }, data: { c: '1' } };
  await assert.rejects(api.patch(reference('patched'), late), rejectsWith(409, 'Conflict'));
  await api.apply(WIDGETS, widget('members', 'patched', 1));
  const target = { resource: WIDGETS, namespace: 'members', name: 'patched' };
  const widgetNow = await api.patch(target, { spec: { size: 7 }, status: { seen: 5 } }, { subresource: 'status' });
  assert.deepEqual([widgetNow.spec, widgetNow.status], [{ size: 1 }, { seen: 5 }]);
});

test('a deletion names the very object: another uid is a conflict, none is no error', async () => {
  await api.create(CONFIG_MAPS, configMap('members', 'doomed', {}));
  await assert.rejects(
    api.delete(reference('doomed'), { uid: '00000000-0000-0000-0000-000000000000' }),
    rejectsWith(409, 'Conflict'),
  );
  assert.equal(await api.delete(reference('doomed')), true);
  assert.equal(await api.delete(reference('doomed')), false);
  assert.equal(await api.get(reference('doomed')), undefined);
});

test('refusals say who may not what, which field is wrong, that a name is taken, that a kind is unknown', async () => {
  const nobody = await operatorApi(server, { person: { user: 'nobody' } });
  running.use(nobody);
  await assert.rejects(nobody.list(CONFIG_MAPS, { namespace: 'members' }), {
    status: 403,
    message:
      'List configmaps: 403 Forbidden: configmaps is forbidden: User "nobody" cannot list resource "configmaps" in API group "" in the namespace "members"',
    todo: /Give the account the right that the message names/,
  });
  await assert.rejects(api.apply(WIDGETS, widget('members', 'large', 10)), {
    status: 422,
    message: /Apply widgets members\/large: 422 Invalid: .*spec\.size/,
  });
  await api.create(CONFIG_MAPS, configMap('members', 'taken', {}));
  await assert.rejects(api.create(CONFIG_MAPS, configMap('members', 'taken', {})), { code: 'exists' });
  const unknown = { ...WIDGETS, apiVersion: 'absent.example/v1' };
  await assert.rejects(api.list(unknown), { status: 404, missing: 'kind' });
  await assert.rejects(api.get({ resource: unknown, namespace: 'members', name: 'a' }), {
    status: 404,
    missing: 'kind',
  });
});

test('a list is read by pages, its objects say what they are, and a selector narrows it', async () => {
  await server.admin.apply(namespaceNamed('pages'));
  const paging = running.use(await operatorApi(server, { bounds: { pageObjects: 7 }, userAgent: 'paging' }));
  const names = Array.from({ length: 25 }, (_, index) => `page-${String(index).padStart(2, '0')}`);
  for (const [index, name] of names.entries()) {
    const object = configMap('pages', name, {});
    await api.apply(CONFIG_MAPS, { ...object, metadata: { ...object.metadata, labels: { third: String(index % 3) } } });
  }
  const listed = await paging.list(CONFIG_MAPS, { namespace: 'pages' });
  assert.deepEqual(listed.objects.map(({ metadata }) => metadata.name).sort(), names);
  assert.deepEqual(
    new Set(listed.objects.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`)),
    new Set(['v1 ConfigMap']),
  );
  const asked = server.auditEvents().filter(({ userAgent, verb }) => userAgent === 'paging' && verb === 'list');
  assert.equal(asked.length, 4);
  const thirds = await paging.list(CONFIG_MAPS, { namespace: 'pages', labelSelector: 'third=1' });
  assert.equal(thirds.objects.length, 8);
});

test('of events those are listed that a field selects: warnings among thousands of others', async () => {
  const event = (name: string, type: string): KubeObject => ({
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { namespace: 'members', name },
    eventTime: '2026-01-01T00:00:00.000000Z',
    reportingController: 'test',
    reportingInstance: 'test',
    action: 'Test',
    reason: 'Test',
    type,
    regarding: { apiVersion: 'v1', kind: 'Pod', namespace: 'members', name: 'a' },
  });
  await api.create(RESOURCES.events, event('ordinary', 'Normal'));
  await api.create(RESOURCES.events, event('alarming', 'Warning'));
  const options = { namespace: 'members', fieldSelector: 'type=Warning' };
  const { objects } = await api.list(RESOURCES.events, options);
  assert.deepEqual(
    objects.map(({ metadata }) => metadata.name),
    ['alarming'],
  );
});

test('a watch tells additions, changes and ends, and moves its version on by bookmarks when nothing happens', async () => {
  await server.admin.apply(namespaceNamed('watched'));
  const short = running.use(await operatorApi(server, { bounds: { watchSecondsMin: 3 } }));
  const { resourceVersion } = await api.list(CONFIG_MAPS, { namespace: 'watched' });
  const events: WatchEvent[] = [];
  const watch = async (): Promise<void> => {
    const from = { namespace: 'watched', resourceVersion: versionOf(events.at(-1)) ?? resourceVersion };
    for await (const event of short.watch(CONFIG_MAPS, from)) events.push(event);
  };
  const watching = watch();
  await api.apply(CONFIG_MAPS, configMap('watched', 'a', { a: '1' }));
  await api.apply(CONFIG_MAPS, configMap('watched', 'a', { a: '2' }));
  await api.delete({ resource: CONFIG_MAPS, namespace: 'watched', name: 'a' });
  // Of another namespace: not told, but the bookmark is of a version after it.
  const elsewhere = await api.apply(CONFIG_MAPS, configMap('members', 'elsewhere', { at: String(clock.bootMs()) }));
  await watching;
  // A bookmark comes two seconds before the end: what was written later than that is told by the watch that goes on from there.
  const isPast = (event: WatchEvent | undefined): boolean =>
    event?.type === 'BOOKMARK' && Number(event.resourceVersion) >= Number(elsewhere.metadata.resourceVersion);
  await until(
    async () => {
      if (!isPast(events.at(-1))) await watch();
      return isPast(events.at(-1));
    },
    'a bookmark is of a version after all of it',
    WITHIN_MS,
    () => JSON.stringify(events),
  );
  assert.deepEqual(
    events.filter(({ type }) => type !== 'BOOKMARK').map((event) => event.type),
    ['ADDED', 'MODIFIED', 'DELETED'],
  );
});

test('a watch that is cut fails at once, one that is silent within its bound, and either goes on from its version', async () => {
  await using proxy = await TcpProxy.to(server.port);
  using patient = await operatorApi(server, { url: proxy.url });
  using hasty = await operatorApi(server, { url: proxy.url, bounds: { watchSilentMsMax: 1_500 } });
  const { resourceVersion } = await patient.list(CONFIG_MAPS, { namespace: 'members' });
  const options = { namespace: 'members', resourceVersion };
  /** A watch from there on that has told of a change which was made after it began. */
  const follows = async (): Promise<AsyncIterator<WatchEvent, void>> => {
    const watch = patient.watch(CONFIG_MAPS, options)[Symbol.asyncIterator]();
    const change = await api.apply(CONFIG_MAPS, configMap('members', 'cut', { at: String(clock.bootMs()) }));
    for (let seen = await watch.next(); ; seen = await watch.next()) {
      assert.ok(!seen.done, 'the watch ended');
      if (versionOf(seen.value) === change.metadata.resourceVersion) return watch;
    }
  };
  const whole = await follows();
  const next = whole.next();
  proxy.cut();
  await assert.rejects(next, { reason: 'ConnectionLost' });

  await (await follows()).return?.();
  const silent = async (): Promise<void> => {
    const onOpen = (): void => proxy.silence();
    for await (const _ of hasty.watch(CONFIG_MAPS, { ...options, onOpen }));
  };
  await assert.rejects(silent(), {
    reason: 'NoAnswerInTime',
    code: 'deadline_exceeded',
    message: 'Watch configmaps: NoAnswerInTime: no byte for 1500 ms',
  });
  proxy.speak();
  await (await follows()).return?.();
});

test('many watches at once, as of many namespaces, keep no call from being made', async () => {
  const abort = new AbortController();
  const { resourceVersion } = await api.list(CONFIG_MAPS, { namespace: 'members' });
  const opened = Array.from({ length: 150 }, () => Promise.withResolvers<void>());
  const watching = opened.map(async ({ resolve }) => {
    const options = { namespace: 'members', resourceVersion, signal: abort.signal, onOpen: resolve };
    for await (const _ of api.watch(CONFIG_MAPS, options)) resolve();
  });
  const ended = Promise.allSettled(watching);
  await Promise.all(opened.map(({ promise }) => promise));
  assert.equal((await api.get(reference('applied')))?.metadata.name, 'applied');
  abort.abort(new Error('enough'));
  await ended;
});

test('an aborted call and an aborted watch end at once with what was given to abort', async () => {
  const reason = new Error('enough');
  const abort = new AbortController();
  const { resourceVersion } = await api.list(CONFIG_MAPS, { namespace: 'members' });
  const watch = api.watch(CONFIG_MAPS, { namespace: 'members', resourceVersion, signal: abort.signal });
  const next = watch[Symbol.asyncIterator]().next();
  await api.get(reference('applied'), { signal: abort.signal });
  abort.abort(reason);
  await assert.rejects(next, reason);
  await assert.rejects(api.get(reference('applied'), { signal: abort.signal }), reason);
});

test('a call that gets no answer ends at its deadline; a cut one is made again', async () => {
  await using proxy = await TcpProxy.to(server.port);
  using through = await operatorApi(server, { url: proxy.url });
  assert.equal((await through.get(reference('applied')))?.metadata.name, 'applied');
  // The connection that was kept is dead now; the next call finds out and takes another.
  proxy.cut();
  assert.equal((await through.get(reference('applied')))?.metadata.name, 'applied');
  using hasty = await operatorApi(server, { url: proxy.url, bounds: { answerWithinMs: 1_000 } });
  const isConnected = (): Promise<boolean> =>
    hasty.get(reference('applied')).then(
      () => true,
      () => false,
    );
  await until(isConnected, 'an answer has come in time', WITHIN_MS);
  proxy.silence();
  await assert.rejects(hasty.get(reference('applied')), {
    reason: 'NoAnswerInTime',
    message: 'Get configmaps members/applied: NoAnswerInTime: none in 1000 ms',
  });
});

test('an account of a pod is let in by its token, and again when the token was replaced', async () => {
  const folder = join(server.folder, 'account');
  mkdirSync(folder);
  await server.admin.apply({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { namespace: 'members', name: 'pod' },
  });
  const binding = { namespace: 'members', name: 'pod' };
  const rbac = 'rbac.authorization.k8s.io';
  await server.admin.apply({
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name: 'pod' },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', ...binding }],
  });
  const tokens = { ...CONFIG_MAPS, plural: 'serviceaccounts/pod/token', kind: 'TokenRequest' };
  const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', metadata: binding, spec: {} };
  const { status } = (await api.create(tokens, request)) as { status?: { token: string } };
  writeFileSync(join(folder, 'ca.crt'), server.caPem);
  writeFileSync(join(folder, 'token'), 'replaced since');
  const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(server.port) };
  const access = await KubeAccess.fromAccount({ clock, env, accountFolder: folder });
  using pod = new HttpKubeApi(access, { clock, log: silentLog });
  await assert.rejects(pod.get(reference('applied')), { status: 401, code: 'unauthenticated' });
  writeFileSync(join(folder, 'token'), status?.token ?? '');
  assert.equal((await pod.get(reference('applied')))?.metadata.name, 'applied');
});

test('what a page would go on from may be forgotten in the middle: the list is then read in one piece', async () => {
  const names = Array.from({ length: 9 }, (_, index) => `forgotten-${index}`);
  await server.admin.apply(namespaceNamed('forgotten'));
  for (const name of names) await api.apply(CONFIG_MAPS, configMap('forgotten', name, {}));
  const file = server.writeKubeconfig('forgetful', server.adminKubeconfig);
  const access = await KubeAccess.fromKubeconfig(file, { clock });
  let asked = 0;
  // Asked before each call: before the second page the server has lost what the first was of.
  const credentials = async () => {
    if (++asked === 2) {
      await api.apply(CONFIG_MAPS, configMap('forgotten', 'later', {}));
      await server.compact();
      await server.restart();
    }
    return await access.credentials();
  };
  const codes: string[] = [];
  const metrics = { requestDone: (_method: string, _host: string, code: string) => void codes.push(code) };
  const options = { clock, log: silentLog, metrics, bounds: { pageObjects: 4 } };
  using paging = new HttpKubeApi({ server: access.server, credentials }, options);
  const { objects } = await paging.list(CONFIG_MAPS, { namespace: 'forgotten' });
  assert.deepEqual(objects.map(({ metadata }) => metadata.name).sort(), [...names, 'later'].sort());
  assert.deepEqual(codes, ['200', '410', '200']);
});
