import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32, deflateRawSync } from 'node:zlib';
import { moduleHash, readZip } from './module-zip.ts';

/** As others write it: one packed file, one stored, the directory, its end with a comment. */
function zipOf(files: readonly { name: string; bytes: Buffer; method: 0 | 8 }[]): Buffer {
  const locals: Buffer[] = [];
  const entries: Buffer[] = [];
  let offset = 0;
  for (const { name, bytes, method } of files) {
    const packed = method === 8 ? deflateRawSync(bytes) : bytes;
    const described = Buffer.alloc(26); // from "version needed" to "extra length", the same in both headers
    described.writeUInt16LE(20, 0);
    described.writeUInt16LE(method, 4);
    described.writeUInt32LE(crc32(bytes), 10);
    described.writeUInt32LE(packed.length, 14);
    described.writeUInt32LE(bytes.length, 18);
    described.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from('504b0304', 'hex'), described, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14); // comment length, disk, attributes, offset of the local header
    tail.writeUInt32LE(offset, 10);
    entries.push(Buffer.concat([Buffer.from('504b01021400', 'hex'), described, tail, Buffer.from(name)]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(entries);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(2, 20);
  return Buffer.concat([...locals, directory, end, Buffer.from('ok')]);
}

const FILES = [
  { name: 'm@v1/go.mod', bytes: Buffer.from('module m\n'), method: 0 },
  { name: 'm@v1/LICENSE', bytes: Buffer.from('free '.repeat(500)), method: 8 },
  { name: 'm@v1/empty', bytes: Buffer.alloc(0), method: 8 },
] as const;

test('a zip gives its files back, packed and stored', () => {
  const files = readZip(zipOf(FILES));
  assert.deepEqual(
    files.map(({ name, bytes }) => [name, bytes.toString()]),
    FILES.map(({ name, bytes }) => [name, bytes.toString()]),
  );
});

test('the hash is that of go.sum, in whatever order the files come', () => {
  // sha256 of "<sha256>  m@v1/LICENSE\n<sha256>  m@v1/empty\n<sha256>  m@v1/go.mod\n", counted with sha256sum.
  const expected = 'h1:tk+Zs6FhMgX64aliA1FgY0R8aVfbO3fd6x9fyAIAqsY=';
  assert.equal(moduleHash(FILES), expected);
  assert.equal(moduleHash([...FILES].reverse()), expected);
});

test('a zip that would write outside its folder, that is cut or packed otherwise is refused', () => {
  const bytes = Buffer.from('x');
  for (const name of ['../x', '/x', 'a/../../x']) {
    assert.throws(() => readZip(zipOf([{ name, bytes, method: 0 }])), /leads out of its folder/);
  }
  const whole = zipOf(FILES);
  assert.throws(() => readZip(whole.subarray(0, whole.length - 30)), /this is no zip/);
  assert.throws(() => readZip(Buffer.from('<html>')), /this is no zip/);
  const otherMethod = Buffer.from(whole);
  otherMethod.writeUInt16LE(12, whole.indexOf(Buffer.from('504b0102', 'hex')) + 10);
  assert.throws(() => readZip(otherMethod), /packed by method 12/);
});
