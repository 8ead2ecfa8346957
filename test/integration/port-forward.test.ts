import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { KUBECTL_COLLECTIVE } from '@collective/cli/kubectl/kubectl-program';
import { run } from '@collective/cli/run';
import { testShell } from '@collective/cli/shell-for-tests';
import { ContextStore, contextLocation } from '@collective/client';
import { CliWorld, freePortBase, partsOf, type UpPartState, until } from './cli-world.ts';
import { FakePortForward } from './fake-port-forward.ts';

const running = new AsyncDisposableStack();
let world: CliWorld;
let fake: FakePortForward;
let parts: readonly UpPartState[];
let kubeconfig: string;

before(async () => {
  world = running.use(await CliWorld.create());
  fake = running.use(await FakePortForward.start());
  await world.up(['--member', 'alice', '--port-base', String(await freePortBase())]);
  parts = await partsOf(world.dataOf('alice'));
  for (const { name, port } of parts) fake.pods.set(`alice-${name}-0`, { port: () => port });
  kubeconfig = join(world.home, 'kubeconfig');
  await writeFile(kubeconfig, JSON.stringify(fake.kubeconfig));
  const store = new ContextStore(contextLocation(world.env));
  const { trustDomain, credentials } = await store.get('alice');
  const settings = { kubeconfig, context: 'fake', namespace: 'photos', member: 'alice' };
  const via = { kind: 'kubernetes', settings };
  const coordinator = 'alice-coordinator.photos.svc:7420';
  await store.set('forwarded', { coordinator, trustDomain, credentials, listener: 'internal', via }, { use: true });
});
after(() => running.disposeAsync());

test('D10: files are stored and retrieved through forwarded ports, one way to the coordinator and one to each node', async () => {
  const bytes = randomBytes(24 * 1024 * 1024 + 7);
  await writeFile(join(world.work, 'there'), bytes);
  fake.opened.clear();
  await world.ok(['cp', 'there', 'collective:/there']);
  await world.ok(['cp', 'collective:/there', 'back']);
  assert.ok(bytes.equals(await readFile(join(world.work, 'back'))));
  const nodes = parts.filter(({ name }) => name !== 'coordinator').map(({ name }) => `alice-${name}-0`);
  const used = [...fake.opened.keys()].sort();
  assert.ok(used.includes('alice-coordinator-0') && nodes.some((pod) => used.includes(pod)), used.join());
  assert.ok(
    used.every((pod) => pod === 'alice-coordinator-0' || nodes.includes(pod)),
    used.join(),
  );
  await until(() => fake.openNow === 0, 'forwards are closed with the command', 10_000);
});

test('commands that ask the coordinator alone, and tests of a context, take the same way', async () => {
  assert.match(await world.ok(['status']), /Health: +OK/);
  await says(['config', 'show-context'], /Connection: +ok: coordinator of alice\./);
  assert.match(await world.here.ok(['config', 'get-contexts', '-o', 'wide']), /kubernetes: alice in photos of fake/);
  await says(['version'], /Coordinator: +0\./);
});

/** These ask the coordinator for a few seconds only. */
async function says(args: readonly string[], words: RegExp): Promise<void> {
  let said = '';
  await until(
    async () => {
      const { exit, out, err } = await world.here.run(args);
      said = out + err;
      return exit === 0 && words.test(out);
    },
    `collective ${args.join(' ')} says ${words}`,
    60_000,
    () => said,
  );
}

test('forwards that break under a copy are opened again, and the copy ends well', async () => {
  const bytes = randomBytes(48 * 1024 * 1024);
  await writeFile(join(world.work, 'long'), bytes);
  fake.opened.clear();
  const copying = world.ok(['cp', 'long', 'collective:/long']);
  await until(() => fake.opened.size >= 2, 'a node is reached', 30_000);
  fake.cutAll();
  await copying;
  assert.ok((fake.opened.get('alice-coordinator-0') ?? 0) >= 2);
  await world.ok(['--context', 'alice', 'cp', 'collective:/long', 'long-back']);
  assert.ok(bytes.equals(await readFile(join(world.work, 'long-back'))));
});

test('T2: a forward to another program than the one that was meant is refused by its certificate', async () => {
  const [coordinator] = parts.filter(({ name }) => name === 'coordinator');
  const [node] = parts.filter(({ name }) => name !== 'coordinator');
  fake.pods.set('alice-coordinator-0', { port: () => node?.port ?? 0 });
  await world.here.fails(
    4,
    /at the other end.*\n(.*\n)* {2}'kubectl collective context import alice -n photos --context fake' brings/,
    ['ls', '/'],
  );
  fake.pods.set('alice-coordinator-0', { port: () => coordinator?.port ?? 0 });
});

test('what the apiserver refuses is told at once, with the right that is missing or where to look', async () => {
  fake.refusal = { status: 403, message: 'pods "alice-coordinator-0" is forbidden: cannot create pods/portforward' };
  await world.here.fails(4, /cannot create pods\/portforward.*\n {2}Ask for the rights 'create' and 'get'/, [
    'ls',
    '/',
  ]);
  fake.refusal = { status: 404, message: 'pods "alice-coordinator-0" not found' };
  await world.here.fails(5, /not found.*\n {2}'kubectl collective status alice -n photos --context fake' says/, [
    'ls',
    '/',
  ]);
  fake.refusal = undefined;
  // A pod that runs while nothing listens in it.
  const real = fake.pods.get('alice-coordinator-0');
  fake.pods.set('alice-coordinator-0', { port: () => 1 });
  await world.here.fails(5, /because: .*(ECONNREFUSED|closed)/, ['--timeout', '20s', 'status']);
  if (real !== undefined) fake.pods.set('alice-coordinator-0', real);
});

test('T3: an invitation lets somebody in by a forwarded port, with a key made here, and files go the same way', async () => {
  const invitation = join(world.home, 'ben.invitation');
  const text = await world.here.ok(['token', 'create', '--for', 'user/ben', '--invitation']);
  assert.doesNotMatch(text, /^coordinator:/m);
  await writeFile(invitation, text);
  await world.here.fails(2, /does not say where the coordinator is.*\n.*context import/, [
    'init',
    '--invitation',
    invitation,
    '--force',
  ]);
  const { trustDomain } = await new ContextStore(contextLocation(world.env)).get('alice');
  const member = {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Member',
    metadata: { name: 'alice', namespace: 'photos' },
    spec: {},
    status: { trustDomain },
  };
  fake.objects.set('/apis/collective.storage/v1alpha1/namespaces/photos/members/alice', member);
  fake.opened.clear();
  const importing = ['context', 'import', 'alice', '--name', 'ben', '--invitation', invitation];
  assert.equal((await plugin(importing)).exit, 0);
  assert.deepEqual([...fake.opened.keys()], ['alice-coordinator-0']);
  const ben = ['--context', 'ben'];
  await says([...ben, 'config', 'show-context'], /user\/ben/);
  await world.ok(['write', '/for-ben'], { stdin: 'from inside' });
  fake.opened.clear();
  assert.equal(await world.ok([...ben, 'cat', '/for-ben']), 'from inside');
  assert.ok(
    [...fake.opened.keys()].some((pod) => pod !== 'alice-coordinator-0'),
    'nodes are reached by forwarded ports',
  );

  const again = await plugin([...importing.slice(0, -2), '--invitation', invitation]);
  assert.match(again.err, /\[token_invalid\]|used/);
  const both = await plugin([...importing, '--user', 'anna']);
  assert.match(both.err, /--invitation: it says what --user would say/);
  assert.deepEqual([again.exit, both.exit], [4, 2]);
});

async function plugin(args: readonly string[]): Promise<{ exit: number; err: string }> {
  const shell = testShell({ env: { ...world.env, KUBECONFIG: kubeconfig }, cwd: world.work });
  const exit = await run(args, shell, KUBECTL_COLLECTIVE);
  return { exit, err: shell.err() };
}

test('an address that is named by a flag is dialled as it is', async () => {
  const port = parts.find(({ name }) => name === 'coordinator')?.port;
  fake.opened.clear();
  assert.match(await world.here.ok(['--coordinator', `localhost:${port}`, 'status']), /Health: +OK/);
  assert.equal(fake.opened.size, 0);
});
