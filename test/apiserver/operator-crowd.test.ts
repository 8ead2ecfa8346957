/** The operator as a process of its own among several members: what it costs at rest, and what a restart does. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { KubeObject } from './api-client.ts';
import { callsOf, countCalls, isWrite } from './call-counts.ts';
import { CrowdedCluster } from './crowded-cluster.ts';
import { OPERATOR_PROCESS_AGENT, type OperatorProcess } from './operator-process.ts';
import { quiet } from './quiet.ts';

const SETTLED_WITHIN_MS = 240_000;
/** Longer than a settled member is left alone. */
const QUIET_MS = 60_000;
const RESTED_MS = 10_000;
const QUIET_WITHIN_MS = 240_000;

const running = new AsyncDisposableStack();
let cluster: CrowdedCluster;
let operator: OperatorProcess;
before(async () => {
  cluster = running.use(await CrowdedCluster.start({ members: 4, nodes: 3 }));
  operator = running.use(await cluster.startOperator());
  await cluster.applyMembers();
  await cluster.settled(SETTLED_WITHIN_MS, operator);
});
after(() => running.disposeAsync());

const untilQuiet = (forMs: number) =>
  quiet(cluster.server, { userAgent: OPERATOR_PROCESS_AGENT, forMs, withinMs: QUIET_WITHIN_MS });

test('K1: several members in order are left in peace: for a minute no call but open watches and its Lease', async () => {
  const asked = cluster.coordinators.calls;
  await untilQuiet(QUIET_MS);
  assert.ok(cluster.coordinators.calls > asked, 'it has looked at members meanwhile');
});

test('K1: an operator that starts anew reads each kind once and writes nothing where all is in order', async () => {
  const versions = await cluster.restingVersions({ forMs: RESTED_MS, withinMs: QUIET_WITHIN_MS, operator });
  await operator.stop();
  const tail = cluster.server.auditTail();
  operator = running.use(await cluster.startOperator());
  await untilQuiet(RESTED_MS);
  const calls = callsOf(tail.next(), OPERATOR_PROCESS_AGENT);
  assert.deepEqual([...countCalls(calls.filter(isWrite))], []);
  const lists = [...countCalls(calls)].filter(([call]) => call.startsWith('list '));
  assert.ok(lists.length > 10);
  assert.deepEqual(
    lists.filter(([, count]) => count > 1),
    [],
  );
  assert.deepEqual([...(await cluster.versions())], [...versions]);
});

test('K1: what changed while no operator was there is put right by the next, and nothing else is touched', async () => {
  const [alice = ''] = cluster.names;
  await operator.stop();
  const { admin } = cluster.server;
  const service = cluster.object('v1', 'Service', `${alice}-coordinator`);
  const trust = cluster.object('v1', 'ConfigMap', `${alice}-trust`);
  const set = cluster.object('apps/v1', 'StatefulSet', `${alice}-disk-0`);
  const before = await admin.find(set);
  await admin.patch(service, { spec: { selector: { foreign: 'yes' } } });
  await admin.patch(trust, { data: { 'trust.pem': 'nonsense' } });
  await admin.patch(set, { spec: { template: { spec: { terminationGracePeriodSeconds: 1 } } } });
  const tail = cluster.server.auditTail();
  operator = running.use(await cluster.startOperator());
  const selectorOf = ({ spec }: KubeObject) => (spec as { selector: Record<string, string> }).selector;
  await admin.when(service, (now) => selectorOf(now).foreign === undefined, 'is put right');
  await admin.when(trust, ({ data }) => (data as Record<string, string>)['trust.pem'] !== 'nonsense', 'is put right');
  await admin.when(set, ({ spec }) => JSON.stringify(spec) === JSON.stringify(before?.spec), 'is put right');
  await cluster.settled(SETTLED_WITHIN_MS, operator);
  const touched = callsOf(tail.next(), OPERATOR_PROCESS_AGENT)
    .filter(isWrite)
    // Those tell of it.
    .filter(({ objectRef }) => !['events', 'collectives'].includes(objectRef?.resource ?? ''))
    .map(({ objectRef }) => objectRef?.name ?? '');
  assert.deepEqual(
    touched.filter((name) => !name.startsWith(alice)),
    [],
  );
});
