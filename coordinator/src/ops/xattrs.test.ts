import assert from 'node:assert/strict';
import { test } from 'node:test';
import { code, ROOT } from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld } from '../session/session-harness.ts';
import { members, symlink } from './three-users.ts';

test('extended attributes: modes, limits, namespaces', async () => {
  await using parts = await members();
  const { root, bob, eve } = parts;
  const { inode } = await bob.make(ROOT, 'f', { mode: 0o644 });
  const set = (client: ScriptedClient, name: string, value: string | Buffer, mode = 0) =>
    client.call(
      { $case: 'setXattr', value: { inode, name, value: Buffer.from(value), mode: mode as never } },
      'attributes',
    );
  const get = async (client: ScriptedClient, name: string) =>
    (await client.call({ $case: 'getXattr', value: { inode, name } }, 'xattrValue')).value.toString();
  const list = async (client: ScriptedClient) =>
    (await client.call({ $case: 'listXattrs', value: { inode } }, 'xattrNames')).names;
  const remove = (client: ScriptedClient, name: string) =>
    client.call({ $case: 'removeXattr', value: { inode, name } }, 'attributes');
  await set(bob, 'user.a', '1', 1);
  await assert.rejects(set(bob, 'user.a', '2', 1), code('exists'));
  await set(bob, 'user.a', '2', 2);
  await assert.rejects(set(bob, 'user.b', '2', 2), code('no_attribute'));
  await assert.rejects(set(bob, 'user.b', '2', 7), code('invalid_argument'));
  assert.equal(await get(eve, 'user.a'), '2');
  await assert.rejects(set(eve, 'user.a', '3'), code('permission_denied'));
  await assert.rejects(set(bob, 'trusted.a', '1'), code('not_permitted'));
  await set(root, 'trusted.a', '1');
  await set(bob, 'security.a', '1');
  await assert.rejects(set(eve, 'security.a', '1'), code('not_permitted'));
  assert.deepEqual(await list(root), ['security.a', 'trusted.a', 'user.a']);
  assert.deepEqual(await list(eve), ['security.a', 'user.a']);
  await assert.rejects(set(bob, 'a', '1'), code('unsupported'));
  await assert.rejects(set(bob, 'user.', '1'), code('unsupported'));
  await assert.rejects(set(bob, '', '1'), code('range'));
  await assert.rejects(set(bob, `user.${'x'.repeat(251)}`, '1'), code('range'));
  await set(bob, `user.${'x'.repeat(250)}`, '1');
  await set(bob, 'user.big', Buffer.alloc(65_536));
  await assert.rejects(set(bob, 'user.big', Buffer.alloc(65_537)), code('range'));
  await assert.rejects(get(bob, 'user.none'), code('no_attribute'));
  await assert.rejects(remove(bob, 'user.none'), code('no_attribute'));
  await remove(bob, 'user.a');
  assert.ok(!(await list(bob)).includes('user.a'));
  const arrow = await symlink(bob, ROOT, 'l', 'f');
  await assert.rejects(
    bob.call(
      { $case: 'setXattr', value: { inode: arrow.inode, name: 'user.a', value: Buffer.from('1'), mode: 0 } },
      'attributes',
    ),
    code('not_permitted'),
  );
});

test('the names of all extended attributes of a file are bounded', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f');
  const set = (i: number) =>
    client.call(
      {
        $case: 'setXattr',
        value: { inode, name: `user.${String(i).padStart(240, '0')}`, value: Buffer.from('1'), mode: 0 },
      },
      'attributes',
    );
  let refused = -1;
  for (let i = 0; i < 300 && refused < 0; i++)
    await set(i).catch((error: unknown) => {
      code('no_space')(error);
      refused = i;
    });
  assert.ok(refused > 200 && refused < 280, `${refused}`);
  await client.unlink(ROOT, 'f');
  await assert.rejects(client.stat(inode), code('stale'));
});
