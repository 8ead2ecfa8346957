/** A cluster that gets its cert-manager after the operator, an old one first: the Member says what to do, and goes on by itself. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { until } from '../until.ts';
import { conditionOf, type KubeObject } from './api-client.ts';
import { CertManager, readCertManagerCrds } from './cert-manager.ts';
import { installCrd } from './crds.ts';
import { MemberWorld, NAMESPACE, pool } from './member-world.ts';

/** Kinds that are missing are looked for at least twice a minute. */
const TOLD_WITHIN_MS = 60_000;
const SPEC = { nodePools: [pool(1)] };

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start({ hasCertManager: false }));
  await world.applyCollective();
  await world.applyMember('alice', SPEC);
});
after(() => running.disposeAsync());

interface Schema {
  readonly properties: Record<string, Schema | undefined>;
}

/** As before 1.21: a Certificate without `spec.renewal`. */
function olderThan(newest: KubeObject): KubeObject {
  const older = structuredClone(newest);
  if (newest.metadata.name !== 'certificates.cert-manager.io') return older;
  const [version] = (older.spec as { versions: { schema: { openAPIV3Schema: Schema } }[] }).versions;
  const properties = version?.schema.openAPIV3Schema.properties.spec?.properties;
  assert.ok(properties?.renewal !== undefined);
  delete properties.renewal;
  return older;
}

async function stalledBy(reason: string): Promise<KubeObject> {
  return await world.whenMember(
    'alice',
    (alice) => conditionOf(alice, 'Stalled').reason === reason,
    `is stalled by ${reason}`,
    TOLD_WITHIN_MS,
  );
}

/** Of what the operator said of cert-manager in events, in order. */
async function warnings(): Promise<string[]> {
  const events = (await world.server.admin.list('events.k8s.io/v1', 'Event', NAMESPACE)) as readonly (KubeObject & {
    readonly reason: string;
    readonly note: string;
    readonly eventTime: string;
  })[];
  return events
    .filter(({ reason }) => reason.startsWith('CertManager'))
    .sort((a, b) => (a.eventTime < b.eventTime ? -1 : 1))
    .map(({ reason, note }) => `${reason}: ${note}`);
}

async function untilWarnings(...expected: readonly RegExp[]): Promise<void> {
  let seen: readonly string[] = [];
  const areTold = async (): Promise<boolean> => {
    seen = await warnings();
    return seen.length === expected.length && expected.every((pattern, index) => pattern.test(seen[index] ?? ''));
  };
  await until(areTold, 'the events are told', TOLD_WITHIN_MS, () => JSON.stringify(seen));
}

const MISSING = /^CertManagerMissing: This cluster has no cert-manager: install version 1\.21 or later/;
const TOO_OLD = /^CertManagerTooOld: .* upgrade it to version 1\.21 or later/;

test('K1: without cert-manager a Member says what to install', async () => {
  const alice = await stalledBy('CertManagerMissing');
  assert.match(`CertManagerMissing: ${conditionOf(alice, 'Stalled').message}`, MISSING);
  for (const type of ['Ready', 'Reconciling', 'CertificatesReady'])
    assert.equal(conditionOf(alice, type).status, 'False', type);
  await untilWarnings(MISSING);
});

test('T6: with one that is too old it says what to upgrade to', async () => {
  await Promise.all(readCertManagerCrds().map((crd) => installCrd(world.server, olderThan(crd))));
  const alice = await stalledBy('CertManagerTooOld');
  assert.match(`CertManagerTooOld: ${conditionOf(alice, 'Stalled').message}`, TOO_OLD);
  await untilWarnings(MISSING, TOO_OLD);
  const certificates = await world.server.admin.list('cert-manager.io/v1', 'Certificate', NAMESPACE);
  assert.deepEqual(certificates, [], 'an authority that renews itself is not begun');
});

test('T6: with the one that it needs it comes up, and the operator is not restarted for that', async () => {
  running.use(await CertManager.start(world.server));
  await world.ready('alice');
  await untilWarnings(MISSING, TOO_OLD);
});

test('K1: an operator that starts together with its apiserver does not take cert-manager for missing', async () => {
  await world.stopOperator();
  await world.server.restart();
  await world.startOperator();
  const { metadata } = await world.applyMember('alice', { ...SPEC, image: 'collective:other' });
  const hasSeen = ({ status }: KubeObject): boolean =>
    (status as { observedGeneration?: number }).observedGeneration === metadata.generation;
  const alice = await world.whenMember('alice', hasSeen, 'is seen', TOLD_WITHIN_MS);
  assert.equal(conditionOf(alice, 'Stalled').status, 'False');
  await untilWarnings(MISSING, TOO_OLD);
});
