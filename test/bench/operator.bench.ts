/**
 * What the operator costs among 50 members of 10 nodes, on a real apiserver with etcd, the real controllers of Kubernetes and the
 * real cert-manager, as a process of its own: until all is there, per look, per member in calls to the apiserver (from its audit
 * log), in memory, at rest, when something is put out of order, and after a restart, which must change nothing.
 *
 * No pod runs (500 nodes and 50 coordinators do not fit on a machine): what kubelets and coordinators say is said by stand-ins,
 * coordinators over real mTLS and gRPC with the members' own certificates. All programs share this machine, so times until
 * all is there are theirs together; the processor time of each is told beside.
 *
 *   npm run bench:operator                   this and `operator-plans`; MEMBERS=5 NODES=3: another size; LEASE=no: without a
 *                                            Lease, on a machine that has so much else to do that it would be lost
 */
import { setTimeout as delay } from 'node:timers/promises';
import { callsOf, countCalls, isWrite } from '../apiserver/call-counts.ts';
import { CrowdedCluster } from '../apiserver/crowded-cluster.ts';
import { OPERATOR_PROCESS_AGENT, type OperatorProcess } from '../apiserver/operator-process.ts';
import { quiet } from '../apiserver/quiet.ts';
import { usageOf } from '../process-usage.ts';
import { type Figures, secondsOf } from './figures.ts';
import { sizeOfRun } from './operator/run-size.ts';

const MADE_WITHIN_MS = 45 * 60_000;
const QUIET_MS = 60_000;
const QUIET_WITHIN_MS = 15 * 60_000;
const BACK_WITHIN_MS = 60_000;
const PUT_OUT_OF_ORDER = 10;
const CERT_MANAGER_CALLS_PER_SECOND = 20;

export async function operatorBench(figures: Figures): Promise<void> {
  const { members, nodes } = sizeOfRun();
  const leaderElect = process.env.LEASE !== 'no';
  const lease = leaderElect ? '' : '; without a Lease';
  console.log(`${members} members of ${nodes} nodes; stood in for: kubelets, coordinators, nodes${lease}`);
  await using cluster = await CrowdedCluster.start({ members, nodes });
  let operator = await cluster.startOperator({ leaderElect });
  try {
    await untilQuiet(cluster, 5_000);
    figures.add({
      name: 'memory of the operator without a member',
      value: operator.usage.residentBytes / 1e6,
      unit: 'MB',
    });
    await bringUp(figures, cluster, operator, members);
    await rest(figures, cluster, operator);
    await putRight(figures, cluster);
    await untilQuiet(cluster, 5_000);
    figures.add({ name: 'SIGTERM until the operator has ended', value: await operator.stop(), unit: 'ms' });
    operator = await restart(figures, cluster, leaderElect);
  } finally {
    await operator[Symbol.asyncDispose]();
  }
}

async function bringUp(
  figures: Figures,
  cluster: CrowdedCluster,
  operator: OperatorProcess,
  members: number,
): Promise<void> {
  const before = await snapshot(cluster, operator);
  const tail = cluster.server.auditTail();
  const startMs = performance.now();
  await cluster.applyMembers();
  await cluster.objectsMade(MADE_WITHIN_MS, operator);
  figures.add({ name: 'until all objects are there', value: (performance.now() - startMs) / 1e3, unit: 's' });
  await cluster.settled(MADE_WITHIN_MS, operator);
  figures.add({ name: 'until all Members are settled', value: (performance.now() - startMs) / 1e3, unit: 's' });
  const after = await snapshot(cluster, operator);

  for (const [program, seconds] of Object.entries(after.cpuSeconds)) {
    figures.add({
      name: `processor time of ${program} meanwhile, a member`,
      value: ((seconds - (before.cpuSeconds[program] ?? 0)) / members) * 1e3,
      unit: 'ms',
    });
  }
  const events = tail.next();
  const calls = callsOf(events, OPERATOR_PROCESS_AGENT);
  figures.add({ name: 'calls of the operator to the apiserver, a member', value: calls.length / members, unit: '' });
  figures.add({ name: 'calls of all programs together, a member', value: events.length / members, unit: '' });
  const ofCertManager = events.filter(
    ({ userAgent = '', verb }) => userAgent.startsWith('cert-manager') && verb !== 'watch',
  );
  figures.add({ name: 'calls of cert-manager, a member', value: ofCertManager.length / members, unit: '' });
  figures.add({
    name: 'they take cert-manager with its default bound at least',
    value: ofCertManager.length / CERT_MANAGER_CALLS_PER_SECOND,
    unit: 's',
    note: 'all members; --kube-api-qps is 20, the lab gives 50',
  });
  for (const [call, count] of countCalls(calls)) {
    figures.add({ name: `  ${call}, a member`, value: count / members, unit: '' });
  }
  const looks = after.looks.map((bucket, at) => ({ ...bucket, count: bucket.count - (before.looks[at]?.count ?? 0) }));
  figures.add({ name: 'looks at a member until it is settled', value: (looks.at(-1)?.count ?? 0) / members, unit: '' });
  figures.add({ name: 'one look, p50', value: quantile(looks, 0.5) * 1e3, unit: 'ms', note: 'from the histogram' });
  figures.add({ name: 'one look, p99', value: quantile(looks, 0.99) * 1e3, unit: 'ms', note: 'from the histogram' });
  figures.add({ name: 'memory of the operator then', value: operator.usage.residentBytes / 1e6, unit: 'MB' });
  figures.add({ name: 'the most that it had', value: operator.usage.peakBytes / 1e6, unit: 'MB' });
}

/** A minute without a call; what it costs then. */
async function rest(figures: Figures, cluster: CrowdedCluster, operator: OperatorProcess): Promise<void> {
  const seconds = await secondsOf(() => untilQuiet(cluster, QUIET_MS));
  figures.add({
    name: 'from settled to the first of 60 s without a call',
    value: seconds - QUIET_MS / 1e3,
    unit: 's',
    note: 'open watches and the Lease apart',
  });
  const before = await snapshot(cluster, operator);
  const asked = cluster.coordinators.calls;
  await delay(QUIET_MS);
  const after = await snapshot(cluster, operator);
  figures.add({
    name: 'processor time of the operator at rest',
    value: ((after.cpuSeconds.operator ?? 0) - (before.cpuSeconds.operator ?? 0)) / (QUIET_MS / 1e5),
    unit: '%',
    note: 'of one core',
  });
  figures.add({
    name: 'looks at rest',
    value: (after.looks.at(-1)?.count ?? 0) - (before.looks.at(-1)?.count ?? 0),
    unit: '/min',
  });
  figures.add({ name: 'calls to coordinators at rest', value: cluster.coordinators.calls - asked, unit: '/min' });
}

/** A Service of one member after the other is deleted. */
async function putRight(figures: Figures, cluster: CrowdedCluster): Promise<void> {
  const tail = cluster.server.auditTail();
  const tookMs: number[] = [];
  const { admin } = cluster.server;
  for (const name of cluster.names.slice(0, PUT_OUT_OF_ORDER)) {
    const service = cluster.object('v1', 'Service', `${name}-coordinator`);
    const uid = (await admin.find(service))?.metadata.uid;
    const startMs = performance.now();
    await admin.remove(service);
    await admin.when(service, ({ metadata }) => metadata.uid !== uid, 'is made anew', BACK_WITHIN_MS);
    tookMs.push(performance.now() - startMs);
  }
  tookMs.sort((a, b) => a - b);
  figures.add({ name: 'a deleted Service is back, p50', value: tookMs[tookMs.length >> 1] ?? 0, unit: 'ms' });
  figures.add({ name: 'a deleted Service is back, slowest', value: tookMs.at(-1) ?? 0, unit: 'ms' });
  await untilQuiet(cluster, 5_000);
  const calls = callsOf(tail.next(), OPERATOR_PROCESS_AGENT);
  figures.add({ name: 'calls for a deleted Service', value: calls.length / tookMs.length, unit: '' });
}

async function restart(figures: Figures, cluster: CrowdedCluster, leaderElect: boolean): Promise<OperatorProcess> {
  const versions = await cluster.versions();
  const tail = cluster.server.auditTail();
  const startMs = performance.now();
  const operator = await cluster.startOperator({ leaderElect });
  const readyMs = performance.now();
  await untilQuiet(cluster, QUIET_MS);
  const quietMs = performance.now() - QUIET_MS;
  figures.add({ name: 'restart: until it is ready', value: (readyMs - startMs) / 1e3, unit: 's' });
  figures.add({ name: 'restart: until it is quiet', value: (quietMs - startMs) / 1e3, unit: 's' });
  const calls = callsOf(tail.next(), OPERATOR_PROCESS_AGENT);
  const writes = calls.filter(isWrite);
  const now = await cluster.versions();
  const changed = [...now].filter(([name, version]) => versions.get(name) !== version);
  figures.add({ name: 'restart: calls that read', value: calls.length - writes.length, unit: '' });
  figures.add({ name: 'restart: calls that write', value: writes.length, unit: '', atMost: 0 });
  for (const [call, count] of countCalls(calls)) figures.add({ name: `  restart: ${call}`, value: count, unit: '' });
  figures.add({ name: 'restart: objects that were changed', value: changed.length, unit: '', atMost: 0 });
  figures.add({ name: 'restart: memory of the operator', value: operator.usage.residentBytes / 1e6, unit: 'MB' });
  figures.add({ name: 'restart: the most that it had', value: operator.usage.peakBytes / 1e6, unit: 'MB' });
  figures.add({ name: 'restart: processor time of the operator', value: operator.usage.cpuSeconds, unit: 's' });
  return operator;
}

async function untilQuiet(cluster: CrowdedCluster, forMs: number): Promise<void> {
  await quiet(cluster.server, { userAgent: OPERATOR_PROCESS_AGENT, forMs, withinMs: forMs + QUIET_WITHIN_MS });
}

interface Bucket {
  /** Seconds. */
  readonly upTo: number;
  /** Looks that took at most so long. */
  readonly count: number;
}

interface Snapshot {
  /** Since the start of each program. */
  readonly cpuSeconds: Readonly<Record<string, number>>;
  readonly looks: readonly Bucket[];
}

async function snapshot(cluster: CrowdedCluster, operator: OperatorProcess): Promise<Snapshot> {
  const { user, system } = process.cpuUsage();
  const others = Object.entries(cluster.pids).map(([name, pid]) => [name, usageOf(pid).cpuSeconds] as const);
  const text = await operator.metricsText();
  const looks = [
    ...text.matchAll(/^controller_runtime_reconcile_time_seconds_bucket\{le="([^"]+)",controller="member"\} (\d+)$/gm),
  ].map(([, upTo = '', count]) => ({
    upTo: upTo === '+Inf' ? Number.POSITIVE_INFINITY : Number(upTo),
    count: Number(count),
  }));
  return {
    cpuSeconds: {
      operator: operator.usage.cpuSeconds,
      ...Object.fromEntries(others),
      'the stand-ins': (user + system) / 1e6,
    },
    looks,
  };
}

/** Linear within a bucket, as Prometheus has it. */
function quantile(buckets: readonly Bucket[], share: number): number {
  const wanted = (buckets.at(-1)?.count ?? 0) * share;
  let [belowCount, belowSeconds] = [0, 0];
  for (const { upTo, count } of buckets) {
    if (count >= wanted) {
      if (!Number.isFinite(upTo)) return belowSeconds;
      return belowSeconds + ((upTo - belowSeconds) * (wanted - belowCount)) / Math.max(1, count - belowCount);
    }
    [belowCount, belowSeconds] = [count, upTo];
  }
  return belowSeconds;
}
