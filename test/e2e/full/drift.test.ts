/**
 * K1 in a cluster: whatever somebody edits or deletes of a running member is put right, while the cluster's own controllers and
 * cert-manager have their say; and a member in order is written to by nobody.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { hasCondition, type KubeObject } from '../../apiserver/api-client.ts';
import { until } from '../../until.ts';
import { aliceOfThisFile } from '../members-of-file.ts';
import { SteadyWriter } from '../steady-writer.ts';

/** "Within seconds", and room for a machine under load. */
const RIGHT_WITHIN_MS = 60_000;
const SETTLES_WITHIN_MS = 180_000;
const QUIET_MS = 60_000;
const NONSENSE = Buffer.from('nonsense').toString('base64');

const { cluster, alice } = aliceOfThisFile('drift');
const clock = new SystemClock();

const KINDS: Readonly<Record<string, string>> = {
  Member: 'collective.storage/v1alpha1',
  Service: 'v1',
  Secret: 'v1',
  ConfigMap: 'v1',
  ServiceAccount: 'v1',
  PersistentVolumeClaim: 'v1',
  Pod: 'v1',
  StatefulSet: 'apps/v1',
  PodDisruptionBudget: 'policy/v1',
  Certificate: 'cert-manager.io/v1',
  Issuer: 'cert-manager.io/v1',
};

const reference = (kind: string, name: string) => ({
  apiVersion: KINDS[kind] ?? '',
  kind,
  metadata: { name, namespace: cluster.namespace },
});

async function found(kind: string, name: string): Promise<KubeObject> {
  return await cluster.api.when(reference(kind, name), () => true, 'is there');
}

/** What is told of an object is one thing, what it is to be another. */
function meant({ spec, data, metadata }: KubeObject): string {
  return JSON.stringify([spec, data, metadata.labels, metadata.annotations]);
}

async function whenRight(kind: string, name: string, before: KubeObject): Promise<void> {
  const began = clock.bootMs();
  await cluster.api.when(
    reference(kind, name),
    (now) => now.metadata.deletionTimestamp === undefined && meant(now) === meant(before),
    'is as it was',
    RIGHT_WITHIN_MS,
  );
  console.log(`${kind} ${name} was right again after ${Math.round(clock.bootMs() - began)} ms`);
}

async function settled(): Promise<void> {
  await alice.whenReady();
  await alice.when(
    (member) => hasCondition(member, 'Reconciling', 'False') && hasCondition(member, 'ReplicationHealthy'),
    'has settled',
    SETTLES_WITHIN_MS,
  );
}

async function versions(): Promise<string[]> {
  const lists = await Promise.all(
    Object.entries(KINDS).map(
      async ([kind, apiVersion]) => await cluster.api.list(apiVersion, kind, cluster.namespace),
    ),
  );
  const names = Object.keys(KINDS);
  return lists
    .flatMap((objects, at) =>
      objects.map(({ metadata }) => `${names[at]} ${metadata.name} ${metadata.uid} ${metadata.resourceVersion}`),
    )
    .sort();
}

const edits: readonly { readonly kind: string; readonly name: string; readonly change: object }[] = [
  { kind: 'Service', name: 'alice-coordinator', change: { spec: { selector: { app: 'other' } } } },
  { kind: 'ConfigMap', name: 'alice-trust', change: { data: { 'trust.pem': 'nonsense', more: 'nonsense' } } },
  {
    kind: 'StatefulSet',
    name: 'alice-disks-0',
    change: { spec: { replicas: 0, template: { spec: { terminationGracePeriodSeconds: 1 } } } },
  },
];

test('K1: what is edited is put right within seconds, and a writer sees no error', async () => {
  await settled();
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await writer.progress();
  for (const { kind, name, change } of edits) {
    const before = await found(kind, name);
    const metadata = { labels: { 'collective.storage/member': null } };
    await cluster.api.patch(reference(kind, name), change);
    await writer.during(whenRight(kind, name, before));
    // Without its label an object is seen by nobody who looks for what is a member's.
    await cluster.api.patch(reference(kind, name), { metadata });
    await writer.during(whenRight(kind, name, before));
  }
  await writer.during(settled());
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
});

test('K1: what is deleted comes back, and a writer sees no error', async () => {
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await writer.progress();
  for (const [kind, name] of [
    ['ConfigMap', 'alice-trust'],
    ['StatefulSet', 'alice-disks-0'],
    ['StatefulSet', 'alice-coordinator'],
    ['ServiceAccount', 'alice'],
    ['PodDisruptionBudget', 'alice-nodes'],
  ] as const) {
    const before = await found(kind, name);
    await cluster.api.remove(reference(kind, name));
    await cluster.api.when(
      reference(kind, name),
      ({ metadata }) => metadata.uid !== before.metadata.uid && metadata.deletionTimestamp === undefined,
      'is made anew',
      RIGHT_WITHIN_MS,
    );
  }
  await writer.during(settled());
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
});

test('D10: a Service that is deleted comes back under its port', async () => {
  const before = await found('Service', 'alice-coordinator');
  await cluster.api.remove(reference('Service', 'alice-coordinator'));
  await cluster.api.when(
    reference('Service', 'alice-coordinator'),
    ({ metadata }) => metadata.uid !== before.metadata.uid,
    'is made anew',
    RIGHT_WITHIN_MS,
  );
  const port = ({ spec }: KubeObject) => (spec as { ports: [{ nodePort: number }] }).ports[0].nodePort;
  assert.equal(port(await found('Service', 'alice-coordinator')), port(before));
  await settled();
  await using session = await alice.connect();
  await session.files.write('/after', Buffer.from('found again'));
});

test('T6: a leaf that is deleted or spoilt is issued anew by the same authority, and a writer sees no error', async () => {
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await writer.progress();
  for (const name of ['alice-disks-0-tls', 'alice-coordinator-tls']) {
    const certificate = ({ data }: KubeObject): string | undefined =>
      (data as Record<string, string> | undefined)?.['tls.crt'];
    const before = await found('Secret', name);
    await cluster.api.remove(reference('Secret', name));
    const isAnew = (now: KubeObject): boolean =>
      certificate(now) !== undefined && certificate(now) !== certificate(before);
    await cluster.api.when(reference('Secret', name), isAnew, 'is issued anew', RIGHT_WITHIN_MS);
    await cluster.api.patch(reference('Secret', name), { data: { 'tls.crt': NONSENSE } });
    const isMended = (now: KubeObject): boolean => certificate(now) !== undefined && certificate(now) !== NONSENSE;
    await cluster.api.when(reference('Secret', name), isMended, 'is mended', RIGHT_WITHIN_MS);
    await writer.progress();
  }
  await writer.during(settled());
  const { ca } = (await alice.whenReady()).status as { ca: { generation: number } };
  assert.equal(ca.generation, 1);
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
});

test('K1: for a minute nobody writes to anything of a member in order', async () => {
  await settled();
  let seen = await versions();
  let sinceMs = clock.bootMs();
  let changed: string[] = [];
  await until(
    async () => {
      await sleep(clock, 1_000);
      const now = await versions();
      const known = new Set(seen);
      changed = now.filter((version) => !known.has(version));
      if (changed.length > 0 || now.length !== seen.length) {
        console.log(`changed: ${changed.join('; ')}`);
        [seen, sinceMs] = [now, clock.bootMs()];
      }
      return clock.bootMs() - sinceMs >= QUIET_MS;
    },
    'a minute passes in quiet',
    SETTLES_WITHIN_MS + QUIET_MS,
    () => changed.join('\n'),
  );
});
