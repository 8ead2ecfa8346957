/**
 * The chunk store on a disk: segments, an index in memory, one writer. This file decides what may be put and checks what is
 * read; how bytes reach the disk is the writer's, how they are found again after a crash is `recovery.ts`'s business.
 *
 * Checksums are compared by whoever receives frames from the network, before the write, and here after the read (two
 * places). Reads copy nothing: what lies on the disk is what is sent.
 */
import { assert } from '@collective/base/assert';
import type { Clock } from '@collective/base/clock';
import type { Disk, DiskFile, DiskLock } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import { type Log, silentLog } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import { ChunkDigest } from '@collective/protocol/bulk/encode-chunk';
import { FRAME_HEADER_BYTES, FRAME_TYPES, frameHeaders, readFrame } from '@collective/protocol/bulk/frame';
import { ChunkIndex, type ChunkPlace } from './chunk-index.ts';
import {
  type ChunkFacts,
  type ChunkStore,
  type PutResult,
  READ_FRAMES_MAX,
  type StoredChunk,
  type StoreStats,
} from './chunk-store.ts';
import { type DiskIdentity, openIdentity } from './disk-identity.ts';
import {
  decodeRecordHeader,
  plainStoredLength,
  RECORD_BYTES_MAX,
  type RecordHeader,
  recordBytes,
  recordHeaderBytes,
} from './record.ts';
import { recoverSegments } from './recovery.ts';
import { SegmentReaders } from './segment-readers.ts';
import { type ChunkBody, SegmentWriter } from './segment-writer.ts';

const MiB = 1024 * 1024;
/** A segment is never larger; smaller ones where the reserve is small, because a start may have to copy one into it. */
const SEGMENT_BYTES_MAX = 256 * MiB;
const RESERVE_BYTES_MIN = 64 * MiB;
const RESERVE_SHARE = 0.02;
/** The real disk is asked at most so often how much room it has. */
const MEASURE_EVERY_MS = 1_000;

export interface FileChunkStoreOptions {
  /** Its root is the store's folder. */
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
  /** What the owner gives. */
  readonly capacityBytes: number;
  /** Kept free; default the larger of 64 MiB and 2% of the capacity. */
  readonly reserveBytes?: number;
  readonly segmentBytes?: number;
}

export class FileChunkStore implements ChunkStore {
  readonly #identity: DiskIdentity;
  readonly #lock: DiskLock;
  readonly #index: ChunkIndex;
  readonly #segments: Map<number, number>;
  readonly #readers: SegmentReaders;
  readonly #writer: SegmentWriter;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #capacityBytes: number;
  readonly #reserveBytes: number;
  readonly #failure = new AbortController();
  /** Puts that are not written yet. */
  readonly #pending = new Map<ChunkId, { readonly digest: Buffer; readonly written: Promise<PutResult> }>();
  #pendingBytes = 0;
  #usedBytes: number;
  #diskFreeBytes: number;
  #measuredAtMs: number;
  #closing: Promise<void> | undefined;

  /** Throws `data_in_use`, `store_damaged`, `version_too_new`. */
  static async open(options: FileChunkStoreOptions): Promise<FileChunkStore> {
    const { disk, random, log = silentLog } = options;
    const lock = await disk.lock('');
    try {
      const identity = await openIdentity(disk, random);
      const index = new ChunkIndex();
      const { segments, nextSegment } = await recoverSegments(disk, identity, index, random, log);
      const { freeBytes } = await disk.space();
      return new FileChunkStore(options, { identity, lock, index, segments, nextSegment, freeBytes });
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  private constructor(
    options: FileChunkStoreOptions,
    opened: {
      identity: DiskIdentity;
      lock: DiskLock;
      index: ChunkIndex;
      segments: Map<number, number>;
      nextSegment: number;
      freeBytes: number;
    },
  ) {
    const { disk, clock, random, log = silentLog, capacityBytes } = options;
    this.#disk = disk;
    this.#clock = clock;
    this.#measuredAtMs = clock.bootMs();
    this.#identity = opened.identity;
    this.#lock = opened.lock;
    this.#index = opened.index;
    this.#segments = opened.segments;
    this.#usedBytes = [...opened.segments.values()].reduce((sum, bytes) => sum + bytes, 0);
    this.#diskFreeBytes = opened.freeBytes;
    this.#capacityBytes = capacityBytes;
    this.#reserveBytes = options.reserveBytes ?? Math.max(RESERVE_BYTES_MIN, Math.floor(capacityBytes * RESERVE_SHARE));
    this.#readers = new SegmentReaders(disk);
    this.#writer = new SegmentWriter({
      disk,
      clock,
      random,
      log,
      identity: opened.identity,
      nextSegment: opened.nextSegment,
      segmentBytes:
        options.segmentBytes ??
        Math.max(2 * RECORD_BYTES_MAX, Math.min(SEGMENT_BYTES_MAX, Math.floor(this.#reserveBytes / 2))),
      onWritten: (facts, { segment, offset }, storedLength) => {
        const added = this.#index.add(facts.chunk, { segment, offset, rawLength: facts.rawLength, storedLength });
        assert(added, `chunk ${facts.chunk} is written once`);
      },
      onSegmentSize: (segment, bytes) => this.#segmentGrew(segment, bytes),
      onSynced: () => this.#measureDisk(log),
      onFailed: (error) => {
        log.error({ err: error }, 'chunk store failed');
        this.#failure.abort(error);
      },
    });
  }

  get disk(): string {
    return this.#identity.disk;
  }

  get incarnation(): number {
    return this.#identity.incarnation;
  }

  get stableSequence(): number {
    return this.#writer.stableSequence;
  }

  get failed(): AbortSignal {
    return this.#failure.signal;
  }

  async put(facts: ChunkFacts, frames: readonly Buffer[]): Promise<PutResult> {
    const body = checkFrames(facts, frames);
    const pending = this.#pending.get(facts.chunk);
    if (pending !== undefined) {
      refuseOtherDigest(facts, pending.digest);
      return { ...(await pending.written), alreadyHere: true };
    }
    if (this.#index.has(facts.chunk)) {
      const stored = await this.describe(facts.chunk);
      refuseOtherDigest(facts, stored.digest);
      return { sequence: stored.sequence, alreadyHere: true };
    }
    const bytes = recordBytes(body.frameLengths.length, body.storedLength);
    if (bytes > this.#freeBytes() - this.#pendingBytes)
      throw new CollectiveError('no_space', `Put chunk ${facts.chunk}: ${bytes} bytes do not fit above the reserve`, {
        details: { freeBytes: this.#freeBytes(), reserveBytes: this.#reserveBytes },
      });
    const written = this.#write(facts, body, bytes);
    this.#pending.set(facts.chunk, { digest: facts.digest, written });
    return await written;
  }

  whenStable(sequence: number, signal?: AbortSignal): Promise<void> {
    return this.#writer.whenStable(sequence, signal);
  }

  sync(): Promise<void> {
    return this.#writer.sync();
  }

  has(chunk: ChunkId): boolean {
    return this.#index.has(chunk);
  }

  async describe(chunk: ChunkId): Promise<StoredChunk> {
    const place = this.#placeOf(chunk);
    return await this.#readers.use(place.segment, (file) => this.#readHeader(file, chunk, place));
  }

  async *read(
    chunk: ChunkId,
    offset: number,
    length: number,
    take: (bytes: number) => Buffer = Buffer.allocUnsafe,
  ): AsyncGenerator<Buffer, void, undefined> {
    const place = this.#placeOf(chunk);
    if (offset < 0 || length < 1 || offset + length > place.rawLength)
      throw new CollectiveError(
        'range',
        `Read ${length} bytes at ${offset} of chunk ${chunk}: it has ${place.rawLength}`,
      );
    const first = Math.floor(offset / FRAME_BYTES);
    const last = Math.floor((offset + length - 1) / FRAME_BYTES);
    const plain = place.storedLength === plainStoredLength(place.rawLength);
    let header = plain
      ? undefined
      : await this.#readers.use(place.segment, (file) => this.#readHeader(file, chunk, place));
    for (let frame = first; frame <= last; frame += READ_FRAMES_MAX) {
      const span = frameSpan(place, header, frame, Math.min(last, frame + READ_FRAMES_MAX - 1));
      const bytes = await this.#readers.use(place.segment, async (file) => {
        // The header proves that the record is this chunk's: frames do not name it.
        const [facts, stored] = await Promise.all([
          header ?? this.#readHeader(file, chunk, place),
          this.#readFrames(file, chunk, place.offset + span.from, take(span.to - span.from)),
        ]);
        header = facts;
        return stored;
      });
      this.#verify(chunk, bytes, frame);
      yield bytes;
    }
  }

  list(after: ChunkId | undefined, limit: number): ChunkId[] {
    return this.#index.list(after, limit);
  }

  stats(): StoreStats {
    const freeBytes = Math.max(0, this.#freeBytes() - this.#pendingBytes);
    return {
      chunkCount: this.#index.count,
      capacityBytes: Math.min(this.#capacityBytes, this.#usedBytes + this.#diskFreeBytes),
      usedBytes: this.#usedBytes,
      freeBytes,
      full: freeBytes < RECORD_BYTES_MAX,
      inventoryDigest: this.#index.inventoryDigest,
      unstableBytes: this.#writer.unstableBytes,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.#writer.close();
      await this.#readers.close();
    } finally {
      await this.#lock.release();
    }
  }

  async #write(facts: ChunkFacts, body: ChunkBody, bytes: number): Promise<PutResult> {
    this.#pendingBytes += bytes;
    try {
      const { sequence } = await this.#writer.append(facts, body);
      return { sequence, alreadyHere: false };
    } catch (error) {
      if (error instanceof CollectiveError && error.code === 'no_space')
        this.#diskFreeBytes = Math.min(this.#diskFreeBytes, this.#reserveBytes);
      throw error;
    } finally {
      this.#pendingBytes -= bytes;
      this.#pending.delete(facts.chunk);
    }
  }

  /** What may still be written above the reserve, of what the owner gives and of what the disk has. */
  #freeBytes(): number {
    return Math.min(this.#capacityBytes - this.#usedBytes, this.#diskFreeBytes) - this.#reserveBytes;
  }

  #segmentGrew(segment: number, bytes: number): void {
    const grown = bytes - (this.#segments.get(segment) ?? 0);
    this.#segments.set(segment, bytes);
    this.#usedBytes += grown;
    this.#diskFreeBytes -= grown;
  }

  #measureDisk(log: Log): void {
    const nowMs = this.#clock.bootMs();
    if (nowMs - this.#measuredAtMs < MEASURE_EVERY_MS) return;
    this.#measuredAtMs = nowMs;
    this.#disk.space().then(
      ({ freeBytes }) => {
        this.#diskFreeBytes = freeBytes;
      },
      (error: unknown) => log.warn({ err: error }, 'disk space unknown'),
    );
  }

  #placeOf(chunk: ChunkId): ChunkPlace {
    const place = this.#index.get(chunk);
    if (place === undefined) throw new CollectiveError('chunk_missing', `Read chunk ${chunk}: it is not on this disk`);
    return place;
  }

  async #readHeader(file: DiskFile, chunk: ChunkId, place: ChunkPlace): Promise<RecordHeader> {
    const frameCount = Math.ceil(place.rawLength / FRAME_BYTES);
    try {
      const header = decodeRecordHeader(await readExactly(file, place.offset, recordHeaderBytes(frameCount)));
      const { storedLength, offset } = header;
      if (header.chunk === chunk && storedLength === place.storedLength && offset === place.offset) return header;
    } catch (cause) {
      throw this.#corrupt(chunk, 'its record header is damaged', cause);
    }
    throw this.#corrupt(chunk, 'another record lies in its place');
  }

  async #readFrames(file: DiskFile, chunk: ChunkId, offset: number, into: Buffer): Promise<Buffer> {
    const present = await file.readInto(offset, into);
    if (present < into.length) throw this.#corrupt(chunk, `its segment ends ${into.length - present} bytes too early`);
    return into;
  }

  #verify(chunk: ChunkId, bytes: Buffer, firstFrame: number): void {
    let frame = firstFrame;
    try {
      for (let at = 0; at < bytes.length; frame++) {
        const header = readFrame(bytes, at);
        if (header.type !== FRAME_TYPES.DATA || header.rawOffset !== frame * FRAME_BYTES)
          throw new CollectiveError('frame_invalid', `Read a stored frame: it belongs at ${header.rawOffset}`);
        at += FRAME_HEADER_BYTES + header.storedLength;
      }
    } catch (cause) {
      throw this.#corrupt(chunk, `frame ${frame} is damaged`, cause);
    }
  }

  #corrupt(chunk: ChunkId, what: string, cause?: unknown): CollectiveError {
    return new CollectiveError('chunk_corrupt', `Read chunk ${chunk} on disk ${this.disk}: ${what}`, { cause });
  }
}

/** Where frames `first` to `last` lie in their record. Without a header none of the frames is compressed. */
function frameSpan(
  place: ChunkPlace,
  header: RecordHeader | undefined,
  first: number,
  last: number,
): { from: number; to: number } {
  const frameCount = Math.ceil(place.rawLength / FRAME_BYTES);
  const start = recordHeaderBytes(frameCount);
  if (place.storedLength === plainStoredLength(place.rawLength)) {
    const stride = FRAME_HEADER_BYTES + FRAME_BYTES;
    return { from: start + first * stride, to: Math.min(start + (last + 1) * stride, start + place.storedLength) };
  }
  assert(header !== undefined, 'compressed frames are found by the header');
  const lengthOf = (lengths: readonly number[]): number =>
    lengths.reduce((sum, length) => sum + FRAME_HEADER_BYTES + length, 0);
  const from = start + lengthOf(header.frameLengths.slice(0, first));
  return { from, to: from + lengthOf(header.frameLengths.slice(first, last + 1)) };
}

async function readExactly(file: DiskFile, offset: number, length: number): Promise<Buffer> {
  const bytes = await file.read(offset, length);
  if (bytes.length < length)
    throw new CollectiveError(
      'store_damaged',
      `Read ${length} bytes of a segment at ${offset}: it ends after ${bytes.length}`,
    );
  return bytes;
}

/** The frames are those of the chunk, in order, and give its digest. */
function checkFrames(facts: ChunkFacts, frames: readonly Buffer[]): ChunkBody {
  const digest = new ChunkDigest();
  const frameLengths: number[] = [];
  let rawLength = 0;
  let storedLength = 0;
  for (const buffer of frames) {
    storedLength += buffer.length;
    for (const frame of frameHeaders(buffer)) {
      if (frame.type !== FRAME_TYPES.DATA || frame.rawOffset !== rawLength || rawLength % FRAME_BYTES !== 0)
        throw new CollectiveError(
          'frame_invalid',
          `Put chunk ${facts.chunk}: a frame lies at ${frame.rawOffset}, not at ${rawLength}`,
        );
      rawLength += frame.rawLength;
      frameLengths.push(frame.storedLength);
      digest.add(frame.crc);
    }
  }
  if (rawLength !== facts.rawLength || rawLength === 0)
    throw new CollectiveError(
      'frame_invalid',
      `Put chunk ${facts.chunk}: its frames hold ${rawLength} bytes, announced were ${facts.rawLength}`,
    );
  if (!digest.finish(rawLength).equals(facts.digest))
    throw new CollectiveError('frame_invalid', `Put chunk ${facts.chunk}: its frames do not give its digest`);
  return { frames, frameLengths, storedLength };
}

function refuseOtherDigest(facts: ChunkFacts, digest: Buffer): void {
  if (!digest.equals(facts.digest))
    throw new CollectiveError('chunk_conflict', `Put chunk ${facts.chunk}: it is here with another digest`);
}
