import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import type { KubeObject } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import type { ObjectChange } from '@collective/operator/runtime/object-store';
import { Reflector } from '@collective/operator/runtime/reflector';
import { TcpProxy } from '../tcp-proxy.ts';
import { until } from '../until.ts';
import { installCrd } from './crds.ts';
import { configMap, namespaceNamed, operatorApi, WIDGET_DEFINITION, WIDGETS, widget } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const clock = new SystemClock();
const random = new SeededRandom(11);
const WITHIN_MS = 60_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
/** A way to the server that is never disturbed. */
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  api = running.use(await operatorApi(server));
});
after(() => running.disposeAsync());

/** A reflector over a network of its own, and all that it told. */
class Follower implements AsyncDisposable {
  readonly reflector: Reflector;
  readonly told: ObjectChange[] = [];
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;

  constructor(through: HttpKubeApi, options: { namespace: string; resource?: typeof WIDGETS; labelSelector?: string }) {
    const resource = options.resource ?? RESOURCES.configMaps;
    this.reflector = new Reflector({ api: through, clock, random, log: silentLog, ...options, resource });
    this.reflector.onChange((change) => void this.told.push(change));
    this.#ended = this.reflector.run(this.#stop.signal);
  }

  /** Until the store is what the server has, to the version. */
  async agrees(namespace: string): Promise<void> {
    const versions = (objects: readonly KubeObject[]): string =>
      objects
        .map(({ metadata: { name, uid, resourceVersion } }) => `${name} ${uid} ${resourceVersion}`)
        .sort()
        .join('\n');
    const { objects } = await api.list(RESOURCES.configMaps, { namespace });
    const wanted = versions(objects);
    await until(
      () => versions(this.reflector.store.list()) === wanted,
      'the store is as the server is',
      WITHIN_MS,
      () => versions(this.reflector.store.list()),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the test is over'));
    await this.#ended;
  }
}

test('changes are told in order, each once, without what a selector leaves out', async () => {
  await server.admin.apply(namespaceNamed('told'));
  await using follower = new Follower(api, { namespace: 'told', labelSelector: 'member=alice' });
  const object = (member: string, value: string): KubeObject => {
    const plain = configMap('told', 'a', { value });
    return { ...plain, metadata: { ...plain.metadata, labels: { member } } };
  };
  await follower.reflector.whenSynced(AbortSignal.timeout(WITHIN_MS));
  await api.apply(RESOURCES.configMaps, object('bob', '0'));
  await api.apply(RESOURCES.configMaps, object('alice', '1'));
  await api.apply(RESOURCES.configMaps, object('alice', '2'));
  await api.apply(RESOURCES.configMaps, object('bob', '3'));
  await until(() => follower.told.length === 3, 'three changes are told', WITHIN_MS);
  // What no longer fits the selector is told as it was last, for the server says no more of it.
  assert.deepEqual(
    follower.told.map(({ type, object }) => [type, (object.data as { value: string }).value]),
    [
      ['added', '1'],
      ['changed', '2'],
      ['removed', '2'],
    ],
  );
  const [added] = follower.told;
  assert.equal(added?.object.metadata.managedFields, undefined);
});

test('2000 changes while connections are cut again and again: every object ends as the server has it', async () => {
  const namespace = 'cut';
  await server.admin.apply(namespaceNamed(namespace));
  await using proxy = await TcpProxy.to(server.port);
  const through = await operatorApi(server, { url: proxy.url, bounds: { pageObjects: 50 } });
  using _ = through;
  await using follower = new Follower(through, { namespace });
  await follower.reflector.whenSynced(AbortSignal.timeout(WITHIN_MS));

  const chance = new SeededRandom(2000);
  const alive = new Set<string>();
  /** How often each object was made and ended: what no cache may have missed is the end of every life. */
  const lives = new Map<string, number>();
  let cuts = 0;
  for (let change = 0; change < 2_000; change++) {
    const name = `object-${chance.uint32() % 100}`;
    if (alive.has(name) && chance.uint32() % 3 === 0) {
      await api.delete({ resource: RESOURCES.configMaps, namespace, name });
      alive.delete(name);
    } else {
      await api.apply(RESOURCES.configMaps, configMap(namespace, name, { change: String(change) }));
      if (!alive.has(name)) lives.set(name, (lives.get(name) ?? 0) + 1);
      alive.add(name);
    }
    if (chance.uint32() % 40 === 0) {
      proxy.cut();
      cuts++;
    }
  }
  assert.ok(cuts > 30, `${cuts} cuts`);
  await follower.agrees(namespace);
  assert.equal(follower.reflector.store.size, alive.size);

  // A cut loses no event, because the watch goes on from the last version: every life is told, from its beginning to its end.
  const told = (type: string, name: string): number =>
    follower.told.filter((change) => change.type === type && change.object.metadata.name === name).length;
  for (const [name, count] of lives) {
    assert.equal(told('added', name), count, `${name} began`);
    assert.equal(told('removed', name), alive.has(name) ? count - 1 : count, `${name} ended`);
  }
  const lists = server
    .auditEvents()
    .filter(({ verb, requestURI }) => verb === 'list' && requestURI.includes(`/${namespace}/`));
  assert.ok(lists.length <= 6, `${lists.length} lists, most of them by the test itself`);
});

test('a restarted server, and versions that are forgotten: it lists again and tells what it missed', async () => {
  const namespace = 'forgotten';
  await server.admin.apply(namespaceNamed(namespace));
  await using proxy = await TcpProxy.to(server.port);
  const through = await operatorApi(server, { url: proxy.url });
  using _ = through;
  await api.apply(RESOURCES.configMaps, configMap(namespace, 'stays', { value: '1' }));
  await api.apply(RESOURCES.configMaps, configMap(namespace, 'goes', { value: '1' }));
  const first = await api.apply(RESOURCES.configMaps, configMap(namespace, 'replaced', { value: '1' }));
  await using follower = new Follower(through, { namespace });
  await follower.agrees(namespace);

  // Deaf but connected, while all that happens is forgotten.
  proxy.silence();
  await api.delete({ resource: RESOURCES.configMaps, namespace, name: 'goes' });
  await api.delete({ resource: RESOURCES.configMaps, namespace, name: 'replaced' });
  const second = await api.apply(RESOURCES.configMaps, configMap(namespace, 'replaced', { value: '2' }));
  await api.apply(RESOURCES.configMaps, configMap(namespace, 'comes', { value: '2' }));
  await server.compact();
  await server.restart();
  proxy.speak();
  proxy.cut();
  await follower.agrees(namespace);
  const told = follower.told
    .slice(3)
    .map(({ type, object: { metadata } }) => `${type} ${metadata.name} ${metadata.uid}`);
  const uidOf = (name: string) =>
    follower.told.find(({ object: { metadata } }) => metadata.name === name)?.object.metadata.uid;
  assert.deepEqual(
    told.sort(),
    [
      `added comes ${uidOf('comes')}`,
      `added replaced ${second.metadata.uid}`,
      `removed goes ${uidOf('goes')}`,
      `removed replaced ${first.metadata.uid}`,
    ].sort(),
  );
});

test('a kind that is not installed is trouble that says so, and is followed as soon as it is', async () => {
  await server.admin.apply(namespaceNamed('kinds'));
  await using follower = new Follower(api, { namespace: 'kinds', resource: WIDGETS });
  await until(() => follower.reflector.trouble !== undefined, 'there is trouble', WITHIN_MS);
  assert.deepEqual([follower.reflector.trouble?.status, follower.reflector.trouble?.missing], [404, 'kind']);
  assert.equal(follower.reflector.hasSynced, false);
  await installCrd(server, WIDGET_DEFINITION);
  await api.apply(WIDGETS, widget('kinds', 'first', 1));
  await until(() => follower.reflector.store.size === 1, 'the widget is seen', WITHIN_MS);
  await until(() => follower.reflector.trouble === undefined, 'the trouble is over', WITHIN_MS);
});
