/**
 * Reads many records of one segment in large pieces, as a disk likes it, and the next piece while the one before is worked on.
 * Records that lie close together come in one read; a gap of dead ones is skipped. Where the disk does not give a
 * piece, each of its records is read alone, so that one bad sector is one bad record.
 */

import { recordBytesOf } from './record.ts';
import type { SidecarEntry } from './segment.ts';

/** One read. At least a record of the largest chunk. */
export const SWEEP_BYTES = 8 * 1024 * 1024;
/** A gap that costs less to read than a read of its own. */
const GAP_BYTES_MAX = 128 * 1024;

export interface SweptRecord {
  readonly entry: SidecarEntry;
  /** Valid until the next step. Shorter than the record where the segment ends too early. */
  readonly bytes: Buffer;
  /** The disk did not give the bytes. */
  readonly error?: unknown;
}

/** Fills `into` from the offset; answers how many bytes there were. */
export type ReadInto = (offset: number, into: Buffer) => Promise<number>;

interface Piece {
  readonly from: number;
  readonly to: number;
  readonly entries: readonly SidecarEntry[];
}

/** `entries` in the order of their offsets. */
export async function* sweepRecords(
  read: ReadInto,
  entries: readonly SidecarEntry[],
  pieceBytes = SWEEP_BYTES,
): AsyncGenerator<SweptRecord[], void, undefined> {
  const pieces = piecesOf(entries, pieceBytes);
  const memory = [Buffer.alloc(0), Buffer.alloc(0)];
  const load = (piece: Piece, i: number): Promise<SweptRecord[]> => {
    const wanted = piece.to - piece.from;
    let into = memory[i % 2] ?? Buffer.alloc(0);
    if (into.length < wanted)
      into = memory[i % 2] = Buffer.allocUnsafeSlow(Math.max(wanted, Math.min(pieceBytes, totalOf(pieces))));
    return readPiece(read, piece, into.subarray(0, wanted));
  };
  let next = pieces[0] === undefined ? undefined : load(pieces[0], 0);
  try {
    for (let i = 0; next !== undefined; i++) {
      const records: SweptRecord[] = await next;
      const following = pieces[i + 1];
      next = following === undefined ? undefined : load(following, i + 1);
      yield records;
    }
  } finally {
    // Whoever stops early does not leave a read behind.
    await Promise.allSettled([next]);
  }
}

function piecesOf(entries: readonly SidecarEntry[], pieceBytes: number): Piece[] {
  const pieces: Piece[] = [];
  let open: { from: number; to: number; entries: SidecarEntry[] } | undefined;
  for (const entry of entries) {
    const end = entry.offset + recordBytesOf(entry);
    if (open === undefined || entry.offset - open.to > GAP_BYTES_MAX || end - open.from > pieceBytes) {
      open = { from: entry.offset, to: end, entries: [] };
      pieces.push(open);
    }
    open.to = end;
    open.entries.push(entry);
  }
  return pieces;
}

function totalOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { from, to }) => sum + to - from, 0);
}

async function readPiece(read: ReadInto, piece: Piece, into: Buffer): Promise<SweptRecord[]> {
  try {
    const present = into.subarray(0, await read(piece.from, into));
    return piece.entries.map((entry) => ({ entry, bytes: bytesOf(entry, piece, present) }));
  } catch (error) {
    if (piece.entries.length === 1) return piece.entries.map((entry) => ({ entry, bytes: Buffer.alloc(0), error }));
  }
  const records: SweptRecord[] = [];
  for (const entry of piece.entries) {
    const alone = { from: entry.offset, to: entry.offset + recordBytesOf(entry), entries: [entry] };
    records.push(...(await readPiece(read, alone, bytesOf(entry, piece, into))));
  }
  return records;
}

function bytesOf(entry: SidecarEntry, piece: Piece, into: Buffer): Buffer {
  const at = entry.offset - piece.from;
  return into.subarray(at, at + recordBytesOf(entry));
}
