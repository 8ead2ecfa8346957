import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InodeNumber, RealmId } from '@collective/base/ids';
import type { InodeRow, RealmRow, UsageRow } from '@collective/coordinator/tables/gen/tables';
import { type RealmRows, wrongRealms } from './realm-rows.ts';

const [ROOT, FOLDER, FILE] = [1, 2, 3] as InodeNumber[] as [InodeNumber, InodeNumber, InodeNumber];
const [OUTER, INNER] = [1, 2] as RealmId[] as [RealmId, RealmId];

function realm(root: InodeNumber, path: string, bytes: number, inodes: number, more: Partial<RealmRow> = {}) {
  const usage: UsageRow = { bytes, inodes, directories: 1, trashBytes: 0, trashInodes: 0 };
  return { row: { root, path, mergedInto: 0, move: undefined, ...more } as RealmRow, usage };
}

function inode(of: RealmId, storedBytes = 0): InodeRow {
  return { realm: of as number, storedBytes } as unknown as InodeRow;
}

/** A file in a folder that is a realm. */
function rows(change: Partial<RealmRows> = {}): RealmRows {
  return {
    realms: new Map([
      [OUTER, realm(ROOT, '/', 0, 1)],
      [INNER, realm(FOLDER, '/folder', 100, 2)],
    ]),
    inodes: new Map([
      [ROOT, inode(OUTER)],
      [FOLDER, inode(INNER)],
      [FILE, inode(INNER, 100)],
    ]),
    names: [
      { parent: ROOT, inode: FOLDER },
      { parent: FOLDER, inode: FILE },
    ],
    ...change,
  };
}

test('M9: realms whose sums and places agree have nothing wrong', () => {
  assert.deepEqual(wrongRealms(rows()), []);
});

test('M9: sums of a realm that differ from what lies in it are told', () => {
  const realms = new Map([
    [OUTER, realm(ROOT, '/', 0, 2)],
    [INNER, realm(FOLDER, '/folder', 99, 2)],
  ]);
  assert.deepEqual(wrongRealms(rows({ realms })), [
    'there are 1 inodes in realm /, 2 are counted',
    'files in realm /folder use 100 bytes, 99 are counted',
  ]);
});

test('M9: a file that lies in another realm than its directory is told, and so is the root of a realm that is gone', () => {
  const outside = new Map([...rows().inodes, [FILE, inode(OUTER, 100)] as const]);
  const realms = new Map([
    [OUTER, realm(ROOT, '/', 100, 2)],
    [INNER, realm(FOLDER, '/folder', 0, 1)],
  ]);
  assert.deepEqual(wrongRealms(rows({ inodes: outside, realms })), [
    'inode 3 lies in realm 1, its directory 2 in realm 2',
  ]);
  const gone = new Map([...rows().realms, [INNER, realm(FOLDER, '/folder', 100, 2, { mergedInto: OUTER })] as const]);
  assert.deepEqual(wrongRealms(rows({ realms: gone })), [
    '2 inodes lie in realm /folder, which is gone',
    'inode 2 lies in realm 2, its directory 1 in realm 1',
  ]);
});

test('M9: a job that is at work on a border is told', () => {
  const move = { inner: INNER, outer: OUTER, border: FOLDER, to: INNER, pass: 1, job: 1 };
  const realms = new Map([...rows().realms, [INNER, realm(FOLDER, '/folder', 100, 2, { move })] as const]);
  assert.deepEqual(wrongRealms(rows({ realms })), ['a job is at work in realm /folder']);
});
