/** The examples as their readers apply them: each comes up until every Member is Ready, and in the homelab a file is stored and the backup runs. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { docker, kubeconfigFile, kubectl, run } from '@collective/hack/kind/lab';
import { seededFile } from '../../integration/random-file.ts';
import { until } from '../../until.ts';
import { clusterOfThisFile } from '../cluster.ts';
import { describeNamespace } from '../describe-namespace.ts';
import { Example } from '../example.ts';
import { installOperator } from '../installed-operator.ts';

const REPORTED_WITHIN_MS = 60_000;
const PROGRAMS = join(import.meta.dirname, '../../../cli/bin');
const FILE_BYTES = 16 * 1024 * 1024;
const DISKS = ['/mnt/first/names', '/mnt/first/bytes', '/mnt/second/bytes', '/mnt/external/backups'];

const cluster = clusterOfThisFile({ namespace: 'examples', prepare: async () => await installOperator() });
const home = mkdtempSync(join(tmpdir(), 'examples-'));
after(() => rmSync(home, { recursive: true, force: true }));

async function ready(namespace: string): Promise<void> {
  const wait = ['wait', '--for=condition=Ready', '-n', namespace, 'member', '--all', '--timeout=5m'];
  const waited = await kubectl(wait, { mayFail: true });
  if (waited.failed) assert.fail(`${waited.stderr}\n${await describeNamespace(namespace)}`);
}

/** As at a desk with a home and a kubeconfig. */
async function collective(program: 'collective' | 'kubectl-collective', ...args: string[]): Promise<string> {
  const env = { HOME: home, KUBECONFIG: kubeconfigFile() };
  return String((await run(join(PROGRAMS, program), args, { env })).stdout);
}

test('K1: examples/three-member: three members become ready', async () => {
  await using example = new Example('three-member');
  await example.remove();
  await example.apply();
  await ready('photos');
  assert.match(
    await collective('kubectl-collective', 'status', '-n', 'photos'),
    /alice +OK[\s\S]*bob +OK[\s\S]*carol +OK/,
  );
});

test('K2: examples/scale-test: a member of ten nodes becomes ready', async () => {
  await using example = new Example('scale-test');
  await example.remove();
  await example.apply();
  await ready('scale');
  const status = await collective('kubectl-collective', 'status', 'member-01', '-n', 'scale');
  assert.match(status, /Nodes: +10\/10 ready/);
});

test('M2a: examples/homelab: a file lies on two disks of one machine, and its backup on a third', async () => {
  const machine = (await cluster.nodes()).find(({ isControlPlane }) => !isControlPlane)?.name ?? '';
  await using example = new Example('homelab');
  await example.remove();
  await docker(['exec', machine, 'rm', '-rf', ...DISKS]);
  await docker(['exec', machine, 'mkdir', '-p', ...DISKS]);
  await docker(['exec', machine, 'chown', '-R', '65532:65532', '/mnt/first', '/mnt/second', '/mnt/external']);
  example.replace('values: [homelab]', `values: [${machine}]`);
  await example.apply();
  await ready('home');

  const film = join(home, 'film');
  writeFileSync(film, seededFile(1, FILE_BYTES));
  // The name homelab.local is known in the home network and not here.
  const way = ['--via', 'port-forward'];
  await collective('kubectl-collective', 'context', 'import', 'family', '-n', 'home', '--user', 'laptop', ...way);
  await collective('collective', 'mkdir', '/films');
  await collective('collective', 'cp', film, 'collective:/films/first');
  await collective('collective', 'cp', 'collective:/films/first', `${film}-back`);
  assert.ok(readFileSync(film).equals(readFileSync(`${film}-back`)));
  // What a node holds is told with its heartbeats.
  await until(
    async () => {
      const nodes = JSON.parse(await collective('collective', 'nodes', 'list', '-o', 'json')) as { chunks: number }[];
      return nodes.length === 2 && nodes.every(({ chunks }) => chunks > 0);
    },
    'replicas lie on both disks',
    REPORTED_WITHIN_MS,
  );

  await kubectl(['create', 'job', '-n', 'home', '--from=cronjob/family-backup', 'backup-now']);
  const backedUp = ['wait', '--for=condition=complete', '-n', 'home', 'job/backup-now', '--timeout=3m'];
  const waited = await kubectl(backedUp, { mayFail: true });
  if (waited.failed) assert.fail(`${waited.stderr}\n${await describeNamespace('home')}`);
  const { stdout } = await docker(['exec', machine, 'ls', '/mnt/external/backups']);
  assert.match(String(stdout), /family-\d+T\d+Z\.backup/);
  await example.remove();
  await docker(['exec', machine, 'rm', '-rf', '/mnt/first', '/mnt/second', '/mnt/external']);
});
