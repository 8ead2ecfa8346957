import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { contextLocation } from './context-location.ts';
import { ContextStore } from './context-store.ts';

const root = await mkdtemp(join(tmpdir(), 'collective-contexts-'));
after(() => rm(root, { recursive: true }));
let stores = 0;

function newStore(options: { lockWaitMs?: number } = {}): ContextStore {
  const folder = join(root, `${stores++}`);
  const location = { file: join(folder, 'config.yaml'), credentialsFolder: join(folder, 'credentials') };
  return new ContextStore(location, options);
}

const alice = { coordinator: 'localhost:7420', trustDomain: 'alice.home' };

function code(expected: string, message?: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof CollectiveError &&
    error.code === expected &&
    (message === undefined || message.test(error.message));
}

test('the first context becomes the current one; later ones only when asked', async () => {
  const store = newStore();
  const made = await store.set('alice', alice);
  assert.equal(made.credentials, join(store.location.credentialsFolder, 'alice'));
  await store.set('bob', { coordinator: 'bob.example:7420', trustDomain: 'bob.home' });
  assert.equal(await store.currentName(), 'alice');
  await store.set('bob', {}, { use: true });
  assert.equal((await store.get()).trustDomain, 'bob.home');
  assert.deepEqual(
    (await store.list()).map(({ name, current }) => [name, current]),
    [
      ['alice', false],
      ['bob', true],
    ],
  );
});

test('the file is readable by its owner only and replaced as a whole', async () => {
  const store = newStore();
  await store.set('alice', alice);
  assert.equal((await stat(store.location.file)).mode & 0o777, 0o600);
  await assert.rejects(stat(`${store.location.file}.lock`));
  assert.match(await readFile(store.location.file, 'utf8'), /^kind: CollectiveConfig\nversion: 1\n/);
});

test('changes at the same time are all kept', async () => {
  // The last of twenty waits for the syncs of all others, on whatever disk.
  const store = newStore({ lockWaitMs: 60_000 });
  await Promise.all(Array.from({ length: 20 }, (_, index) => store.set(`c${index}`, alice)));
  assert.equal((await store.list()).length, 20);
});

test('rename keeps the current context; delete removes certificates that nothing else names', async () => {
  const store = newStore();
  const { credentials } = await store.set('alice', alice);
  await mkdir(credentials, { recursive: true });
  await store.rename('alice', 'work');
  assert.equal(await store.currentName(), 'work');
  assert.equal((await store.get('work')).credentials, credentials);
  await assert.rejects(store.get('alice'), code('not_found', /it has: work/));
  await store.delete('work');
  await assert.rejects(stat(credentials));
  await assert.rejects(store.get(), code('not_found', /none is set/));
});

test('a folder of certificates elsewhere is never removed', async () => {
  const store = newStore();
  const elsewhere = await mkdtemp(join(root, 'elsewhere-'));
  await store.set('alice', { ...alice, credentials: elsewhere });
  await store.delete('alice');
  assert.ok((await stat(elsewhere)).isDirectory());
});

test('a mistake in the file names its line and key', async () => {
  const cases: [string, RegExp][] = [
    ['kind: CollectiveConfig\ncontexst: []\n', /line 2: the key 'contexst' is not known/],
    ['contexts:\n  - name: a\n    member: a\n', /line 2: the key 'user' is missing/],
    ['contexts: 5\n', /line 1: 'contexts' must be a list/],
    ['users:\n  - name: a\n    credentials: 7\n', /line 3: 'credentials' must be a text/],
    ['members:\n  - name: a\n   coordinator: x\n', /line 3: /],
    ['users:\n  - {name: a, credentials: x}\n  - {name: a, credentials: y}\n', /line 3: 'a' is twice/],
    ['- a\n', /line 1: a list of keys/],
  ];
  for (const [text, message] of cases) {
    const store = newStore();
    await mkdir(join(store.location.file, '..'), { recursive: true });
    await writeFile(store.location.file, text);
    await assert.rejects(store.list(), code('config_invalid', message), text);
  }
});

test('a file of a newer version is refused and left alone', async () => {
  const store = newStore();
  await mkdir(join(store.location.file, '..'), { recursive: true });
  await writeFile(store.location.file, 'version: 2\n');
  await assert.rejects(store.set('alice', alice), code('version_too_new'));
  assert.equal(await readFile(store.location.file, 'utf8'), 'version: 2\n');
});

test('names that could leave the folder are refused', async () => {
  for (const name of ['', '../x', 'a/b', '.hidden', 'x'.repeat(101)])
    await assert.rejects(newStore().set(name, alice), code('invalid_argument'));
});

test('the place: COLLECTIVE_CONFIG, then an existing ~/.collective, then XDG', async () => {
  const home = await mkdtemp(join(root, 'home-'));
  const xdg = { HOME: home, XDG_CONFIG_HOME: join(home, 'xdg') };
  assert.equal(contextLocation({ ...xdg, COLLECTIVE_CONFIG: '/etc/c.yaml' }).file, '/etc/c.yaml');
  assert.equal(contextLocation(xdg).file, join(home, 'xdg', 'collective', 'config.yaml'));
  assert.equal(contextLocation({ HOME: home }).file, join(home, '.config', 'collective', 'config.yaml'));
  await mkdir(join(home, '.collective'));
  assert.equal(contextLocation(xdg).file, join(home, '.collective', 'config.yaml'));
});

test('a way to a member is kept word for word, until an address is named that can be dialled', async () => {
  const store = newStore();
  const via = { kind: 'kubernetes', settings: { context: 'lab', namespace: 'photos', member: 'alice' } };
  await store.set('alice', { ...alice, via, listener: 'internal' });
  assert.deepEqual((await store.get('alice')).via, via);
  await store.set('alice', { listener: 'external' });
  assert.deepEqual((await store.get('alice')).via, via, 'what is not named stays');
  await store.set('alice', { coordinator: 'alice.example:7420' });
  assert.equal((await store.get('alice')).via, undefined);
  const { file } = store.location;
  const written = await readFile(file, 'utf8');
  for (const wrong of ['via: lab', 'via: { a: { x: y }, b: { x: y } }', 'via: { a: { x: [] } }']) {
    await writeFile(file, written.replace('trust-domain: alice.home', `trust-domain: alice.home\n    ${wrong}`));
    await assert.rejects(store.get('alice'), code('config_invalid', /line \d+/), wrong);
  }
});
