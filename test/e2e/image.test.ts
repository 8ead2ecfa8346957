/** The container image by itself, as docker runs it: no cluster is needed. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { VERSION } from '@collective/cli/version';
import { ensureProductImage } from '@collective/hack/image/product-image';
import { ensureDocker } from '@collective/hack/kind/docker-daemon';
import { docker } from '@collective/hack/kind/lab';

const BYTES_MAX = 250_000_000;
/** As a pod under Pod Security "restricted" runs it. */
const CONFINED = ['--rm', '--read-only', '--user', '65532:65532', '--cap-drop=ALL', '--security-opt=no-new-privileges'];

let image = '';
let bytes = 0;

before(async () => {
  await ensureDocker(console.log);
  ({ tag: image, bytes } = await ensureProductImage(console.log));
});

test('the image is named by the version, says what it is, and is small', async () => {
  assert.equal(image, `collective:${VERSION}`);
  assert.ok(bytes < BYTES_MAX, `${bytes} bytes`);
  const { stdout } = await docker(['image', 'inspect', '--format', '{{json .Config}}', image]);
  const { User, Labels } = JSON.parse(String(stdout)) as { User: string; Labels: Record<string, string> };
  assert.equal(User, '65532:65532');
  assert.equal(Labels['org.opencontainers.image.version'], VERSION);
  assert.equal(Labels['org.opencontainers.image.licenses'], 'Apache-2.0');
});

test('the command runs with a read-only root, without network and without any right', async () => {
  const { stdout } = await docker(['run', ...CONFINED, '--network=none', image, 'version', '-o', 'json']);
  const { program, node } = JSON.parse(String(stdout)) as { program: string; node: string };
  assert.equal(program, VERSION);
  assert.match(node, /^24\./);
});

test('every command of the image starts where it is named as the entry point', async () => {
  const list = `require('node:fs').readdirSync('/usr/local/bin').filter((name) => name !== 'node').join(' ')`;
  const { stdout } = await docker(['run', ...CONFINED, '--entrypoint=node', image, '-p', list]);
  const commands = String(stdout).trim().split(' ');
  assert.ok(commands.includes('collective'), commands.join());
  for (const command of commands) {
    const help = await docker(['run', ...CONFINED, '--network=none', `--entrypoint=${command}`, image, '--help']);
    assert.match(String(help.stdout), new RegExp(`^Usage: ${command} `), command);
  }
});

test('a refused command ends with its code and a message, as everywhere', async () => {
  const refused = await docker(['run', ...CONFINED, '--network=none', image, 'frobnicate'], { mayFail: true });
  assert.equal(refused.exitCode, 2);
  assert.match(String(refused.stderr), /frobnicate/);
});

test('nothing in the image but two empty folders for volumes belongs to anybody but root, is setuid or can be written by others, and no shell is there', async () => {
  const script = `
    const { readdirSync, lstatSync, existsSync } = require('node:fs');
    const found = [];
    const skip = new Set(['/proc', '/sys', '/dev', '/tmp', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf']);
    const walk = (folder) => {
      for (const name of readdirSync(folder)) {
        const path = folder === '/' ? '/' + name : folder + '/' + name;
        if (skip.has(path)) continue;
        const { mode, uid } = lstatSync(path);
        const kind = mode & 0o170000;
        if (kind === 0o120000) continue;
        if (mode & 0o6000 || uid !== 0 || (mode & 0o022 && !(mode & 0o1000))) found.push(path + ' ' + mode.toString(8) + ' ' + uid);
        if (kind === 0o040000) walk(path);
      }
    };
    walk('/');
    for (const shell of ['/bin/sh', '/bin/bash', '/bin/dash', '/bin/busybox']) if (existsSync(shell)) found.push(shell);
    console.log(JSON.stringify({ found, uid: process.getuid(), groups: process.getgroups() }));
  `;
  const asRoot = ['--rm', '--network=none', '--user=0', '--entrypoint=/usr/local/bin/node'];
  const { stdout } = await docker(['run', ...asRoot, image, '-e', script]);
  const volumes = ['/run/collective', '/var/lib/collective'];
  assert.deepEqual(
    (JSON.parse(String(stdout)) as { found: string[] }).found.sort(),
    volumes.map((path) => `${path} 40700 65532`),
  );
  const listed = `process.argv.slice(1).flatMap((path) => require('fs').readdirSync(path)).length`;
  const inside = await docker([
    'run',
    ...CONFINED,
    '--entrypoint=/usr/local/bin/node',
    image,
    '-p',
    listed,
    ...volumes,
  ]);
  assert.equal(String(inside.stdout).trim(), '0');
  const confined = await docker([
    'run',
    ...CONFINED,
    '--entrypoint=/usr/local/bin/node',
    image,
    '-p',
    'process.getuid()',
  ]);
  assert.equal(String(confined.stdout).trim(), '65532');
});

test('sources run where Node strips types, outside node_modules, and no developer package and no second Node came along', async () => {
  const script = `
    const { realpathSync, readdirSync, statSync } = require('node:fs');
    const linked = readdirSync('/opt/collective/node_modules/@collective').map((name) => [
      name, realpathSync('/opt/collective/node_modules/@collective/' + name)]);
    const big = readdirSync('/opt/collective', { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => entry.parentPath + '/' + entry.name)
      .filter((path) => statSync(path).size > 20e6 || /\\.test\\.ts$|\\.d\\.ts$/.test(path));
    const bill = JSON.parse(require('node:fs').readFileSync('/usr/share/sbom/collective.cdx.json', 'utf8'));
    console.log(JSON.stringify({ linked, big, packages: readdirSync('/opt/collective/node_modules'), bill }));
  `;
  const { stdout } = await docker(['run', ...CONFINED, '--entrypoint=/usr/local/bin/node', image, '-e', script]);
  const { linked, big, packages, bill } = JSON.parse(String(stdout)) as {
    linked: [string, string][];
    big: string[];
    packages: string[];
    bill: { components: { name: string; version: string; purl?: string }[] };
  };
  for (const [name, path] of linked) assert.equal(path, `/opt/collective/${name}`);
  assert.ok(linked.some(([name]) => name === 'coordinator'));
  assert.deepEqual(big, []);
  for (const name of ['typescript', '@biomejs', '@types', `node-linux-${process.arch}`])
    assert.ok(!packages.includes(name), name);

  const named = (wanted: string) => bill.components.find(({ name }) => name === wanted);
  assert.match(named(`node-linux-${process.arch}`)?.version ?? '', /^24\./);
  assert.match(named('pino')?.purl ?? '', /^pkg:npm\/pino@\d/);
  for (const name of packages.filter((one) => !one.startsWith('@'))) assert.ok(named(name), `${name} is in no bill`);
});
