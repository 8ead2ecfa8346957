import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { claimFolder, METADATA_FILE } from './member-folder.ts';

const claim = { folder: '/data', member: 'alice', collective: 'home' };
const refused = {
  code: 'store_damaged',
  message: /metadata of alice\.home is expected there, and the folder has none/,
};

test('K3: where metadata is expected an empty folder is refused, and nothing is written into it', async () => {
  const disk = new FakeDisk();
  await assert.rejects(claimFolder(disk, { ...claim, expectData: true }), refused);
  assert.deepEqual(await disk.list(''), []);
});

test('K3: a folder that was claimed and has lost its metadata is refused too', async () => {
  const disk = new FakeDisk();
  await claimFolder(disk, claim);
  await assert.rejects(claimFolder(disk, { ...claim, expectData: true }), refused);
  await (await disk.open(METADATA_FILE, 'create')).close();
  assert.equal((await claimFolder(disk, { ...claim, expectData: true })).member, 'alice');
});
