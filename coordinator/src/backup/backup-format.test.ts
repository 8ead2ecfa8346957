import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from '@collective/base/crc';
import type { LogPosition } from '@collective/base/ids';
import fc from 'fast-check';
import { BackupDecoder, BackupEncoder, type BackupFacts, type BackupPart } from './backup-format.ts';

const FACTS: BackupFacts = {
  member: 'alice',
  collective: 'home',
  version: '0.1.0',
  created: '2026-01-02T03:04:05.000Z',
  epoch: { generation: 7, start: 2 },
  position: 99 as LogPosition,
};
const ROWS = [
  { key: 'I\x00\xff', value: Buffer.from('inode') },
  { key: 'Q', value: Buffer.alloc(0) },
];

function whole(): Buffer {
  const encoder = new BackupEncoder();
  return Buffer.concat([
    encoder.facts(FACTS),
    encoder.rows(ROWS),
    encoder.file('ca/ca.key', Buffer.from('key')),
    encoder.end(),
  ]);
}

/** In pieces of a size; what it threw as its code. */
function decode(bytes: Buffer, pieceBytes = bytes.length || 1): { parts: BackupPart[]; code: string } {
  const parts: BackupPart[] = [];
  const decoder = new BackupDecoder();
  try {
    for (let at = 0; at < bytes.length; at += pieceBytes)
      for (const part of decoder.push(bytes.subarray(at, at + pieceBytes))) parts.push(part);
    decoder.finish();
    return { parts, code: 'ok' };
  } catch (error) {
    return { parts, code: (error as { code?: string }).code ?? String(error) };
  }
}

const plain = (part: BackupPart | undefined): unknown =>
  JSON.parse(
    JSON.stringify(part, (_, value) => (value?.type === 'Buffer' ? Buffer.from(value.data).toString('hex') : value)),
  );

test('a backup has the bytes of format 1', () => {
  const encoder = new BackupEncoder();
  assert.equal(
    encoder.rows([{ key: 'k', value: Buffer.from('v') }]).toString('hex'),
    '43425031020000000a000000aba009ab01000000010000006b76',
  );
  assert.equal(encoder.end().toString('hex'), '4342503109000000100000001d7effa601000000000000000100000051dd90f2');
});

test('what is written is read back, in pieces of any size', () => {
  for (const pieceBytes of [1, 3, 16, 17, 1_000]) {
    const { parts, code } = decode(whole(), pieceBytes);
    assert.equal(code, 'ok');
    assert.deepEqual(parts.map(plain), [
      { kind: 'facts', facts: FACTS },
      {
        kind: 'rows',
        rows: [
          { key: 'I\x00\xff', value: '696e6f6465' },
          { key: 'Q', value: '' },
        ],
      },
      { kind: 'file', name: 'ca/ca.key', content: '6b6579' },
      { kind: 'end' },
    ]);
  }
});

test('every truncation is told, also one between two parts', () => {
  const bytes = whole();
  for (let length = 0; length < bytes.length; length++)
    assert.equal(decode(bytes.subarray(0, length)).code, 'backup_damaged', `cut to ${length}`);
});

test('every flipped bit is told, and no part that was changed is given', () => {
  const bytes = whole();
  const good = decode(bytes).parts.map((part) => JSON.stringify(plain(part)));
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const { parts, code } = decode(changed);
    assert.equal(code, 'backup_damaged', `bit ${bit}`);
    for (const [i, part] of parts.entries()) assert.equal(JSON.stringify(plain(part)), good[i]);
  }
});

test('a part that is missing, doubled or behind the end is told', () => {
  const encoder = new BackupEncoder();
  const [facts, first, second, end] = [
    encoder.facts(FACTS),
    encoder.rows(ROWS),
    encoder.rows([{ key: 'x', value: Buffer.from('y') }]),
    encoder.end(),
  ];
  const of = (...parts: Buffer[]): string => decode(Buffer.concat(parts)).code;
  assert.equal(of(facts, first, second, end), 'ok');
  assert.equal(of(facts, first, end), 'backup_damaged');
  assert.equal(of(facts, first, first, second, end), 'backup_damaged');
  assert.equal(of(facts, second, first, end), 'backup_damaged');
  assert.equal(of(first, second, end), 'backup_damaged');
  assert.equal(of(facts, first, second, end, Buffer.from('more')), 'backup_damaged');
});

test('a newer format and a newer kind of part are told as such', () => {
  const newer = new BackupEncoder().facts({ ...FACTS, format: 2 } as BackupFacts);
  assert.equal(decode(newer).code, 'version_too_new');
  const encoder = new BackupEncoder();
  const unknown = encoder.rows(ROWS);
  unknown.writeUInt32LE(44, 4);
  unknown.writeUInt32LE(crc32(unknown.subarray(16), crc32(unknown.subarray(4, 12))), 12);
  assert.equal(decode(Buffer.concat([new BackupEncoder().facts(FACTS), unknown])).code, 'version_too_new');
});

test('random bytes are never taken for a backup', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), (random, at) => {
      assert.equal(decode(Buffer.from(random)).code, 'backup_damaged');
      const spoiled = Buffer.concat([whole().subarray(0, at), Buffer.from(random)]);
      assert.notEqual(decode(spoiled).code, 'ok');
    }),
    { numRuns: 500 },
  );
});
