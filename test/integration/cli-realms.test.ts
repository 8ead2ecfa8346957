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
  await world.fails(3, /no realm begins there/, ['realm', 'set', '/nowhere', '--quota', '1GB']);
  await world.fails(2, /of which it needs 3/, ['realm', 'set', '/r', '--min-replicas', '3']);
  assert.match(await world.ok(['realm', 'set', '--help']), /--no-trash-yields/);
  assert.match(await world.ok(['events', '--kind', 'realm-changed']), /settings of realm \/r were changed/);
});
