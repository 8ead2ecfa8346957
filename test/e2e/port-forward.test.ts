/**
 * Forwarded ports through a real apiserver and a real kubelet: what `collective` opens for members that are not exposed. The
 * other end is a pod that every cluster has, since this is about the way and not about who is there; what a member does behind
 * such a way is tested with real members in test/integration/port-forward.test.ts.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { SystemClock } from '@collective/base/system-clock';
import { KubeApi } from '@collective/cli/kubectl/kube-api';
import { RESOURCES } from '@collective/cli/kubectl/kube-object';
import { chooseCluster } from '@collective/cli/kubectl/kubeconfig';
import { PodForward } from '@collective/cli/kubectl/pod-forward';
import { ensureCluster } from '@collective/hack/kind/cluster';
import { kubeconfigFile } from '@collective/hack/kind/lab';

const NODES = 3;
const NAMESPACE = 'kube-system';
const HEALTH_PORT = 8080;
const WITHIN_MS = 30_000;

const running = new AsyncDisposableStack();
let api: KubeApi;
let pod = '';
before(async () => {
  await ensureCluster(console.log, { nodes: NODES });
  const cluster = await chooseCluster({ kubeconfig: kubeconfigFile() }, process.env, '/');
  api = running.use(new KubeApi({ cluster, clock: new SystemClock() }));
  const signal = AbortSignal.timeout(WITHIN_MS);
  const [first] = await api.list(RESOURCES.pods, { namespace: NAMESPACE, labelSelector: 'k8s-app=kube-dns', signal });
  assert.ok(first !== undefined, 'the cluster has a pod of its name service');
  pod = first.metadata.name;
});
after(() => running.disposeAsync());

async function asked(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port });
  await once(socket, 'connect', { signal: AbortSignal.timeout(WITHIN_MS) });
  socket.write('GET /health HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n');
  return await text(socket);
}

test('D10: a forwarded port leads to the port of the pod, each dial by a connection of its own', async () => {
  await using forward = await PodForward.open(api, { namespace: NAMESPACE, pod, port: HEALTH_PORT });
  const answers = await Promise.all([1, 2, 3].map(() => asked(forward.port)));
  for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n.*OK/);
  assert.equal(forward.lastFailure, undefined);
});

test('a port on which nothing listens is told in the words of the kubelet', async () => {
  await using forward = await PodForward.open(api, { namespace: NAMESPACE, pod, port: 9 });
  await asked(forward.port).catch(() => undefined);
  assert.match(forward.lastFailure?.message ?? '', /connection refused/);
  assert.equal(forward.lastFailure?.code, 'unavailable');
});

test('a pod that is not there is told before anybody dials', async () => {
  await assert.rejects(PodForward.open(api, { namespace: NAMESPACE, pod: 'alice-coordinator-0', port: 7420 }), {
    code: 'not_found',
    message: /pods "alice-coordinator-0" not found/,
  });
});
