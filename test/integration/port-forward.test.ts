import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
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
  assert.match(await world.here.ok(['config', 'show-context']), /Connection: +ok: coordinator of alice\./);
  assert.match(await world.here.ok(['config', 'get-contexts', '-o', 'wide']), /kubernetes: alice in photos of fake/);
  assert.match(await world.here.ok(['version']), /Coordinator: +0\./);
});

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
  const { exit, err } = await world.here.run(['ls', '/']);
  fake.pods.set('alice-coordinator-0', { port: () => coordinator?.port ?? 0 });
  assert.equal(exit, 4, err);
});

test('what the apiserver refuses is told at once, with the right that is missing or where to look', async () => {
  fake.refusal = { status: 403, message: 'pods "alice-coordinator-0" is forbidden: cannot create pods/portforward' };
  await world.here.fails(4, /cannot create pods\/portforward.*\n {2}Ask for the rights 'create' and 'get'/, [
    'ls',
    '/',
  ]);
  fake.refusal = { status: 404, message: 'pods "alice-coordinator-0" not found' };
  await world.here.fails(5, /not found.*\n {2}'kubectl --context fake -n photos collective status alice' says/, [
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

test('an address that is named by a flag is dialled as it is', async () => {
  const port = parts.find(({ name }) => name === 'coordinator')?.port;
  fake.opened.clear();
  assert.match(await world.here.ok(['--coordinator', `localhost:${port}`, 'status']), /Health: +OK/);
  assert.equal(fake.opened.size, 0);
});
