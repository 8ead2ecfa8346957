/**
 * Reads many records of one segment in large pieces, as a disk likes it, and the next two pieces while one is worked on.
 * Records that lie close together come in one read; a gap of dead ones is skipped. Where the disk does not give a
 * piece, each of its records is read alone, so that one bad sector is one bad record.
 */

import type { SidecarEntry } from './entry-list.ts';
import { recordBytesOf } from './record.ts';

/** One read. At least a record of the largest chunk. */
export const SWEEP_BYTES = 6 * 1024 * 1024;
/** One after the other, and the disk has its next read also while nobody has come yet to take the one that is done. */
const READS_AHEAD = 2;
/** Records of one piece: what is done with them at once must not hold up others. */
const PIECE_RECORDS_MAX = 256;
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

export interface SweepRules {
  readonly pieceBytes?: number;
  /** The pieces that are read ahead are asked for at once: for reads that no kernel prepares. */
  readonly sideBySide?: boolean;
}

/** `entries` in the order of their offsets; they are looked at when their turn comes. */
export async function* sweepRecords(
  read: ReadInto,
  entries: Iterable<SidecarEntry>,
  { pieceBytes = SWEEP_BYTES, sideBySide = false }: SweepRules = {},
): AsyncGenerator<SweptRecord[], void, undefined> {
  const memory: Buffer[] = [];
  let loaded = 0;
  let before: Promise<unknown> = Promise.resolve();
  const load = (piece: Piece): Promise<SweptRecord[]> => {
    const wanted = piece.to - piece.from;
    const turn = loaded % (READS_AHEAD + 1);
    let into = memory[turn] ?? Buffer.alloc(0);
    // The second time it is worth to have as much as any piece needs.
    if (into.length < wanted)
      into = Buffer.allocUnsafeSlow(loaded <= READS_AHEAD ? wanted : Math.max(wanted, pieceBytes));
    memory[turn] = into;
    loaded++;
    const begin = (): Promise<SweptRecord[]> => readPiece(read, piece, into.subarray(0, wanted));
    const reading = sideBySide ? begin() : before.then(begin);
    // It may fail before its turn comes.
    before = reading.catch(() => undefined);
    return reading;
  };
  const pieces = piecesOf(entries, pieceBytes);
  const underWay: Promise<SweptRecord[]>[] = [];
  const readAhead = (): void => {
    while (underWay.length < READS_AHEAD) {
      const { value } = pieces.next();
      if (value === undefined) return;
      underWay.push(load(value));
    }
  };
  readAhead();
  try {
    for (let next = underWay.shift(); next !== undefined; next = underWay.shift()) {
      const records = await next;
      readAhead();
      yield records;
    }
  } finally {
    // Whoever stops early does not leave a read behind.
    await Promise.allSettled(underWay);
  }
}

function* piecesOf(entries: Iterable<SidecarEntry>, pieceBytes: number): Generator<Piece, undefined, undefined> {
  let open: { from: number; to: number; entries: SidecarEntry[] } | undefined;
  for (const entry of entries) {
    const end = entry.offset + recordBytesOf(entry);
    const isNear = open !== undefined && entry.offset - open.to <= GAP_BYTES_MAX && end - open.from <= pieceBytes;
    if (open !== undefined && isNear && open.entries.length < PIECE_RECORDS_MAX) {
      open.to = end;
      open.entries.push(entry);
      continue;
    }
    if (open !== undefined) yield open;
    open = { from: entry.offset, to: end, entries: [entry] };
  }
  if (open !== undefined) yield open;
  return undefined;
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
