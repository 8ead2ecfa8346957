import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CliWorld, freePortBase, type UpProcess } from './cli-world.ts';

let world: CliWorld;
let up: UpProcess;

interface RealmObject {
  readonly path: string;
  readonly quotaBytes: number;
  readonly quotaInodes: number;
  readonly usedBytes: number;
  readonly usedInodes: number;
  readonly replicas: number;
  readonly minReplicas: number;
  readonly compression: boolean;
  readonly trashSeconds: number;
  readonly trashYields: boolean;
}

before(async () => {
  world = await CliWorld.create();
  up = await world.up(['--member', 'alice', '--port-base', String(await freePortBase())]);
});

after(async () => {
  await up.stop();
  await world[Symbol.asyncDispose]();
});

async function realm(path: string): Promise<RealmObject> {
  const realms = JSON.parse(await world.ok(['realm', 'list', '-o', 'json'])) as RealmObject[];
  const found = realms.find((each) => each.path === path);
  assert.ok(found, `there is a realm ${path}`);
  return found;
}

test('M9: a realm is made with settings, and they are changed while it is in use', async () => {
  await world.ok(['realm', 'create', '/r', '--quota', '1MiB', '--inodes', '3', '--replicas', '1', '--trash', 'off']);
  await world.ok(['write', '/r/a'], { stdin: 'a' });
  await world.ok(['write', '/r/b'], { stdin: 'b' });
  await world.fails(6, /quota/, ['write', '/r/c'], { stdin: 'c' });
  const set = ['realm', 'set', '/r', '--inodes', 'none', '--quota', '2MiB', '--trash', '3d', '--trash-yields'];
  assert.match(await world.ok([...set, '--no-compression', '--replicas', '2']), /Replicas: +2 \(at least 1\)/);
  await world.ok(['write', '/r/c'], { stdin: 'c' });
  const changed = await realm('/r');
  assert.deepEqual(
    {
      quotaBytes: changed.quotaBytes,
      quotaInodes: changed.quotaInodes,
      replicas: changed.replicas,
      compression: changed.compression,
      trashSeconds: changed.trashSeconds,
      trashYields: changed.trashYields,
    },
    {
      quotaBytes: 2 * 1024 * 1024,
      quotaInodes: 0,
      replicas: 2,
      compression: false,
      trashSeconds: 3 * 86_400,
      trashYields: true,
    },
  );
  // What is not named stays.
  await world.ok(['realm', 'set', '/r', '--compression', '--no-trash-yields']);
  const again = await realm('/r');
  assert.deepEqual([again.compression, again.trashYields, again.trashSeconds], [true, false, 3 * 86_400]);
  await world.fails(2, /name what to change/, ['realm', 'set', '/r']);
  await world.fails(3, /no realm begins there; .*realm list.*realm create/, [
    'realm',
    'set',
    '/nowhere',
    '--quota',
    '1GB',
  ]);
  await world.fails(2, /of which it needs 3/, ['realm', 'set', '/r', '--min-replicas', '3']);
  assert.match(await world.ok(['realm', 'set', '--help']), /--no-trash-yields/);
  assert.match(await world.ok(['events', '--kind', 'realm-changed']), /settings of realm \/r were changed/);
});

test('M9: a directory with files in it becomes a realm and is dissolved again, and the command waits for it', async () => {
  for (const name of ['a', 'b', 'deep/c', 'deep/er/d']) {
    await world.ok(['mkdir', '-p', `/full/${name.split('/').slice(0, -1).join('/')}`]);
    await world.ok(['write', `/full/${name}`], { stdin: name });
  }
  const made = JSON.parse(await world.ok(['realm', 'create', '/full', '--quota', '1GB', '-o', 'json']));
  assert.deepEqual(
    [made.path, made.state, made.job, made.usedInodes, made.quotaBytes, made.sharesRights],
    ['/full', 'ready', 0, 7, 1e9, true],
  );
  await world.fails(1, /EXDEV|another realm/, ['mv', '/full/a', '/a']);
  const own = JSON.parse(await world.ok(['realm', 'set', '/full', '--rights', 'own', '-o', 'json']));
  assert.equal(own.sharesRights, false);
  await world.fails(2, /'around' and 'own' are possible/, ['realm', 'set', '/full', '--rights', 'mine']);

  const dissolved = JSON.parse(await world.ok(['realm', 'delete', '/full', '-o', 'json']));
  assert.deepEqual([dissolved.kind, dissolved.state, dissolved.path], ['dissolve-realm', 'done', '/full']);
  assert.equal(await world.ok(['cat', '/full/deep/er/d']), 'deep/er/d');
  await world.ok(['mv', '/full/a', '/a']);
  await world.fails(3, /no realm begins there/, ['realm', 'delete', '/full']);
  const jobs = JSON.parse(await world.ok(['realm', 'jobs', '-o', 'json'])) as { kind: string; state: string }[];
  assert.deepEqual(
    jobs.map(({ kind, state }) => `${kind} ${state}`),
    ['make-realm done', 'dissolve-realm done'],
  );
});

test('M9: a file with a name outside keeps a directory from becoming a realm, and is named', async () => {
  await world.ok(['mkdir', '/half']);
  await world.ok(['write', '/half/in'], { stdin: 'both' });
  await world.ok(['ln', '/half/in', '/out']);
  const failed = await world.run(['realm', 'create', '/half']);
  assert.match(failed.err, /\/half\/in .*has 2 names, and 1 of them outside/);
  assert.equal(failed.exit, 1, failed.err);
  assert.match(await world.ok(['realm', 'jobs', '-o', 'wide']), /make-realm +\/half +failed .*1 of them outside/);
  await world.ok(['rm', '--permanent', '/out']);
  const begun = JSON.parse(await world.ok(['realm', 'create', '/half', '--no-wait', '-o', 'json']));
  assert.ok(begun.job > 0 || begun.state === 'ready');
  assert.equal(await world.ok(['cat', '/half/in']), 'both');
});
