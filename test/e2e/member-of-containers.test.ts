/**
 * A member whose parts are containers of the image, confined as pods are: read-only root, a user without rights, one folder for
 * data. What enrols, serves, stores and stops here does so without a shell and without anything else of the machine.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { ensureProductImage } from '@collective/hack/image/product-image';
import { ensureDocker } from '@collective/hack/kind/docker-daemon';
import { docker } from '@collective/hack/kind/lab';
import { until } from '../until.ts';

const READY_WITHIN_MS = 60_000;
const KILLED_AFTER_S = 60;
const CONFINED = ['--read-only', '--user=65532:65532', '--cap-drop=ALL', '--security-opt=no-new-privileges'];

const network = `collective-e2e-${process.pid}`;
const containers = new Set<string>();
let folder = '';
let image = '';
let coordinator = '';

before(async () => {
  await ensureDocker(console.log);
  ({ tag: image } = await ensureProductImage(console.log));
  // Shared with the containers, whose user is another one.
  folder = mkdtempSync(join(tmpdir(), 'containers-'));
  await docker(['network', 'create', network]);
});

afterEach(async (context) => {
  if (!('passed' in context) || context.passed) return;
  for (const name of containers) {
    const { stdout, stderr } = await docker(['logs', '--tail=30', name], { mayFail: true });
    console.log(`-- ${name}\n${stdout}\n${stderr}`);
  }
});

after(async () => {
  await docker(['rm', '--force', '--volumes', ...containers], { mayFail: true });
  await docker(['network', 'rm', network], { mayFail: true });
  await rm(folder, { recursive: true, force: true });
});

async function start(name: string, options: readonly string[], command: readonly string[]): Promise<string> {
  const container = `${network}-${name}`;
  containers.add(container);
  const data = '--tmpfs=/data:uid=65532,gid=65532,mode=0700';
  const place = ['--name', container, '--network', network, '--network-alias', name, data, '--env=HOME=/data/home'];
  await docker(['run', '--detach', ...CONFINED, ...place, ...options, image, ...command]);
  return container;
}

async function inContainer(container: string, ...command: string[]): Promise<string> {
  return String((await docker(['exec', container, ...command])).stdout);
}

async function untilReady(container: string, port: number): Promise<void> {
  const ask = `fetch('http://127.0.0.1:${port}/readyz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))`;
  await until(
    async () => !(await docker(['exec', container, 'node', '-e', ask], { mayFail: true })).failed,
    `${container} is ready`,
    READY_WITHIN_MS,
  );
}

test('a coordinator and two nodes enrol, and each reaches the other by name over mutual TLS', async () => {
  const health = '--health-listen=127.0.0.1:9420';
  coordinator = await start('coordinator', [], ['coordinator', '--member=alice', '--data=/data', '--auto-tls', health]);
  await untilReady(coordinator, 9420);
  const read = (path: string) =>
    inContainer(coordinator, 'node', '-p', `require('fs').readFileSync('${path}', 'utf8')`);
  writeFileSync(join(folder, 'trust.pem'), await read('/data/tls/trust.pem'), { mode: 0o644 });
  const token = (await read('/data/bootstrap-token')).trim();
  const trust = ['--ca-cert', '/data/tls/trust.pem'];
  await inContainer(
    coordinator,
    'collective',
    'init',
    '--coordinator=:7420',
    ...trust,
    '--user=admin',
    '--token',
    token,
  );

  for (const name of ['one', 'two']) {
    const letIn = (await inContainer(coordinator, 'collective', 'token', 'create', '--for', `node/${name}`)).trim();
    const secrets = ['--env', `COLLECTIVE_TOKEN=${letIn}`, '--volume', `${join(folder, 'trust.pem')}:/trust.pem:ro`];
    const where = ['--coordinator=coordinator:7420', '--data=/data', '--capacity=1GiB', `--advertise=${name}`];
    const node = await start(name, secrets, [
      'node',
      ...where,
      '--ca-cert=/trust.pem',
      '--health-listen=127.0.0.1:9431',
    ]);
    await untilReady(node, 9431);
  }
});

test('what is stored through it comes back, byte for byte, and its replicas lie in both containers', async () => {
  await inContainer(coordinator, 'collective', 'cp', '/opt/collective/LICENSE', 'collective:/licence');
  await inContainer(coordinator, 'collective', 'cp', 'collective:/licence', '/data/back');
  const compare = `const { readFileSync: read } = require('fs'); process.exit(read('/opt/collective/LICENSE').equals(read('/data/back')) ? 0 : 1)`;
  await inContainer(coordinator, 'node', '-e', compare);
  const chunks = async (): Promise<string[]> => {
    const listed = await inContainer(coordinator, 'collective', 'nodes', 'list', '-o', 'json');
    const nodes = JSON.parse(listed) as { name: string; chunks: number }[];
    return nodes.map((node) => `${node.name} ${node.chunks}`).sort();
  };
  let seen: string[] = [];
  await until(
    async () => {
      seen = await chunks();
      return seen.join() === 'one 1,two 1';
    },
    'both nodes hold it',
    READY_WITHIN_MS,
    () => seen.join(),
  );
});

test('T1: a program of the same image without a certificate is turned away by a node', async () => {
  const dial = `
    const socket = require('tls').connect({ host: 'one', port: 7431, rejectUnauthorized: false });
    socket.on('data', () => { console.log('was served'); process.exit(0); });
    socket.on('error', ({ code }) => { console.log(code); process.exit(0); });
    socket.on('close', () => { console.log('closed'); process.exit(0); });
    socket.write(Buffer.alloc(64));
  `;
  const { stdout } = await docker([
    'run',
    '--rm',
    ...CONFINED,
    '--network',
    network,
    '--entrypoint=node',
    image,
    '-e',
    dial,
  ]);
  assert.match(String(stdout), /CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|ECONNRESET/);
});

test('a part is process 1 and still ends in order when it is told to', async () => {
  for (const container of containers) {
    await docker(['stop', '--time', String(KILLED_AFTER_S), container]);
    // One that had to be killed says 137.
    const { stdout } = await docker(['inspect', '--format', '{{.State.ExitCode}}', container]);
    assert.equal(String(stdout).trim(), '0', container);
  }
});
