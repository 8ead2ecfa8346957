/**
 * The bytes of a file in order. Block maps are read ahead in pages, chunks are read ahead within a byte budget, holes give
 * zeros. The extent that is wanted next never waits for the budget, so readers that take turns cannot block each other.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, BLOCK_PAGE_MAX } from '@collective/base/limits';
import type { BlockPage, ChunkLocation } from '@collective/protocol/gen/session';
import { expectResult } from '../session/operation-kinds.ts';
import type { Session } from '../session/session.ts';
import { blockOf, type Extent, extentsOf } from './block-map.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { ReplicaReader } from './replica-reader.ts';

/** Extents that are read at once for one reader. */
const READ_AHEAD_EXTENTS_MAX = 16;
/**
 * Of one reader, beyond the extent that is wanted next. What is read at once arrives side by side, and all of it lies in memory
 * until the first is whole: with more than this, memory is no longer used again while it is warm, and a copy becomes a third
 * dearer. It is still 160 MB/s at a round trip of 100 ms.
 */
export const READ_AHEAD_BYTES_MAX = 3 * BLOCK_BYTES;
/** How long a read waits for one of its replicas while all of them are away: as long as a restart takes on a slow machine. */
export const READ_PATIENCE_MS = 10_000;
const READ_AGAIN_MS = 250;
/** Tries to read a range as it is at one moment. Each that fails met nodes that served nothing and a writer who changed just that part. */
const ONE_MOMENT_TRIES_MAX = 4;
const HOLE_PIECE_BYTES = 1024 * 1024;
const NO_LONGER_WANTED = new CollectiveError('interrupted', 'Read a file: no longer wanted');

export interface DownloadPorts {
  readonly clock: Clock;
  readonly session: Session;
  readonly reader: ReplicaReader;
  /** Bytes read ahead by all readers. */
  readonly ahead: ByteBudget;
}

export interface ByteRange {
  readonly inode: number;
  readonly offset: number;
  /** Exclusive; the reader also stops at the end of the file. */
  readonly end: number;
}

export interface ReadPiece {
  readonly bytes: Buffer;
  /** Optional: the bytes are no longer used, and their memory may serve what comes next. */
  release(): void;
}

/** The bytes of a range, for those who keep them. */
export async function* readRange(
  ports: DownloadPorts,
  range: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const { bytes } of readPieces(ports, range, signal)) yield bytes;
}

/** The same, but a piece is only good until the next one is asked for: its memory is used again. */
export async function* readBorrowed(
  ports: DownloadPorts,
  range: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const { bytes, release } of readPieces(ports, range, signal)) {
    yield bytes;
    release();
  }
}

/**
 * All bytes of a range in one buffer; fewer only at the end of the file. Nothing has been handed out yet when a part turns out to be
 * another one by now, so all is read again: a cut or a write of somebody else is seen as a whole or not at all.
 */
export async function readWhole(ports: DownloadPorts, range: ByteRange, signal: AbortSignal): Promise<Buffer> {
  for (let tries = 1; ; tries++) {
    try {
      return await readTogether(ports, range, signal, {
        fresh: tries > 1,
        mayMix: tries >= ONE_MOMENT_TRIES_MAX,
      });
    } catch (error) {
      if (!(error instanceof ChangedMeanwhile)) throw error;
    }
  }
}

async function readTogether(ports: DownloadPorts, range: ByteRange, signal: AbortSignal, how: Look): Promise<Buffer> {
  const pieces: ReadPiece[] = [];
  for await (const piece of readPieces(ports, range, signal, how)) pieces.push(piece);
  const [only] = pieces;
  if (only !== undefined && pieces.length === 1) return only.bytes;
  const whole = Buffer.concat(pieces.map(({ bytes }) => bytes));
  for (const { release } of pieces) release();
  return whole;
}

interface Look {
  /** The first look asks the coordinator, whatever is cached. */
  readonly fresh: boolean;
  /** Of a part that others change before it has come, what is there then is read; else `ChangedMeanwhile` is thrown. */
  readonly mayMix: boolean;
}

/** Bytes that were handed out cannot be taken back: each block is read as it is when it is reached. */
const AS_IT_COMES: Look = { fresh: false, mayMix: true };

class ChangedMeanwhile extends Error {}

/** Pieces in order, as they arrive: at most 1 MiB each. */
async function* readPieces(
  ports: DownloadPorts,
  range: ByteRange,
  signal: AbortSignal,
  look: Look = AS_IT_COMES,
): AsyncGenerator<ReadPiece, void, undefined> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const ahead: Fetch[] = [];
  let aheadBytes = 0;
  const extents = locatedExtents(ports.session, range, look, both)[Symbol.asyncIterator]();
  let upcoming: LocatedExtent | undefined;
  let ended = false;
  let finished = false;
  try {
    for (;;) {
      while (!ended && ahead.length < READ_AHEAD_EXTENTS_MAX) {
        if (upcoming === undefined) {
          const next = await extents.next();
          if (next.done) {
            ended = true;
            break;
          }
          upcoming = next.value;
        }
        const paid = ahead.length > 0;
        if (paid && aheadBytes + upcoming.length > READ_AHEAD_BYTES_MAX) break;
        if (paid && !ports.ahead.tryAcquire(upcoming.length)) break;
        if (paid) aheadBytes += upcoming.length;
        ahead.push(new Fetch(ports, upcoming, range.inode, paid ? upcoming.length : 0, look, both));
        upcoming = undefined;
      }
      const current = ahead.shift();
      if (current === undefined) {
        finished = true;
        return;
      }
      aheadBytes -= current.paidBytes;
      try {
        yield* current.pieces();
      } finally {
        current.release();
      }
      // What was read ahead lay behind the end that the file has now.
      if (current.isLast) return;
    }
  } finally {
    if (!finished) stop.abort(NO_LONGER_WANTED);
    for (const fetch of ahead) fetch.release();
    await extents.return(undefined);
  }
}

function nothingToRelease(): void {
  // Zeros have memory of their own.
}

interface LocatedExtent extends Extent {
  readonly location?: ChunkLocation;
}

/** One extent on its way. It reads on by itself; whoever takes the pieces may lag. */
class Fetch {
  readonly paidBytes: number;
  readonly #ports: DownloadPorts;
  readonly #arrived: ReadPiece[] = [];
  #arrivedBytes = 0;
  #finished = false;
  #isLast = false;
  #released = false;
  #error: unknown;
  #wake: (() => void) | undefined;
  readonly #mayMix: boolean;

  constructor(
    ports: DownloadPorts,
    extent: LocatedExtent,
    inode: number,
    paidBytes: number,
    { mayMix }: Look,
    signal: AbortSignal,
  ) {
    this.#ports = ports;
    this.paidBytes = paidBytes;
    this.#mayMix = mayMix;
    this.#run(extent, inode, signal).then(
      () => this.#finish(undefined),
      (error) => this.#finish(error ?? new CollectiveError('internal', 'Read an extent')),
    );
  }

  /** When all pieces were taken: the file was cut short meanwhile and ends with them. */
  get isLast(): boolean {
    return this.#isLast;
  }

  async *pieces(): AsyncGenerator<ReadPiece, void, undefined> {
    for (;;) {
      const piece = this.#arrived.shift();
      if (piece !== undefined) {
        yield piece;
        continue;
      }
      if (this.#error !== undefined) throw this.#error;
      if (this.#finished) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    if (this.paidBytes > 0) this.#ports.ahead.release(this.paidBytes);
  }

  async #run(extent: LocatedExtent, inode: number, signal: AbortSignal): Promise<void> {
    const { session, clock } = this.#ports;
    const end = extent.offset + extent.length;
    const patientUntilMs = clock.bootMs() + READ_PATIENCE_MS;
    let parts = [extent];
    for (let looks = 0; ; looks++) {
      try {
        for (const part of parts) await this.#read(part, signal);
        return;
      } catch (error) {
        signal.throwIfAborted();
        // The map may be old: a ticket ran out, a replica moved, the chunk was folded into another one or is garbage by now.
        // One fresh look, then it is the truth; but nodes that are away may be back in a moment.
        if (looks > 0 && !(isAway(error) && clock.bootMs() < patientUntilMs)) throw error;
        if (looks > 0) await sleep(clock, READ_AGAIN_MS, signal);
      }
      const from = extent.offset + this.#arrivedBytes;
      const page = await readPage(session, inode, blockOf(from), 1, signal, { fresh: true });
      const until = Math.max(from, Math.min(end, page.attributes?.size ?? end));
      parts = [...extentsOfPage(page, from, until)];
      if (!this.#mayMix && !isTailOf(extent, parts, from)) throw new ChangedMeanwhile();
      this.#isLast = until < end;
    }
  }

  async #read({ location, chunkOffset, length }: LocatedExtent, signal: AbortSignal): Promise<void> {
    if (location === undefined) {
      for (let done = 0; done < length; done += HOLE_PIECE_BYTES)
        this.#arrive({ bytes: Buffer.alloc(Math.min(HOLE_PIECE_BYTES, length - done)), release: nothingToRelease });
      return;
    }
    for await (const piece of this.#ports.reader.read(location, chunkOffset, length, signal)) this.#arrive(piece);
  }

  #arrive(piece: ReadPiece): void {
    this.#arrivedBytes += piece.bytes.length;
    this.#arrived.push(piece);
    this.#wake?.();
  }

  #finish(error: unknown): void {
    this.#finished = true;
    this.#error = error;
    this.#wake?.();
  }
}

/** Whether all that is missing of the extent is still the same bytes, wherever they may lie: chunks never change (D1). */
function isTailOf(extent: LocatedExtent, [only, ...others]: readonly LocatedExtent[], from: number): boolean {
  const done = from - extent.offset;
  if (only === undefined || others.length > 0) return extent.length === done;
  return (
    only.length === extent.length - done &&
    only.chunkOffset === extent.chunkOffset + done &&
    only.chunk !== undefined &&
    extent.chunk?.equals(only.chunk) === true
  );
}

/** None of its replicas could be reached, which may pass. */
function isAway(error: unknown): boolean {
  return error instanceof CollectiveError && ['unavailable', 'deadline_exceeded'].includes(error.code);
}

/** The extents of a range with their chunks' places; the next page of the map is under way while one is used. */
async function* locatedExtents(
  session: Session,
  range: ByteRange,
  { fresh }: Look,
  signal: AbortSignal,
): AsyncGenerator<LocatedExtent, void, undefined> {
  if (range.end <= range.offset) return;
  const last = blockOf(range.end - 1);
  const ask = (first: number): Promise<BlockPage> => {
    const page = readPage(session, range.inode, first, Math.min(BLOCK_PAGE_MAX, last - first + 1), signal, { fresh });
    page.catch(() => undefined);
    return page;
  };
  let first = blockOf(range.offset);
  let underWay: Promise<BlockPage> | undefined = ask(first);
  let position = range.offset;
  while (underWay !== undefined) {
    const page: BlockPage = await underWay;
    const size = page.attributes?.size ?? range.end;
    const end = Math.min(range.end, size);
    const next = Math.max(page.next, first + 1);
    underWay = next <= last && next * BLOCK_BYTES < size ? ask(next) : undefined;
    const until = underWay === undefined ? end : Math.min(end, next * BLOCK_BYTES);
    yield* extentsOfPage(page, position, until);
    position = Math.max(position, until);
    first = next;
  }
}

function* extentsOfPage(page: BlockPage, from: number, to: number): Generator<LocatedExtent> {
  const locations = new Map(page.chunks.map((location) => [location.chunk.toString('hex'), location]));
  const blocks = new Map(page.blocks.map((block) => [block.index, block]));
  for (let start = from; start < to; ) {
    const index = blockOf(start);
    const stop = Math.min(to, (index + 1) * BLOCK_BYTES);
    for (const extent of extentsOf(blocks.get(index)?.slices ?? [], start, stop)) {
      const location = extent.chunk === undefined ? undefined : locations.get(extent.chunk.toString('hex'));
      if (extent.chunk !== undefined && location === undefined) {
        const what = `Read block ${index}: its map names a chunk without saying where it lies`;
        throw new CollectiveError('chunk_missing', what);
      }
      yield { ...extent, location };
    }
    start = stop;
  }
}

export async function readPage(
  session: Session,
  inode: number,
  first: number,
  count: number,
  signal: AbortSignal,
  settings: { readonly fresh?: boolean } = {},
): Promise<BlockPage> {
  const reply = await session.call({ $case: 'readBlocks', value: { inode, first, count } }, { signal, ...settings });
  return expectResult(reply, 'blocks');
}
