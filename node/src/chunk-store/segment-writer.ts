/**
 * The only place that writes new records. Appends go one after the other, gathered while the write before is under way; a sync
 * serves all that wait for it. Sequence numbers follow the order in the file.
 *
 * A sync that fails is never tried again (D4): the kernel may have dropped the very pages that it could not write and would call
 * the next sync a success. The writer fails for good, everything not yet stable fails with it, and the process must end.
 */
import { assert } from '@collective/base/assert';
import type { Clock, Timer, Timestamp } from '@collective/base/clock';
import { type Disk, type DiskFile, replaceWhole } from '@collective/base/disk';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { ChunkId } from '@collective/base/ids';
import { CHUNK_SYNC_WITHIN_MS } from '@collective/base/limits';
import type { Log } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import type { ChunkFacts } from './chunk-store.ts';
import type { DiskIdentity } from './disk-identity.ts';
import { EntryList } from './entry-list.ts';
import { encodeRecordHeader, recordBytes, recordPadding, SALT_BYTES, TOMBSTONE_BYTES } from './record.ts';
import {
  encodeSegmentHeader,
  encodeSidecar,
  SEGMENT_FOLDER,
  SEGMENT_HEADER_BYTES,
  segmentPath,
  sidecarPath,
} from './segment.ts';

/** One write to the file. */
const BATCH_BYTES_MAX = 8 * 1024 * 1024;
/** So many unstable bytes are synced without waiting for the timer: a sync then takes tens of milliseconds, not seconds. */
const SYNC_AT_BYTES = 64 * 1024 * 1024;
/** Leaves the other half of the promised time to the sync itself. */
const SYNC_AFTER_MS = CHUNK_SYNC_WITHIN_MS / 2;

export interface Appended {
  readonly sequence: number;
  readonly segment: number;
  readonly offset: number;
}

/** The frames of a chunk and what was read from their headers. */
export interface ChunkBody {
  readonly frames: readonly Buffer[];
  readonly frameLengths: readonly number[];
  readonly storedLength: number;
}

export type NewRecord =
  | { readonly kind: 'chunk'; readonly facts: ChunkFacts; readonly body: ChunkBody }
  | { readonly kind: 'tombstone'; readonly chunk: ChunkId };

interface Append {
  readonly record: NewRecord;
  readonly bytes: number;
  readonly done: PromiseWithResolvers<Appended>;
}

interface OpenSegment {
  readonly segment: number;
  readonly file: DiskFile;
  readonly salt: Buffer;
  tail: number;
  readonly entries: EntryList;
  /** No more writes: may be sealed after the next sync. */
  retired: boolean;
}

interface StableWaiter {
  readonly sequence: number;
  readonly wake: (error: CollectiveError | undefined) => void;
}

export interface SegmentWriterOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** For the salts of segments: not to be foreseen by who stores chunks. */
  readonly random: Random;
  readonly log: Log;
  readonly identity: DiskIdentity;
  readonly nextSegment: number;
  readonly segmentBytes: number;
  /** Called in order, before `append` resolves. */
  onWritten(record: NewRecord, place: Appended): void;
  /** The segment grew to this size. */
  onSegmentSize(segment: number, bytes: number): void;
  onSynced(): void;
  onFailed(error: CollectiveError): void;
}

export class SegmentWriter {
  readonly #options: SegmentWriterOptions;
  /** Written to, or not sealed yet. */
  readonly #open = new Map<number, OpenSegment>();
  readonly #dirty = new Set<OpenSegment>();
  #queue: Append[] = [];
  #active: OpenSegment | undefined;
  #nextSegment: number;
  #lastSequence: number;
  #writtenSequence: number;
  #stableSequence: number;
  #unstableBytes = 0;
  #writing: Promise<void> | undefined;
  #syncing: Promise<void> | undefined;
  /** Cleared in the same turn in which the loop looked last, so that no append falls between. */
  #writerRuns = false;
  #syncerRuns = false;
  #syncWanted = false;
  #retireWanted = false;
  #timer: Timer | undefined;
  #waiters: StableWaiter[] = [];
  #failed: CollectiveError | undefined;
  #closed = false;

  constructor(options: SegmentWriterOptions) {
    this.#options = options;
    this.#nextSegment = options.nextSegment;
    this.#lastSequence = options.identity.incarnation * 2 ** 32;
    this.#writtenSequence = this.#lastSequence;
    this.#stableSequence = this.#lastSequence;
  }

  get stableSequence(): number {
    return this.#stableSequence;
  }

  get writtenSequence(): number {
    return this.#writtenSequence;
  }

  get unstableBytes(): number {
    return this.#unstableBytes;
  }

  append(record: NewRecord): Promise<Appended> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    if (this.#closed)
      return Promise.reject(
        new CollectiveError(
          'shutting_down',
          `Write a ${record.kind} of chunk ${chunkOf(record)}: the store is closing`,
        ),
      );
    const done = Promise.withResolvers<Appended>();
    this.#queue.push({ record, bytes: bytesOf(record), done });
    if (!this.#writerRuns) this.#writing = this.#writeAll();
    return done.promise;
  }

  /** Written to, or not stable and sealed yet. */
  isOpen(segment: number): boolean {
    return this.#open.has(segment);
  }

  /** The records so far of a segment that is not sealed; undefined for any other. */
  entriesOf(segment: number): EntryList | undefined {
    return this.#open.get(segment)?.entries.copy();
  }

  /** The number of a segment that somebody else makes. */
  takeSegmentNumber(): number {
    return this.#nextSegment++;
  }

  /** Resolves when all that is written now lies in sealed segments. */
  async sealActive(): Promise<void> {
    if (this.#writerRuns) {
      this.#retireWanted = true;
      await this.#writing;
    } else {
      this.#retire();
    }
    if (this.#dirty.size > 0) this.#wantSync();
    await this.#syncing;
    if (this.#failed !== undefined) throw this.#failed;
  }

  whenStable(sequence: number, signal?: AbortSignal): Promise<void> {
    if (sequence <= this.#stableSequence) return Promise.resolve();
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    assert(sequence <= this.#writtenSequence, `sequence ${sequence} was given before somebody waits for it`);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        reject(signal?.reason);
      };
      const waiter: StableWaiter = {
        sequence,
        wake: (error) => {
          signal?.removeEventListener('abort', onAbort);
          if (error === undefined) resolve();
          else reject(error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push(waiter);
      this.#wantSync();
    });
  }

  /** Makes stable what is written now. */
  async sync(): Promise<void> {
    await this.whenStable(this.#writtenSequence);
  }

  /** Writes what was accepted, makes it stable and seals, so that the next start has nothing to repair. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#writing;
    this.#retire();
    if (this.#failed === undefined && this.#dirty.size > 0) this.#wantSync();
    await this.#syncing;
    this.#timer?.cancel();
    await this.#closeFiles();
  }

  async #writeAll(): Promise<void> {
    this.#writerRuns = true;
    while (this.#queue.length > 0 && this.#failed === undefined) {
      if (this.#retireWanted) this.#retire();
      const batch = this.#takeBatch();
      try {
        await this.#writeBatch(batch);
      } catch (error) {
        const failure = toCollectiveError(error, 'Write chunks to a segment', 'disk_failed');
        if (failure.code !== 'no_space') this.fail(failure);
        for (const append of batch) append.done.reject(failure);
      }
    }
    if (this.#retireWanted) this.#retire();
    this.#writerRuns = false;
  }

  #takeBatch(): Append[] {
    let bytes = 0;
    let count = 0;
    for (const append of this.#queue) {
      if (count > 0 && bytes + append.bytes > BATCH_BYTES_MAX) break;
      bytes += append.bytes;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  async #writeBatch(batch: readonly Append[]): Promise<void> {
    const batchBytes = batch.reduce((sum, append) => sum + append.bytes, 0);
    const segment = await this.#segmentFor(batchBytes);
    const time = this.#options.clock.now();
    const buffers: Uint8Array[] = [];
    const places: Appended[] = [];
    let offset = segment.tail;
    for (const { record, bytes } of batch) {
      const place = { sequence: ++this.#lastSequence, segment: segment.segment, offset };
      places.push(place);
      buffers.push(...this.#encode(record, place, segment.salt, time));
      offset += bytes;
    }
    try {
      await segment.file.write(segment.tail, buffers);
    } catch (error) {
      await this.#cutBack(segment, error);
      throw error;
    }
    segment.tail = offset;
    this.#written(segment, batch, places, batchBytes);
  }

  #encode(record: NewRecord, { sequence, offset }: Appended, salt: Buffer, time: Timestamp): Uint8Array[] {
    const { diskId, incarnation } = this.#options.identity;
    const stamp = { time, incarnation, sequence, stableSequence: this.#stableSequence, diskId, salt, offset };
    if (record.kind === 'tombstone') return [encodeRecordHeader({ ...record, ...stamp })];
    const { frames, frameLengths, storedLength } = record.body;
    const header = encodeRecordHeader({ kind: 'chunk', ...record.facts, ...stamp, storedLength, frameLengths });
    const padding = recordPadding(frameLengths.length, storedLength);
    return [header, ...frames, ...(padding > 0 ? [Buffer.alloc(padding)] : [])];
  }

  #written(segment: OpenSegment, batch: readonly Append[], places: readonly Appended[], batchBytes: number): void {
    this.#writtenSequence = this.#lastSequence;
    this.#unstableBytes += batchBytes;
    this.#dirty.add(segment);
    this.#options.onSegmentSize(segment.segment, segment.tail);
    batch.forEach(({ record, done }, i) => {
      const place = places[i];
      assert(place !== undefined, 'a place for each append');
      segment.entries.push({
        kind: record.kind,
        chunk: chunkOf(record),
        offset: place.offset,
        rawLength: record.kind === 'chunk' ? record.facts.rawLength : 0,
        storedLength: record.kind === 'chunk' ? record.body.storedLength : 0,
        sequence: place.sequence,
      });
      this.#options.onWritten(record, place);
      done.resolve(place);
    });
    if (this.#unstableBytes >= SYNC_AT_BYTES) this.#wantSync();
    else
      this.#timer ??= this.#options.clock.setTimer(SYNC_AFTER_MS, () => {
        this.#timer = undefined;
        this.#wantSync();
      });
  }

  /** A write that found no room may have left a part: it must not be taken for a record that was lost. */
  async #cutBack(segment: OpenSegment, error: unknown): Promise<void> {
    if (!(error instanceof CollectiveError) || error.code !== 'no_space') return;
    await segment.file.truncate(segment.tail);
  }

  async #segmentFor(batchBytes: number): Promise<OpenSegment> {
    if (this.#active !== undefined && this.#active.tail + batchBytes > this.#options.segmentBytes) this.#retire();
    this.#active ??= await this.#createSegment();
    return this.#active;
  }

  async #createSegment(): Promise<OpenSegment> {
    const { disk, identity, random } = this.#options;
    const salt = random.bytes(SALT_BYTES);
    const segment = this.#nextSegment++;
    const path = segmentPath(segment);
    const file = await disk.open(path, 'create');
    try {
      const header = {
        segment,
        diskId: identity.diskId,
        firstSequence: this.#lastSequence + 1,
        incarnation: identity.incarnation,
        salt,
      };
      await file.write(0, [encodeSegmentHeader(header)]);
      // Before there is a record: without the salt none could be found again.
      await file.sync();
      // Before a record in it can be called stable its name must be.
      await disk.syncDirectory(SEGMENT_FOLDER);
    } catch (error) {
      await file.close();
      await disk.remove(path);
      throw error;
    }
    this.#options.onSegmentSize(segment, SEGMENT_HEADER_BYTES);
    const open = { segment, file, salt, tail: SEGMENT_HEADER_BYTES, entries: new EntryList(), retired: false };
    this.#open.set(segment, open);
    return open;
  }

  #retire(): void {
    this.#retireWanted = false;
    if (this.#active === undefined) return;
    this.#active.retired = true;
    this.#dirty.add(this.#active);
    this.#active = undefined;
  }

  #wantSync(): void {
    this.#syncWanted = true;
    if (this.#failed !== undefined) return;
    if (!this.#syncerRuns) this.#syncing = this.#syncAll();
  }

  async #syncAll(): Promise<void> {
    this.#syncerRuns = true;
    while (this.#failed === undefined && this.#syncWanted && this.#dirty.size > 0) {
      this.#syncWanted = false;
      try {
        await this.#syncOnce();
      } catch (error) {
        this.fail(toCollectiveError(error, 'Make chunks stable', 'disk_failed'));
      }
      if (this.#waiters.length > 0) this.#syncWanted = true;
    }
    this.#syncerRuns = false;
  }

  async #syncOnce(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const sequence = this.#writtenSequence;
    const bytes = this.#unstableBytes;
    const segments = [...this.#dirty];
    this.#dirty.clear();
    const retired = segments.filter((segment) => segment.retired);
    for (const { file } of segments) await file.sync();
    this.#stableSequence = sequence;
    this.#unstableBytes -= bytes;
    const reached = this.#waiters.filter((waiter) => waiter.sequence <= sequence);
    this.#waiters = this.#waiters.filter((waiter) => waiter.sequence > sequence);
    for (const waiter of reached) waiter.wake(undefined);
    this.#options.onSynced();
    for (const segment of retired) await this.#seal(segment);
  }

  async #seal(segment: OpenSegment): Promise<void> {
    const { disk, identity, log } = this.#options;
    const sidecar = {
      segment: segment.segment,
      diskId: identity.diskId,
      segmentBytes: segment.tail,
      entries: segment.entries,
    };
    try {
      await replaceWhole(disk, sidecarPath(segment.segment), encodeSidecar(sidecar));
    } catch (error) {
      // Without a sidecar the next start copies the segment: slower, not wrong.
      if (!(error instanceof CollectiveError) || error.code !== 'no_space') throw error;
      log.warn({ segment: segment.segment, err: error }, 'segment not sealed');
    }
    this.#open.delete(segment.segment);
    await segment.file.close();
  }

  /** The disk failed: nothing more is written, and nothing that is not stable yet will be. */
  fail(error: CollectiveError): void {
    if (this.#failed !== undefined) return;
    this.#failed = error;
    this.#timer?.cancel();
    const waiters = this.#waiters;
    const queue = this.#queue;
    this.#waiters = [];
    this.#queue = [];
    for (const waiter of waiters) waiter.wake(error);
    for (const append of queue) append.done.reject(error);
    this.#options.onFailed(error);
  }

  async #closeFiles(): Promise<void> {
    const open = [...this.#dirty, ...(this.#active === undefined ? [] : [this.#active])];
    this.#dirty.clear();
    this.#active = undefined;
    for (const { file } of open) await file.close();
  }
}

function chunkOf(record: NewRecord): ChunkId {
  return record.kind === 'chunk' ? record.facts.chunk : record.chunk;
}

function bytesOf(record: NewRecord): number {
  if (record.kind === 'tombstone') return TOMBSTONE_BYTES;
  return recordBytes(record.body.frameLengths.length, record.body.storedLength);
}
