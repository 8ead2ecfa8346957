import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backupFileName, olderBackups } from './backup-names.ts';

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
