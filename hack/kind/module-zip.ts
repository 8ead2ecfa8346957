// Reads the zip of a Go module and makes the hash that stands in a go.sum. Such a zip is plain (no encryption, no zip64, no
// folders of its own), and it is believed only when its hash is the expected one, so what is odd in it is simply refused.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { inflateRawSync } from 'node:zlib';

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_HEADER = 0x04034b50;
const END_BYTES = 22;
const COMMENT_BYTES_MAX = 65_535;

export interface ZippedFile {
  readonly name: string;
  readonly bytes: Buffer;
}

export function readZip(zip: Buffer): ZippedFile[] {
  const end = endOfDirectory(zip);
  const files: ZippedFile[] = [];
  let offset = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left--) {
    assert.equal(zip.readUInt32LE(offset), DIRECTORY_ENTRY, 'no directory entry where one should be');
    const [method, packedBytes, plainBytes] = [10, 20, 24].map((at) =>
      at === 10 ? zip.readUInt16LE(offset + at) : zip.readUInt32LE(offset + at),
    ) as [number, number, number];
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((at) => zip.readUInt16LE(offset + at)) as [
      number,
      number,
      number,
    ];
    const name = zip.toString('utf8', offset + 46, offset + 46 + nameBytes);
    assert.ok(!name.startsWith('/') && !name.split('/').includes('..'), `"${name}" leads out of its folder`);
    const packed = contentAt(zip, zip.readUInt32LE(offset + 42), packedBytes);
    assert.ok(method === 0 || method === 8, `"${name}" is packed by method ${method}`);
    const bytes = method === 0 ? packed : inflateRawSync(packed, { maxOutputLength: Math.max(plainBytes, 1) });
    assert.equal(bytes.length, plainBytes, `"${name}" has another length than the directory says`);
    files.push({ name, bytes });
    offset += 46 + nameBytes + extraBytes + commentBytes;
  }
  return files;
}

/** "h1:" of go.sum: SHA-256 over the sorted lines "<SHA-256 of the file>  <name>". */
export function moduleHash(files: readonly ZippedFile[]): string {
  const sorted = [...files].sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  const all = createHash('sha256');
  for (const { name, bytes } of sorted) all.update(`${createHash('sha256').update(bytes).digest('hex')}  ${name}\n`);
  return `h1:${all.digest('base64')}`;
}

function endOfDirectory(zip: Buffer): number {
  const first = Math.max(0, zip.length - END_BYTES - COMMENT_BYTES_MAX);
  for (let at = zip.length - END_BYTES; at >= first; at--) {
    if (zip.readUInt32LE(at) === END_OF_DIRECTORY) return at;
  }
  throw new Error('this is no zip: it has no end of a directory');
}

/** The local header repeats the name and has an extra field of its own length. */
function contentAt(zip: Buffer, header: number, packedBytes: number): Buffer {
  assert.equal(zip.readUInt32LE(header), LOCAL_HEADER, 'no local header where one should be');
  const start = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
  return zip.subarray(start, start + packedBytes);
}
