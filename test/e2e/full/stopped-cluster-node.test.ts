/**
 * A node of the cluster loses its power, under a node of a member and then under its coordinator. Files are served on by what is
 * left; what ran there comes back elsewhere, with its volume, when a person has said that the machine is off, as docs/operating tells.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { conditionOf, hasCondition, type KubeObject } from '../../apiserver/api-client.ts';
import { until } from '../../until.ts';
import { aliceOfThisFile } from '../members-of-file.ts';
import { SteadyWriter } from '../steady-writer.ts';

/** The cluster misses a node after 50 s of silence, and its pods are to go 20 s later; the operator may have run there, too. */
const TOLD_WITHIN_MS = 240_000;
const MOVED_WITHIN_MS = 240_000;

const { cluster, alice } = aliceOfThisFile('stopped-cluster-node');
let stopped = '';

after(async () => {
  if (stopped === '') return;
  await cluster.startNode(stopped);
  await cluster.unmarkOutOfService(stopped);
});

async function podNamed(name: string): Promise<KubeObject> {
  const metadata = { name, namespace: cluster.namespace };
  return await cluster.api.when({ apiVersion: 'v1', kind: 'Pod', metadata }, () => true, 'is there');
}

async function machineOf(pod: string): Promise<string> {
  return ((await podNamed(pod)).spec as { nodeName: string }).nodeName;
}

/** Until a person would know what to do, in the very words of the status. */
async function toldToMark(machine: string, pod: string): Promise<void> {
  const told = await alice.when(
    (member) => conditionOf(member, 'Ready').reason === 'PodDoesNotEnd',
    'says that a pod does not end',
    TOLD_WITHIN_MS,
  );
  const { message } = conditionOf(told, 'Ready');
  assert.match(message, new RegExp(`Pod ${pod} was to end, and ${machine} does not say that it has`));
  const command = `kubectl taint nodes ${machine} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`;
  assert.ok(message.includes(command), message);
  assert.ok((await cluster.plugin(['status', 'alice'])).includes(command), 'kubectl collective status says it');
  await until(
    async () => (await cluster.api.list('events.k8s.io/v1', 'Event', cluster.namespace)).some(isAboutIt),
    'there is an event',
    TOLD_WITHIN_MS,
  );
}

function isAboutIt({ reason, regarding }: KubeObject): boolean {
  return reason === 'PodDoesNotEnd' && (regarding as { name?: string } | undefined)?.name === 'alice';
}

/** Ports of every machine lead to every pod: clients dial one that stays. */
async function dialledWhereNothingStops(): Promise<void> {
  const steadfast = (await cluster.nodes()).find(({ isControlPlane }) => isControlPlane)?.address;
  await alice.apply({ exposure: { type: 'NodePort', advertised: { host: steadfast } } });
  await alice.whenReady();
  await alice.when((member) => hasCondition(member, 'Reconciling', 'False'), 'has settled');
}

async function backInService(): Promise<void> {
  await cluster.startNode(stopped);
  await cluster.unmarkOutOfService(stopped);
  stopped = '';
}

test('D8: a cluster node is stopped under a node of a member: the writer goes on, and the node comes back elsewhere with its volume', async () => {
  await dialledWhereNothingStops();
  const busy = await machineOf('alice-coordinator-0');
  const pods = ['alice-disks-0-0', 'alice-disks-1-0'];
  const machines = await Promise.all(pods.map(machineOf));
  const at = machines.findIndex((machine) => machine !== busy);
  const [pod, machine] = [pods[at], machines[at]];
  assert.ok(
    pod !== undefined && machine !== undefined,
    `a node runs beside the coordinator's machine: ${machines.join()}`,
  );
  const before = await podNamed(pod);

  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await writer.progress();
  stopped = machine;
  await cluster.stopNode(machine);
  await writer.progress(20);
  await writer.during(toldToMark(machine, pod));
  assert.equal((await podNamed(pod)).metadata.uid, before.metadata.uid, 'nobody may replace it yet');
  assert.ok(hasCondition(await alice.when(() => true, 'is there'), 'CoordinatorReady'));
  await writer.progress();

  await cluster.markOutOfService(machine);
  await writer.during(alice.whenReady(MOVED_WITHIN_MS));
  assert.notEqual(await machineOf(pod), machine);
  await writer.progress();
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
  await backInService();
});

test('M5, M6: a cluster node is stopped under the coordinator: the writer waits for it and goes on without an error, and nothing is lost', async () => {
  await dialledWhereNothingStops();
  const machine = await machineOf('alice-coordinator-0');
  await using session = await alice.connect({ reconnectWithinMs: TOLD_WITHIN_MS + MOVED_WITHIN_MS });
  await using writer = new SteadyWriter(session);
  await writer.progress();
  stopped = machine;
  await cluster.stopNode(machine);
  await writer.during(toldToMark(machine, 'alice-coordinator-0'));

  await cluster.markOutOfService(machine);
  await writer.progress();
  await writer.during(alice.whenReady(MOVED_WITHIN_MS));
  assert.notEqual(await machineOf('alice-coordinator-0'), machine);
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
  await backInService();
});
