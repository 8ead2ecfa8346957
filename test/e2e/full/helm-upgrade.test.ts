/**
 * The life of a release: installed from the chart of the release before, upgraded to this tree's, uninstalled and installed again
 * while a member serves; and taken away with everything at last.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { conditionOf, type KubeObject } from '../../apiserver/api-client.ts';
import { readCrds } from '../../apiserver/crds.ts';
import { seededFile } from '../../integration/random-file.ts';
import { until } from '../../until.ts';
import { clusterOfThisFile } from '../cluster.ts';
import { ClusterMember, collectiveObject } from '../cluster-member.ts';
import { CHART, installOperator, OPERATOR_NAMESPACE, RELEASE } from '../installed-operator.ts';
import { SteadyWriter } from '../steady-writer.ts';

const FORMER_CHART = join(import.meta.dirname, '../../fixtures/previous-release/collective-0.1.0.tgz');
const FILE_BYTES = 5 * 1024 * 1024 + 3;
const FILES = 20;
const LEVEL_WITHIN_MS = 120_000;
const GONE_WITHIN = '120s';
const RELEASE_ARGS = [RELEASE, '--namespace', OPERATOR_NAMESPACE];
const UNINSTALL = ['uninstall', ...RELEASE_ARGS, '--wait', '--timeout', GONE_WITHIN];

const running = new AsyncDisposableStack();
let alice: ClusterMember;
const cluster = clusterOfThisFile({
  namespace: 'helm-upgrade',
  prepare: async (ready) => {
    await ready.helm([...UNINSTALL, '--ignore-not-found']);
    await installOperator({}, FORMER_CHART);
    await ready.apply(collectiveObject(ready));
    alice = running.use(new ClusterMember(ready, { name: 'alice' }));
    await alice.apply();
    await alice.whenReady();
  },
});
after(() => running.disposeAsync());

const operator = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'collective-operator', namespace: OPERATOR_NAMESPACE },
};

/** Kinds as the apiserver has them, without what it adds. */
async function kinds(): Promise<readonly unknown[]> {
  const found = await Promise.all(readCrds().map((crd) => cluster.api.find(crd)));
  return found.map((crd) => (crd?.spec as { versions: { schema: unknown }[] } | undefined)?.versions[0]?.schema);
}

const schemasOfThisTree = (): unknown[] =>
  readCrds().map(({ spec }) => (spec as { versions: { schema: unknown }[] }).versions[0]?.schema);

async function podUids(): Promise<string[]> {
  const pods = await cluster.api.list('v1', 'Pod', cluster.namespace);
  return pods.map(({ metadata }) => `${metadata.name} ${metadata.uid}`).sort();
}

/** Every state that the condition Ready is seen in until `during` has ended, and why it is in it. */
async function readiness(during: Promise<unknown>): Promise<Set<string>> {
  const seen = new Set<string>();
  let isOver = false;
  const ended = during.finally(() => {
    isOver = true;
  });
  ended.catch(() => undefined);
  await until(
    async () => {
      const member = await cluster.api.find(alice.reference());
      const { status, reason } = conditionOf(member, 'Ready');
      seen.add(`${status} ${reason}`);
      return isOver;
    },
    'it is over',
    LEVEL_WITHIN_MS * 2,
  );
  await ended;
  return seen;
}

test('K1: an upgrade from the former chart brings operator and kinds up to date while the member stays ready', async () => {
  await using session = await alice.connect();
  await session.files.write('/before', seededFile(1, FILE_BYTES));
  await using writer = new SteadyWriter(session);
  await writer.progress(FILES);
  const seen = await readiness(installOperator());
  await writer.progress(FILES);
  // One question that the coordinator answers late on a busy machine, its pod ready all the while, is none of the upgrade's.
  assert.deepEqual(
    [...seen].filter((state) => state !== 'False Unreachable'),
    ['True Ready'],
  );
  await alice.whenReady();
  assert.deepEqual(await kinds(), schemasOfThisTree());
  // What the new operator thinks of it, and not only what the former one left behind.
  await alice.apply({ users: [{ name: 'tester', admin: true }, { name: 'second' }] });
  await alice.whenReady();
  await alice.when(
    ({ status }) => (status as { users: { name: string }[] }).users.some(({ name }) => name === 'second'),
    'has its second user',
  );
  await writer.finish(session);
  assert.ok(seededFile(1, FILE_BYTES).equals(await session.files.readAll('/before')));
});

test('helm test asks the operator whether it is ready, and shows what it was told', async () => {
  const said = await cluster.helm(['test', ...RELEASE_ARGS, '--logs', '--timeout', GONE_WITHIN]);
  assert.match(said, /Phase: +Succeeded/);
  assert.match(said, /The operator is ready/);
});

test('K3: helm uninstall leaves kinds, Members and data; they serve without an operator, and the next one takes them over', async () => {
  const before = await podUids();
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await cluster.helm(UNINSTALL);
  assert.equal(await cluster.api.find(operator), undefined);
  assert.deepEqual(await kinds(), schemasOfThisTree());
  assert.ok((await cluster.api.find(alice.reference())) !== undefined);
  await writer.progress(FILES);

  await installOperator();
  await alice.apply({ users: [{ name: 'tester', admin: true }, { name: 'third' }] });
  await alice.when(
    ({ status }) => (status as { users: { name: string }[] }).users.some(({ name }) => name === 'third'),
    'has its third user',
  );
  await alice.whenReady();
  await writer.progress(FILES);
  await writer.finish(session);
  assert.deepEqual(await podUids(), before, 'no pod was replaced');
  assert.ok(seededFile(1, FILE_BYTES).equals(await session.files.readAll('/before')));
});

test('K3: with Members deleted first and crds.keep off, an uninstall leaves nothing', async (t) => {
  const others = (await cluster.api.list('collective.storage/v1alpha1', 'Member')).filter(
    ({ metadata }) => metadata.namespace !== cluster.namespace,
  );
  if (others.length > 0) {
    t.skip(`there are Members of others: ${others.map(({ metadata }) => metadata.name).join(', ')}`);
    return;
  }
  await alice.apply({ deletionPolicy: 'Delete' });
  await alice.whenReady();
  await cluster.kubectl(['delete', 'member', 'alice', `--timeout=${GONE_WITHIN}`]);
  await cluster.kubectl(['wait', '--for=delete', 'pvc', '--all', `--timeout=${GONE_WITHIN}`]);
  await cluster.kubectl(['delete', 'collective', 'lab', `--timeout=${GONE_WITHIN}`]);
  const wait = ['--wait', '--timeout', GONE_WITHIN];
  await cluster.helm([
    'upgrade',
    RELEASE,
    CHART,
    ...RELEASE_ARGS.slice(1),
    '--reuse-values',
    '--set',
    'crds.keep=false',
    ...wait,
  ]);
  await cluster.helm(UNINSTALL);
  await until(
    async () => (await kinds()).every((schema) => schema === undefined),
    'the kinds are gone',
    LEVEL_WITHIN_MS,
  );
  const secrets: readonly KubeObject[] = await cluster.api.list('v1', 'Secret', cluster.namespace);
  assert.deepEqual(
    secrets.map(({ metadata }) => metadata.name),
    [],
  );
});
