import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkId, InodeNumber, NodeName, RealmId, SessionId } from '@collective/base/ids';
import fc from 'fast-check';
import { bytesOf, type Table } from './table.ts';
import * as TABLES from './tables.ts';

const inode = 0x0102_0304_0506 as InodeNumber;
const realm = 0x11 as RealmId;
const session = 0x22 as SessionId;
const chunk = '00112233445566778899aabbccddeeff' as ChunkId;
const stamp = { seconds: 1_767_225_600, nanos: 999_999_999 };
const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');

interface Golden {
  readonly name: string;
  readonly table: Table<readonly never[], unknown>;
  readonly key: string;
  readonly value: unknown;
  readonly keyHex: string;
  readonly rowHex: string;
}

/** One row of each table, all fields set: the bytes of the first format, which every later program must read. */
function golden<Parts extends readonly unknown[], V>(
  table: Table<Parts, V>,
  parts: Parts,
  keyHex: string,
  value: NoInfer<V>,
  rowHex: string,
): Golden {
  return {
    name: table.name,
    table: table as unknown as Golden['table'],
    key: table.key(...parts),
    value,
    keyHex,
    rowHex,
  };
}

const {
  ANSWERS,
  BLOCKS,
  CHUNKS,
  CLOSED_DISKS,
  COOKIES,
  DENTRIES,
  DOOMED,
  EPOCHS,
  EVENTS,
  GARBAGE,
  INODES,
  JOB_LINKS,
  JOB_VISITS,
  JOBS,
  LOCKS,
  LOSSES,
  MAINTENANCE,
  MEMBER,
  NODES,
  ORPHAN_CHUNKS,
  ORPHANS,
  RANGES,
  REALMS,
  REPAIR_ORDER,
  REQUESTS,
  SESSIONS,
  SUBJECTS,
  TOKENS,
  TRASH,
  TRASH_NAMES,
  UNDER_REPLICATED,
  UNFIRM,
  UNSTABLE,
  USAGE,
  XATTRS,
} = TABLES;

const INODE = {
  realm: 1,
  type: 2,
  mode: 0o755,
  uid: 1000,
  gid: 1001,
  links: 3,
  size: 2 ** 40 + 1,
  storedBytes: 4096,
  mtime: stamp,
  ctime: stamp,
  birth: stamp,
  rdev: 5,
  version: 6,
  entries: 7,
  nextCookie: 8,
  parent: 9,
  linkTarget: bytes('2e2e'),
  xattrs: 10,
  data: 11,
  name: bytes('6e'),
  trashed: 12,
  walked: 13,
};
const SUBJECT = {
  uri: 'spiffe://alice.home/user/ann',
  admin: true,
  trusted: true,
  uid: 1000,
  gid: 1001,
  realms: [
    { realm: 1, readOnly: true },
    { realm: 2, readOnly: false },
  ],
  created: stamp,
};

const GOLDENS: readonly Golden[] = [
  golden(
    INODES,
    [inode],
    '49010203040506',
    INODE,
    '0801100218ed0320e80728e9073003388180808080204080204a0c0880f2d6ca0610ff93ebdc03520c0880f2d6ca0610ff93ebdc035a0c0880f2d6ca0610ff93ebdc0360056806700778088001098a01022e2e90010a98010ba201016ea8010cb0010d',
  ),
  golden(DENTRIES, [inode, 'n\xff'], '440102030405066eff', { inode: 5, type: 1, cookie: 9 }, '080510011809'),
  golden(
    COOKIES,
    [inode, 2 ** 40 + 2],
    '4b0102030405060000010000000002',
    { name: bytes('6eff'), inode: 5, type: 1 },
    '0a026eff10051801',
  ),
  golden(XATTRS, [inode, 'user.ü'], '58010203040506757365722ec3bc', { value: bytes('00ff') }, '0a0200ff'),
  golden(ORPHANS, [inode], '4f010203040506', { holders: [1, 300] }, '0a0301ac02'),
  golden(
    LOCKS,
    [inode],
    '4c010203040506',
    { locks: [{ session: 1, family: 2, type: 1, owner: 4, start: 5, end: 6, pid: 7, fence: 8 }] },
    '0a1008011002180120042805300638074008',
  ),
  golden(
    BLOCKS,
    [7, 0xffff_ffff],
    '42000000000007ffffffff',
    { version: 3, slices: [{ offset: 1, length: 2, chunk: bytes(chunk), chunkOffset: 4 }] },
    '08031218080110021a1000112233445566778899aabbccddeeff2004',
  ),
  golden(
    DOOMED,
    [7],
    '46000000000007',
    { since: stamp, inode: 5, size: 6, realm: 7 },
    '0a0c0880f2d6ca0610ff93ebdc03100518062007',
  ),
  golden(
    CHUNKS,
    [chunk],
    '4300112233445566778899aabbccddeeff',
    {
      length: 1,
      storedLength: 2,
      digest: bytes('aa'),
      replicas: [{ node: 'n1', disk: 'd1', stable: true, incarnation: 3, sequence: 4, damaged: true }],
      wanted: 2,
      references: 1,
      inode: 5,
      block: 6,
      realm: 7,
    },
    '080110021a01aa22100a026e3112026431180120032804300128023001380540064807',
  ),
  golden(
    GARBAGE,
    [chunk],
    '4700112233445566778899aabbccddeeff',
    { since: stamp, condemned: true, storedBytes: 300, gone: true },
    '0a0c0880f2d6ca0610ff93ebdc03100118ac022001',
  ),
  golden(
    ORPHAN_CHUNKS,
    ['n1' as NodeName, 'd1', chunk],
    '6f6e310064310000112233445566778899aabbccddeeff',
    { since: stamp, leaving: true, forgotten: stamp },
    '0a0c0880f2d6ca0610ff93ebdc0310011a0c0880f2d6ca0610ff93ebdc03',
  ),
  golden(
    UNDER_REPLICATED,
    [chunk],
    '5500112233445566778899aabbccddeeff',
    { since: stamp, sound: 1, bytes: 300 },
    '0a0c0880f2d6ca0610ff93ebdc03180120ac02',
  ),
  golden(
    REPAIR_ORDER,
    [1, chunk],
    '590100112233445566778899aabbccddeeff',
    { since: stamp, sound: 1, bytes: 300 },
    '0a0c0880f2d6ca0610ff93ebdc03180120ac02',
  ),
  golden(
    UNSTABLE,
    ['n1' as NodeName, 'd1', 3, 4, chunk],
    '576e310064310000000003000000000000000400112233445566778899aabbccddeeff',
    { value: bytes(chunk) },
    '0a1000112233445566778899aabbccddeeff',
  ),
  golden(UNFIRM, [inode, chunk], '4801020304050600112233445566778899aabbccddeeff', { version: 300 }, '08ac02'),
  golden(
    REALMS,
    [realm],
    '52000000000011',
    {
      root: 1,
      path: '/a',
      quotaBytes: 2,
      quotaInodes: 3,
      replicas: 2,
      minReplicas: 1,
      compressionOff: true,
      trashSeconds: -1,
      trashYields: true,
      move: { inner: 2, outer: 1, border: 5, to: 2, pass: 6, job: 7 },
      rightsOf: 1,
      mergedInto: 3,
    },
    '080112022f611802200328023001380140ffffffffffffffffff014801520c08021001180520022806300758016003',
  ),
  golden(
    USAGE,
    [realm],
    '51000000000011',
    { bytes: -1, inodes: 2, directories: 3, trashBytes: 4, trashInodes: 5 },
    '08ffffffffffffffffff011002180320042805',
  ),
  golden(
    TRASH,
    [realm, 9],
    '74000000000011000000000009',
    { inode: 5, type: 1, parent: 6, name: bytes('6eff'), deleted: stamp, subject: 's', uid: 7, size: 8 },
    '08051001180622026eff2a0c0880f2d6ca0610ff93ebdc0332017338074008',
  ),
  golden(
    TRASH_NAMES,
    [inode, 'n\xff', 9],
    '680102030405066eff00fffffffffff6',
    { realm: 1, inode: 5, type: 1 },
    '080110051801',
  ),
  golden(
    JOBS,
    [7],
    '4a000000000007',
    {
      kind: 'make-realm',
      state: 2,
      path: '/a',
      subject: 's',
      began: stamp,
      ended: stamp,
      inner: 2,
      outer: 1,
      border: 5,
      passes: 3,
      moved: 4,
      movedInPass: 5,
      failure: 'f',
    },
    '0a0a6d616b652d7265616c6d10021a022f612201732a0c0880f2d6ca0610ff93ebdc03320c0880f2d6ca0610ff93ebdc03380240014805500358046005' +
      '6a0166',
  ),
  golden(
    JOB_VISITS,
    [7, inode],
    '6a000000000007010203040506',
    { phase: 1, afterCookie: 2, afterKey: bytes('6eff'), block: 3 },
    '080110021a026eff2003',
  ),
  golden(
    JOB_LINKS,
    [7, inode],
    '6b000000000007010203040506',
    { names: 2, inside: true, parent: 5, name: bytes('6eff') },
    '08021001180522026eff',
  ),
  golden(
    SUBJECTS,
    ['spiffe://alice.home/user/ann'],
    '507370696666653a2f2f616c6963652e686f6d652f757365722f616e6e',
    SUBJECT,
    '0a1c7370696666653a2f2f616c6963652e686f6d652f757365722f616e6e1001180120e80728e907320408011001320208023a0c0880f2d6ca0610ff93ebdc03',
  ),
  golden(
    TOKENS,
    ['ab'.repeat(32)],
    '5461626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162',
    { uri: 'u', expires: stamp, used: true, subject: SUBJECT, usedBy: bytes('ff00') },
    '0a0175120c0880f2d6ca0610ff93ebdc03180122400a1c7370696666653a2f2f616c6963652e686f6d652f757365722f616e6e1001180120e80728e907320408011001320208023a0c0880f2d6ca0610ff93ebdc032a02ff00',
  ),
  golden(
    REQUESTS,
    ['cd'.repeat(32)],
    '7163646364636463646364636463646364636463646364636463646364636463646364636463646364636463646364636463646364636463646364636463646364',
    { uri: 'u', csr: bytes('3000'), kept: stamp, expires: stamp, certificatePem: 'c', refused: 'r' },
    '0a0175120230001a0c0880f2d6ca0610ff93ebdc03220c0880f2d6ca0610ff93ebdc032a0163320172',
  ),
  golden(
    SESSIONS,
    [session],
    '53000000000022',
    {
      clientId: bytes('0102'),
      subject: 's',
      incarnation: 3,
      renewed: stamp,
      caches: true,
      program: 'p',
      chunkIds: [{ first: bytes(chunk), last: bytes('ff'.repeat(16)) }],
    },
    '0a0201021201731803220c0880f2d6ca0610ff93ebdc0328013201703a240a1000112233445566778899aabbccddeeff1210ffffffffffffffffffffffffffffffff',
  ),
  golden(
    ANSWERS,
    [session, 2 ** 32 + 1, 3],
    '41000000000022000000010000000100000003',
    { reply: bytes('0a0b') },
    '0a020a0b',
  ),
  golden(
    CLOSED_DISKS,
    ['disk-1'],
    '646469736b2d31',
    { node: 'n1', since: stamp },
    '0a026e31120c0880f2d6ca0610ff93ebdc03',
  ),
  golden(
    NODES,
    ['n1' as NodeName],
    '4e6e31',
    {
      disk: 'd',
      capacityBytes: 1e12,
      zone: 'z',
      incarnation: 2,
      stableSequence: 3,
      lastHeartbeat: stamp,
      version: '0.1.0',
      addresses: [{ listener: 'internal', host: '10.0.0.1', port: 8002 }],
      lostDisks: ['e', 'f'],
      duty: 2,
    },
    '0a01641080a094a58d1d1a017a20022803320c0880f2d6ca0610ff93ebdc033a05302e312e3042170a08696e7465726e616c120831302e302e302e3118c23e4a01654a01665002',
  ),
  golden(
    EPOCHS,
    [1_767_225_600, 2],
    '456955b90000000002',
    { generation: 1_767_225_600, start: 2, started: stamp, recovered: 77 },
    '0880f2d6ca0610021a0c0880f2d6ca0610ff93ebdc03204d',
  ),
  golden(RANGES, ['inode'], '5a696e6f6465', { reservedTo: 66_560 }, '08808804'),
  golden(
    MAINTENANCE,
    [],
    '6d',
    {
      repairAfterSeconds: 600,
      repairBytesPerSecond: 1,
      scrubPeriodSeconds: -1,
      garbageGraceSeconds: 2,
      garbageWaits: true,
      rebalancePercent: 10,
      rebalanceHours: '01-05',
    },
    '08d804100118ffffffffffffffffff0120022801300a3a0530312d3035',
  ),
  golden(
    MEMBER,
    [],
    '4d',
    { member: 'alice', collective: 'home', uuid: bytes('01'), created: stamp },
    '0a05616c6963651204686f6d651a0101220c0880f2d6ca0610ff93ebdc03',
  ),
  golden(LOSSES, [], '6c', { blocks: 3, last: stamp }, '0803120c0880f2d6ca0610ff93ebdc03'),
  golden(
    EVENTS,
    [9],
    '560000000000000009',
    { time: stamp, kind: 'k', message: 'm', details: { node: 'n1' } },
    '0a0c0880f2d6ca0610ff93ebdc0312016b1a016d220a0a046e6f646512026e31',
  ),
];

test('every table has a golden row, and a letter of its own', () => {
  const tables = Object.values(TABLES).filter((value) => typeof value === 'object');
  assert.deepEqual(GOLDENS.map(({ name }) => name).sort(), tables.map(({ name }) => name).sort());
  assert.equal(new Set(tables.map(({ prefix }) => prefix)).size, tables.length);
  for (const { prefix } of tables) assert.match(prefix, /^[A-Za-z]$/);
});

for (const { name, table, key, value, keyHex, rowHex } of GOLDENS) {
  test(`a row of the table ${name} has the bytes of format 1`, () => {
    assert.equal(bytesOf(key).toString('hex'), keyHex);
    assert.equal(Buffer.from(table.encode(value)).toString('hex'), rowHex);
    assert.deepEqual(plain(table.decode(bytes(rowHex))), plain(value));
  });

  test(`a row of the table ${name} that is cut at any byte is damage or another row, never the same`, () => {
    const whole = bytes(rowHex);
    for (let length = 0; length < whole.length; length++) {
      const read = readOrDamaged(table, whole.subarray(0, length));
      if (read !== 'damaged') assert.notDeepEqual(plain(read), plain(value), `cut to ${length} bytes`);
    }
  });
}

test('random bytes and flipped bits are read as a row or told as damage, nothing else', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...GOLDENS),
      fc.uint8Array({ maxLength: 60 }),
      fc.nat(),
      ({ table, rowHex }, random, bit) => {
        readOrDamaged(table, random);
        const flipped = bytes(rowHex);
        const at = (bit >> 3) % flipped.length;
        flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7));
        readOrDamaged(table, flipped);
      },
    ),
    { numRuns: 2_000 },
  );
});

test('the name of an entry is read from its key', () => {
  const name = TABLES.nameKey(Buffer.from('grün', 'utf8'));
  assert.equal(TABLES.nameBytes(TABLES.dentryName(DENTRIES.key(inode, name))).toString('utf8'), 'grün');
});

function readOrDamaged(table: Golden['table'], row: Uint8Array): unknown {
  try {
    return table.decode(row);
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'store_damaged', String(error));
    return 'damaged';
  }
}

/** Without classes of byte arrays and of objects, which do not matter. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, part) => (part?.type === 'Buffer' ? Buffer.from(part.data).toString('hex') : part)),
  );
}
