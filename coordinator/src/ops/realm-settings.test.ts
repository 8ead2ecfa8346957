import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SetRealmRequest } from '@collective/protocol/gen/admin';
import { code, commitOp, contentOf, ROOT } from '../session/scripted-operations.ts';
import { SessionWorld } from '../session/session-harness.ts';

const set = (world: SessionWorld, path: string, change: Partial<SetRealmRequest>) =>
  world.finish(world.core.setRealm(SetRealmRequest.fromPartial({ path, ...change })));

test('M9: settings of a realm change while it is in use, what is not named stays, and a restart knows them', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f', { content: contentOf([{ offset: 0, length: 100, chunk: 1 }]) });
  await set(world, '/', { quotaBytes: 150, replicas: 3, trashSeconds: 60 });
  const changed = await set(world, '/', { quotaInodes: 2 });
  assert.deepEqual(
    [changed.quotaBytes, changed.quotaInodes, changed.replicas, changed.minReplicas, changed.trashSeconds],
    [150, 2, 3, 1, 60],
  );
  const grow = commitOp(inode, [{ offset: 100, length: 100, chunk: 2 }]);
  await assert.rejects(client.call(grow, 'committed'), code('quota_exceeded'));
  await assert.rejects(client.make(ROOT, 'g'), code('quota_exceeded'));
  await set(world, '/', { quotaBytes: 0, quotaInodes: 0, trashSeconds: 0, compressionOff: true });
  await client.call(grow, 'committed');
  await world.restart('kill');
  const [realm] = await world.finish(world.core.listRealms());
  assert.deepEqual(
    [realm?.quotaBytes, realm?.replicas, realm?.trashSeconds, realm?.compression, realm?.usedBytes],
    [0, 3, 0, false, 200],
  );
});

test('M9: a quota below what is used takes nothing away, and holds what is new', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f', { content: contentOf([{ offset: 0, length: 100, chunk: 1 }]) });
  await set(world, '/', { quotaBytes: 50 });
  await assert.rejects(
    client.call(commitOp(inode, [{ offset: 100, length: 1, chunk: 2 }]), 'committed'),
    code('quota_exceeded'),
  );
  await client.call(commitOp(inode, [{ offset: 0, length: 100, chunk: 3 }]), 'committed');
  const { freeBytes, totalBytes } = await client.call(
    { $case: 'statFileSystem', value: { inode: ROOT } },
    'fileSystem',
  );
  assert.deepEqual([freeBytes, totalBytes], [0, 100]);
});

test('settings that cannot be are refused, and nothing of them is kept', async () => {
  await using world = await SessionWorld.start();
  await world.finish(world.client());
  const before = await world.finish(world.core.listRealms());
  for (const [path, change, expected] of [
    ['/none', { replicas: 2 }, 'not_found'],
    ['/', { replicas: 6 }, 'invalid_argument'],
    ['/', { minReplicas: 3 }, 'invalid_argument'],
    ['/', { replicas: 1, minReplicas: 2, quotaBytes: 7 }, 'invalid_argument'],
    ['/', { trashSeconds: 400_000_000 }, 'invalid_argument'],
  ] as const)
    await assert.rejects(set(world, path, change), code(expected), JSON.stringify(change));
  const client = await world.client();
  await client.mkdir(ROOT, 'd');
  await assert.rejects(set(world, '/d', { replicas: 2 }), code('not_found'));
  assert.deepEqual((await world.finish(world.core.listRealms()))[0]?.quotaBytes, before[0]?.quotaBytes);
});

test('M9: a session that is attached learns of changed and of new realms with its next renewal', async () => {
  await using world = await SessionWorld.start();
  await world.subject('root', { admin: true });
  const client = await world.client();
  await client.renew();
  assert.equal(client.realmsTold.length, 0);
  await set(world, '/', { replicas: 3, compressionOff: true });
  await world.finish(
    world.core.createRealm({
      path: '/new',
      quotaBytes: 0,
      quotaInodes: 0,
      replicas: 0,
      minReplicas: 0,
      compressionOff: false,
      trashSeconds: undefined,
      trashYields: false,
    }),
  );
  await client.renew();
  await world.clock.until(() => client.realmsTold.length > 0, { withinMs: 1_000 });
  assert.deepEqual(
    client.realmsTold.at(-1)?.map(({ path, replicas, compression }) => [path, replicas, compression]),
    [
      ['/', 3, false],
      ['/new', 2, true],
    ],
  );
  await client.renew();
  await world.clock.advance(100);
  assert.equal(client.realmsTold.length, 1);
});
