import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { KubeObject, KubeReference } from './api-client.ts';
import { namespaceNamed } from './operator-side.ts';
import { ProcessKubelet } from './process-kubelet.ts';
import { TestApiServer } from './test-apiserver.ts';

const NAMESPACE = 'pods';
const CLAIM: KubeReference = {
  apiVersion: 'v1',
  kind: 'PersistentVolumeClaim',
  metadata: { namespace: NAMESPACE, name: 'data' },
};

const running = new AsyncDisposableStack();
let server: TestApiServer;
let kubelet: ProcessKubelet;
before(async () => {
  server = running.use(await TestApiServer.start());
  await server.admin.apply(namespaceNamed(NAMESPACE));
  const folder = join(server.folder, 'kubelet');
  kubelet = running.use(new ProcessKubelet({ admin: server.admin, namespace: NAMESPACE, folder }));
});
after(() => running.disposeAsync());

async function makeClaim(): Promise<KubeObject> {
  const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } };
  const { metadata } = await server.admin.apply({ ...CLAIM, spec } as KubeObject);
  const isBound = (now: KubeObject): boolean =>
    now.metadata.uid === metadata.uid && (now.status as { phase?: string }).phase === 'Bound';
  return await server.admin.when(CLAIM, isBound, 'has a volume');
}

/** One that ends by itself. */
async function makePod(name: string, volumes: readonly object[]): Promise<KubeObject> {
  const container = { name: 'main', image: 'collective:test', args: ['--version'] };
  return await server.admin.apply({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: NAMESPACE, name },
    spec: { restartPolicy: 'Never', containers: [container], volumes },
  });
}

async function hasRun(pod: KubeObject): Promise<void> {
  const isOver = ({ status }: KubeObject): boolean => {
    kubelet.throwIfFailed();
    return (status as { phase: string }).phase === 'Succeeded';
  };
  await server.admin.when(pod, isOver, 'has run');
}

const nodeOf = (pod: KubeObject | undefined): string | undefined =>
  (pod?.spec as { nodeName?: string } | undefined)?.nodeName;

test('a pod is bound only when its claims are there and none is being deleted, so that a removed one can go', async () => {
  // Nobody here takes its finalizer away: it is Terminating until the test does.
  const { metadata: removed } = await makeClaim();
  await server.admin.remove(CLAIM);
  const waiting = await makePod('waiting', [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }]);
  // Whoever looks at one after the other has looked at the waiting one when both of these have run.
  await hasRun(await makePod('first', []));
  await hasRun(await makePod('second', []));
  assert.equal(nodeOf(await server.admin.find(waiting)), undefined);
  await server.admin.patch(CLAIM, { metadata: { finalizers: null } });
  await hasRun(await makePod('third', []));
  await hasRun(await makePod('fourth', []));
  assert.equal(nodeOf(await server.admin.find(waiting)), undefined);
  const { metadata: made } = await makeClaim();
  assert.notEqual(made.uid, removed.uid);
  await hasRun(waiting);
});
