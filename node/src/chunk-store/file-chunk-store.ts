/**
 * The chunk store on a disk: segments, a ledger of their records in memory, one writer. This file decides what may be put, replaced
 * and forgotten, and in which order; how bytes reach the disk is the writer's, how they are read and checked the
 * reader's, how they are found again after a crash is `recovery.ts`'s business.
 *
 * Checksums are compared by whoever receives frames from the network, before the write, and after the read (two places).
 */
import type { Clock, Timer } from '@collective/base/clock';
import type { Disk, DiskLock } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import { type Log, silentLog } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import { ChunkDigest } from '@collective/protocol/bulk/encode-chunk';
import { FRAME_TYPES, frameHeaders } from '@collective/protocol/bulk/frame';
import type { ChunkFacts, ChunkStore, PutResult, StoredChunk, StoreStats } from './chunk-store.ts';
import { Compactor } from './compactor.ts';
import { DamagedChunks } from './damaged-chunks.ts';
import { type DiskIdentity, openIdentity } from './disk-identity.ts';
import { RECORD_BYTES_MAX, recordBytes } from './record.ts';
import { RecordLedger } from './record-ledger.ts';
import { RecordReader } from './record-reader.ts';
import { recoverSegments } from './recovery.ts';
import { type GivenRoom, planRoom, type RoomPlan } from './room-plan.ts';
import { SegmentReaders } from './segment-readers.ts';
import { SegmentVerifier } from './segment-verifier.ts';
import { type Appended, type ChunkBody, type NewRecord, SegmentWriter } from './segment-writer.ts';

/** The real disk is asked at most so often how much room it has. */
const MEASURE_EVERY_MS = 1_000;
/** And at least so often: others may fill it, and make room again while nothing can be put that would ask. */
const MEASURE_WITHIN_MS = 10_000;

/** Open at once: to be read, and to be verified. */
const SEGMENTS_OPEN_MAX = 128;
const SEGMENTS_VERIFIED_MAX = 4;

export interface FileChunkStoreOptions extends GivenRoom {
  /** Its root is the store's folder. */
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
  /** Copied by compaction; default COMPACTION_BYTES_PER_SECOND. */
  readonly compactionBytesPerSecond?: number;
}

interface Opened {
  readonly room: RoomPlan;
  readonly identity: DiskIdentity;
  readonly lock: DiskLock;
  readonly ledger: RecordLedger;
  readonly damaged: DamagedChunks;
  readonly nextSegment: number;
  readonly freeBytes: number;
}

export class FileChunkStore implements ChunkStore {
  /** For a scrub: whole segments, one after the other. */
  readonly segmentVerifier: SegmentVerifier;
  readonly #identity: DiskIdentity;
  readonly #lock: DiskLock;
  readonly #ledger: RecordLedger;
  readonly #damaged: DamagedChunks;
  readonly #segmentReaders: SegmentReaders;
  readonly #directReaders: SegmentReaders;
  readonly #reader: RecordReader;
  readonly #writer: SegmentWriter;
  readonly #compactor: Compactor;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #capacityBytes: number;
  readonly #reserveBytes: number;
  readonly #failure = new AbortController();
  /** Puts that are not written yet. */
  readonly #pending = new Map<ChunkId, { readonly digest: Buffer; readonly written: Promise<PutResult> }>();
  /** Until their tombstones are written. A put of one of them waits. */
  readonly #forgetting = new Map<ChunkId, Promise<void>>();
  #pendingBytes = 0;
  readonly #log: Log;
  #diskFreeBytes: number;
  #measuredAtMs: number;
  #measureTimer: Timer;
  #forgottenChunks = 0;
  #closing: Promise<void> | undefined;

  /** Throws `data_in_use`, `store_damaged`, `version_too_new`, and `invalid_argument` for too little room. */
  static async open(options: FileChunkStoreOptions): Promise<FileChunkStore> {
    const { disk, random, log = silentLog } = options;
    const room = planRoom(options);
    const lock = await disk.lock('');
    try {
      const identity = await openIdentity(disk, random);
      const ledger = new RecordLedger();
      const recovered = await recoverSegments({ disk, identity, ledger, random, log });
      const damaged = await DamagedChunks.open(disk, log, (chunk) => ledger.index.has(chunk));
      for (const chunk of recovered.damaged) if (ledger.index.has(chunk)) damaged.add(chunk);
      const { freeBytes } = await disk.space();
      const { nextSegment } = recovered;
      return new FileChunkStore(options, { room, identity, lock, ledger, damaged, nextSegment, freeBytes });
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  private constructor(options: FileChunkStoreOptions, opened: Opened) {
    const { disk, clock, random, log = silentLog, capacityBytes } = options;
    const { room, identity, lock, ledger, damaged, nextSegment, freeBytes } = opened;
    this.#disk = disk;
    this.#clock = clock;
    this.#measuredAtMs = clock.bootMs();
    this.#identity = identity;
    this.#lock = lock;
    this.#ledger = ledger;
    this.#damaged = damaged;
    this.#log = log;
    this.#diskFreeBytes = freeBytes;
    this.#capacityBytes = capacityBytes;
    this.#reserveBytes = room.reserveBytes;
    this.#segmentReaders = new SegmentReaders(disk, { mode: 'read', openMax: SEGMENTS_OPEN_MAX });
    this.#directReaders = new SegmentReaders(disk, { mode: 'readDirect', openMax: SEGMENTS_VERIFIED_MAX });
    const onDamaged = (chunk: ChunkId): void => {
      damaged.add(chunk);
      this.#sealDamaged(chunk);
    };
    const found = { index: ledger.index, disk: identity.disk, onDamaged };
    this.#reader = new RecordReader({ ...found, readers: this.#segmentReaders });
    const { segmentBytes } = room;
    this.#writer = new SegmentWriter({
      disk,
      clock,
      random,
      log,
      identity,
      nextSegment,
      segmentBytes,
      onWritten: (record, place) => this.#written(record, place),
      onSegmentSize: (segment, bytes) => this.#segmentGrew(segment, bytes),
      onSynced: () => this.#measureDisk(),
      onFailed: (error) => {
        log.error({ err: error }, 'chunk store failed');
        this.#failure.abort(error);
      },
    });
    const { compactionBytesPerSecond: bytesPerSecond } = options;
    this.#compactor = new Compactor({
      folder: { disk, identity, log },
      clock,
      random,
      ledger,
      writer: this.#writer,
      readers: { forget: (segment) => this.#forgetReaders(segment) },
      damaged,
      segmentBytes,
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
      isFull: () => this.stats().full,
      onRoomChanged: () => void this.#measureNow(),
    });
    this.#compactor.wake();
    this.#measureTimer = this.#measureLater();
    this.segmentVerifier = new SegmentVerifier({
      folder: { disk, identity, log },
      ledger,
      writer: this.#writer,
      readers: this.#directReaders,
      reader: new RecordReader({ ...found, readers: this.#directReaders }),
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

  get writtenSequence(): number {
    return this.#writer.writtenSequence;
  }

  get failed(): AbortSignal {
    return this.#failure.signal;
  }

  get damaged(): readonly ChunkId[] {
    return this.#damaged.list;
  }

  async put(facts: ChunkFacts, frames: readonly Buffer[]): Promise<PutResult> {
    const body = checkFrames(facts, frames);
    const { chunk, digest } = facts;
    if (this.#forgetting.has(chunk)) await this.#whenForgotten(chunk);
    const pending = this.#pending.get(chunk);
    if (pending !== undefined) {
      refuseOtherDigest(facts, pending.digest);
      return { ...(await pending.written), alreadyHere: true };
    }
    if (this.has(chunk)) {
      const stored = await this.describe(chunk);
      refuseOtherDigest(facts, stored.digest);
      return { sequence: stored.sequence, alreadyHere: true };
    }
    return await this.#track(chunk, digest, this.#write(facts, body));
  }

  async replace(facts: ChunkFacts, frames: readonly Buffer[]): Promise<PutResult> {
    const { chunk, digest } = facts;
    if (this.#forgetting.has(chunk)) await this.#whenForgotten(chunk);
    if (this.#pending.has(chunk) || !this.has(chunk)) return await this.put(facts, frames);
    const body = checkFrames(facts, frames);
    return await this.#track(chunk, digest, this.#replaceDamaged(facts, body));
  }

  async forget(chunks: readonly ChunkId[]): Promise<void> {
    const gone: Promise<unknown>[] = [];
    for (const chunk of new Set(chunks)) {
      const forgetting = this.#forgetting.get(chunk);
      if (forgetting !== undefined) gone.push(forgetting);
      else if (this.#pending.has(chunk) || this.has(chunk)) gone.push(this.#forgetOne(chunk));
    }
    // All are waited for: none is left behind that nobody listens to.
    const outcomes = await Promise.allSettled(gone);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    await this.#writer.sync();
  }

  whenStable(sequence: number, signal?: AbortSignal): Promise<void> {
    return this.#writer.whenStable(sequence, signal);
  }

  sync(): Promise<void> {
    return this.#writer.sync();
  }

  has(chunk: ChunkId): boolean {
    return this.#ledger.index.has(chunk);
  }

  describe(chunk: ChunkId): Promise<StoredChunk> {
    return this.#reader.describe(chunk);
  }

  verify(chunk: ChunkId): Promise<StoredChunk> {
    return this.#reader.verify(chunk);
  }

  read(
    chunk: ChunkId,
    offset: number,
    length: number,
    take: (bytes: number) => Buffer = Buffer.allocUnsafe,
  ): AsyncGenerator<Buffer, void, undefined> {
    return this.#reader.read(chunk, offset, length, take);
  }

  list(after: ChunkId | undefined, limit: number): ChunkId[] {
    return this.#ledger.index.list(after, limit);
  }

  stats(): StoreStats {
    const { usedBytes, liveBytes, index } = this.#ledger;
    const freeBytes = Math.max(0, this.#freeBytes() - this.#pendingBytes);
    return {
      chunkCount: index.count,
      capacityBytes: Math.min(this.#capacityBytes, usedBytes + this.#diskFreeBytes),
      usedBytes,
      deadBytes: usedBytes - liveBytes,
      freeBytes,
      full: freeBytes < RECORD_BYTES_MAX,
      inventoryDigest: index.inventoryDigest,
      unstableBytes: this.#writer.unstableBytes,
      damagedFound: this.#damaged.found,
      forgottenChunks: this.#forgottenChunks,
      compactedSegments: this.#compactor.removedSegments,
      compactedBytes: this.#compactor.copiedBytes,
      stuckSegments: this.#compactor.stuckSegments,
    };
  }

  async compact(signal?: AbortSignal): Promise<void> {
    await this.#compactor.compact(signal);
    // Who has waited for the room asks next how much there is.
    await this.#measureNow();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    this.#measureTimer.cancel();
    try {
      await this.#compactor.close();
      await this.#writer.close();
      await this.#segmentReaders.close();
      await this.#directReaders.close();
      await this.#damaged.close();
    } finally {
      await this.#lock.release();
    }
  }

  #track(chunk: ChunkId, digest: Buffer, work: Promise<PutResult>): Promise<PutResult> {
    const written = work.finally(() => this.#pending.delete(chunk));
    this.#pending.set(chunk, { digest, written });
    return written;
  }

  async #write(facts: ChunkFacts, body: ChunkBody): Promise<PutResult> {
    const bytes = recordBytes(body.frameLengths.length, body.storedLength);
    if (bytes > this.#freeBytes() - this.#pendingBytes)
      throw new CollectiveError('no_space', `Put chunk ${facts.chunk}: ${bytes} bytes do not fit above the reserve`, {
        details: { freeBytes: this.#freeBytes(), reserveBytes: this.#reserveBytes },
      });
    this.#pendingBytes += bytes;
    try {
      const { sequence } = await this.#append({ kind: 'chunk', facts, body });
      return { sequence, alreadyHere: false };
    } finally {
      this.#pendingBytes -= bytes;
    }
  }

  async #append(record: NewRecord): Promise<Appended> {
    try {
      return await this.#writer.append(record);
    } catch (error) {
      if (error instanceof CollectiveError && error.code === 'no_space')
        this.#diskFreeBytes = Math.min(this.#diskFreeBytes, this.#reserveBytes);
      throw error;
    }
  }

  /** A copy that was found damaged once is not trusted again, even if it can be read now. */
  async #replaceDamaged(facts: ChunkFacts, body: ChunkBody): Promise<PutResult> {
    const { chunk } = facts;
    const wasDamaged = this.#damaged.has(chunk);
    try {
      const stored = wasDamaged ? await this.describe(chunk) : await this.verify(chunk);
      refuseOtherDigest(facts, stored.digest);
      if (!wasDamaged) return { sequence: stored.sequence, alreadyHere: true };
    } catch (error) {
      if (!(error instanceof CollectiveError) || error.code !== 'chunk_corrupt') throw error;
    }
    return await this.#write(facts, body);
  }

  #forgetOne(chunk: ChunkId): Promise<void> {
    const done = this.#entomb(chunk).finally(() => this.#forgetting.delete(chunk));
    this.#forgetting.set(chunk, done);
    return done;
  }

  async #entomb(chunk: ChunkId): Promise<void> {
    await Promise.allSettled([this.#pending.get(chunk)?.written]);
    // The put before may have failed.
    if (!this.has(chunk)) return;
    // The other half of the reserve is for compaction, which alone gives room back.
    if (this.#freeBytes() + this.#reserveBytes < this.#reserveBytes / 2) {
      this.#compactor.wake();
      throw new CollectiveError('no_space', `Forget chunk ${chunk}: compaction has to give room back first`);
    }
    await this.#append({ kind: 'tombstone', chunk });
  }

  async #whenForgotten(chunk: ChunkId): Promise<void> {
    for (let done = this.#forgetting.get(chunk); done !== undefined; done = this.#forgetting.get(chunk))
      await Promise.allSettled([done]);
  }

  #written(record: NewRecord, { segment, offset }: Appended): void {
    const chunk = record.kind === 'chunk' ? record.facts.chunk : record.chunk;
    const wasHere = this.has(chunk);
    if (record.kind === 'chunk') {
      const { rawLength } = record.facts;
      this.#ledger.put(chunk, { segment, offset, rawLength, storedLength: record.body.storedLength });
    } else {
      this.#ledger.forgotten(chunk, { segment, offset });
      this.#forgottenChunks++;
    }
    if (this.#damaged.delete(chunk)) this.#compactor.mended();
    else if (wasHere) this.#compactor.wake();
  }

  /**
   * A start finds the records of a segment that is written to by their headers, and refuses to start where a stable one is gone
   * (D4); those of a sealed one are listed beside it. So a segment in which damage was found is sealed at once.
   */
  #sealDamaged(chunk: ChunkId): void {
    const segment = this.#ledger.index.get(chunk)?.segment;
    // A disk that fails over it is told by the writer.
    if (segment !== undefined && this.#writer.isOpen(segment)) this.#writer.sealActive().catch(() => undefined);
  }

  /** What may still be written above the reserve, of what the owner gives and of what the disk has. */
  #freeBytes(): number {
    return Math.min(this.#capacityBytes - this.#ledger.usedBytes, this.#diskFreeBytes) - this.#reserveBytes;
  }

  #segmentGrew(segment: number, bytes: number): void {
    const before = this.#ledger.usedBytes;
    this.#ledger.segmentHasSize(segment, bytes);
    this.#diskFreeBytes -= this.#ledger.usedBytes - before;
  }

  async #forgetReaders(segment: number): Promise<void> {
    await Promise.all([this.#segmentReaders.forget(segment), this.#directReaders.forget(segment)]);
  }

  #measureDisk(): void {
    if (this.#clock.bootMs() - this.#measuredAtMs >= MEASURE_EVERY_MS) void this.#measureNow();
  }

  #measureLater(): Timer {
    return this.#clock.setTimer(
      MEASURE_WITHIN_MS,
      () => {
        this.#measureDisk();
        this.#measureTimer = this.#measureLater();
      },
      { background: true },
    );
  }

  /** Never throws. */
  async #measureNow(): Promise<void> {
    this.#measuredAtMs = this.#clock.bootMs();
    try {
      this.#diskFreeBytes = (await this.#disk.space()).freeBytes;
    } catch (error) {
      this.#log.warn({ err: error }, 'disk space unknown');
    }
  }
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
