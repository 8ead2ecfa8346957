/** One file of a tar archive (POSIX ustar) as bytes, and the end of an archive. Pure. */
import { CollectiveError } from '@collective/base/errors';

const BLOCK = 512;
const NAME_BYTES_MAX = 100;
const PREFIX_BYTES_MAX = 155;

export interface TarFile {
  /** With slashes, relative. */
  readonly path: string;
  readonly content: Uint8Array;
  readonly modifiedMs: number;
}

export function tarEntry({ path, content, modifiedMs }: TarFile): Buffer[] {
  const header = Buffer.alloc(BLOCK);
  const [prefix, name] = splitPath(path);
  const octal = (value: number, length: number): string => `${value.toString(8).padStart(length - 1, '0')}\0`;
  header.write(name, 0);
  header.write(octal(0o600, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(content.length, 12), 124);
  header.write(octal(Math.floor(modifiedMs / 1000), 12), 136);
  // The checksum is that of a header with blanks in its place.
  header.write('        ', 148);
  header.write('0', 156);
  header.write('ustar\x0000', 257);
  header.write(prefix, 345);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const padding = (BLOCK - (content.length % BLOCK)) % BLOCK;
  return [header, Buffer.from(content), Buffer.alloc(padding)];
}

export function tarEnd(): Buffer {
  return Buffer.alloc(2 * BLOCK);
}

/** A long path is cut at a slash. */
function splitPath(path: string): [string, string] {
  if (Buffer.byteLength(path) <= NAME_BYTES_MAX) return ['', path];
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    const [prefix, name] = [path.slice(0, slash), path.slice(slash + 1)];
    if (Buffer.byteLength(prefix) <= PREFIX_BYTES_MAX && Buffer.byteLength(name) <= NAME_BYTES_MAX)
      return [prefix, name];
  }
  throw new CollectiveError('name_too_long', `Put ${path} into an archive: its path is too long`);
}
