import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backupFileName, backupsAmong, olderBackups } from './backup-names.ts';

test('a backup in a folder is named after its member and its time', () => {
  assert.equal(backupFileName('alice', Date.parse('2026-11-26T03:45:09Z') / 1000), 'alice-20261126T034509Z.backup');
});

test('the oldest backups of a member are too many, and nothing else is ever', () => {
  const names = [
    'alice-20261126T034500Z.backup',
    'alice-20261124T034500Z.backup',
    'alice-20261125T034500Z.backup',
    'alice-b-20200101T000000Z.backup',
    'bob-20200101T000000Z.backup',
    'alice-20200101T000000Z.backup.4711.partial',
    'alice-of-old.backup',
    'lost+found',
  ];
  assert.deepEqual(olderBackups(names, 'alice', 2), ['alice-20261124T034500Z.backup']);
  assert.deepEqual(olderBackups(names, 'alice', 3), []);
  assert.deepEqual(olderBackups(names, 'alice-b', 1), []);
});

test('backups of a folder are told newest first, of all members or of one', () => {
  const names = [
    'alice-20261124T034500Z.backup',
    'notes.txt',
    'alice-b-20261126T000000Z.backup',
    'alice-20261125T034500Z.backup',
  ];
  assert.deepEqual(
    backupsAmong(names).map(({ member, created }) => `${member} ${created}`),
    ['alice-b 2026-11-26T00:00:00Z', 'alice 2026-11-25T03:45:00Z', 'alice 2026-11-24T03:45:00Z'],
  );
  assert.deepEqual(
    backupsAmong(names, 'alice').map(({ name }) => name),
    ['alice-20261125T034500Z.backup', 'alice-20261124T034500Z.backup'],
  );
});
