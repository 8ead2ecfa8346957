/**
 * Gives back the room of dead records (D4): copies what counts of worn segments to a new one, makes that stable, enters the new
 * places, and only then removes the old files. What outranks a dead record, its tombstone or a newer record of its chunk, is made
 * stable before the dead one leaves the disk. A crash at any point leaves a store that says the same.
 *
 * It is woken by what makes records dead, works in steps, one at a time, and copies no more bytes a second than it is allowed to.
 * Reads, puts and forgets go on meanwhile. A record that cannot be copied because its header is damaged keeps its
 * segment where it is until its chunk is replaced or forgotten.
 */
import { type Clock, sleep, type Timer } from '@collective/base/clock';
import type { DiskFile } from '@collective/base/disk';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { ChunkId } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import type { DamagedChunks } from './damaged-chunks.ts';
import {
  type CompactionPlan,
  DEAD_SHARE_MIN,
  DEAD_SHARE_MIN_WHEN_FULL,
  planCompaction,
  type SegmentState,
} from './plan-compaction.ts';
import {
  type ChunkHeader,
  decodeRecordHeader,
  recordBytesOf,
  recordHeaderBytes,
  SALT_BYTES,
  type TombstoneHeader,
} from './record.ts';
import type { RecordLedger } from './record-ledger.ts';
import { SEGMENT_FOLDER, type SidecarEntry, segmentPath, sidecarPath } from './segment.ts';
import { type CopiedRecord, SegmentCopy } from './segment-copy.ts';
import { readSealed, type SegmentFolder } from './segment-entries.ts';
import type { SegmentReaders } from './segment-readers.ts';
import { type SweptRecord, sweepRecords } from './segment-sweep.ts';
import type { SegmentWriter } from './segment-writer.ts';
import { verifyHeader, verifyRecord } from './verify-record.ts';

/** Copied by the store itself, so that those who use the disk hardly notice. */
export const COMPACTION_BYTES_PER_SECOND = 32 * 1024 * 1024;
/** Forgets come in bursts: one look for many. */
const LOOK_AFTER_MS = 1_000;
/** After it found no room, or could not read. */
const RETRY_AFTER_MS = 30_000;
/** What is copied goes to the disk in portions, so that no put waits behind a whole segment. */
const SYNC_EVERY_BYTES = 32 * 1024 * 1024;
/** New places entered in one turn. */
const SWITCHED_AT_ONCE = 4_096;
/** What a pass makes dead, tombstones above all, the next ones take. */
const PASSES = 3;

export interface CompactorOptions {
  readonly folder: SegmentFolder;
  readonly clock: Clock;
  readonly random: Random;
  readonly ledger: RecordLedger;
  readonly writer: SegmentWriter;
  readonly readers: SegmentReaders;
  readonly damaged: DamagedChunks;
  readonly segmentBytes: number;
  readonly bytesPerSecond?: number;
  /** Nothing large can be put any more. */
  isFull(): boolean;
  /** A segment appeared or went: room was taken or given back. */
  onRoomChanged(): void;
}

interface Demand {
  passesLeft: number;
  /** Segments up to this one must hold nothing dead. */
  upTo: number;
  readonly done: PromiseWithResolvers<void>;
}

interface Source {
  readonly segment: number;
  readonly entries: readonly SidecarEntry[];
  readonly needed: readonly SidecarEntry[];
}

/** Where a record of the copy came from. */
interface Original {
  readonly segment: number;
  readonly entry: SidecarEntry;
}

/** A source cannot be copied now, and nothing else is wrong. */
class StuckSource extends Error {
  readonly segment: number;

  constructor(segment: number, cause: unknown) {
    super(`Segment ${segment} cannot be copied`, { cause });
    this.segment = segment;
  }
}

export class Compactor {
  readonly #options: CompactorOptions;
  readonly #closing = new AbortController();
  /** Segments that cannot be copied as they are. */
  readonly #stuck = new Set<number>();
  readonly #demands = new Set<Demand>();
  /** Aborted when somebody does not want to wait for the pace, or at the end. */
  #hurry = new AbortController();
  #timer: Timer | undefined;
  #working: Promise<void> | undefined;
  #lookAgain = false;
  #removedSegments = 0;
  #copiedBytes = 0;

  constructor(options: CompactorOptions) {
    this.#options = options;
  }

  get removedSegments(): number {
    return this.#removedSegments;
  }

  get copiedBytes(): number {
    return this.#copiedBytes;
  }

  /** Something became dead: looks soon whether there is something to do. */
  wake(): void {
    this.#lookAgain = true;
    this.#lookIn(LOOK_AFTER_MS);
  }

  /** A damaged chunk was replaced or forgotten. */
  mended(): void {
    this.#stuck.clear();
    this.wake();
  }

  /** At full speed until nothing is left of what is dead now. Throws `no_space`, `disk_failed` or the signal's reason. */
  async compact(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    const demand: Demand = { passesLeft: PASSES, upTo: 0, done: Promise.withResolvers() };
    const onAbort = (): void => demand.done.reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#stuck.clear();
    this.#demands.add(demand);
    this.#hurry.abort();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#work();
    try {
      await demand.done.promise;
    } finally {
      this.#demands.delete(demand);
      signal?.removeEventListener('abort', onAbort);
      if (this.#demands.size === 0 && !this.#closing.signal.aborted) this.#hurry = new AbortController();
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new CollectiveError('shutting_down', 'Compact segments: the store is closing'));
    this.#hurry.abort();
    this.#timer?.cancel();
    await this.#working;
    this.#rejectAll(this.#closing.signal.reason);
  }

  #lookIn(delayMs: number): void {
    if (this.#closing.signal.aborted || this.#working !== undefined) return;
    this.#timer ??= this.#options.clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      this.#work();
    });
  }

  #work(): void {
    this.#working ??= this.#workAll().finally(() => {
      this.#working = undefined;
      if (this.#lookAgain) this.#lookIn(LOOK_AFTER_MS);
    });
  }

  /** Never throws. */
  async #workAll(): Promise<void> {
    const { folder, writer } = this.#options;
    this.#lookAgain = false;
    try {
      while (!this.#closing.signal.aborted) {
        const plan = this.#nextPlan();
        if (plan === undefined) return;
        await this.#perform(plan);
      }
    } catch (thrown) {
      if (this.#closing.signal.aborted) return;
      const error = toCollectiveError(thrown, 'Compact segments', 'disk_failed');
      this.#rejectAll(error);
      if (error.code === 'no_space') {
        folder.log.warn({ err: error }, 'no room to compact segments');
        this.#timer = this.#options.clock.setTimer(RETRY_AFTER_MS, () => {
          this.#timer = undefined;
          this.#work();
        });
        this.#lookAgain = false;
      } else {
        // What a failed sync or a failed removal leaves is for the next start to judge (D4).
        writer.fail(error);
      }
    }
  }

  /** Undefined when there is nothing to do. */
  #nextPlan(): CompactionPlan | undefined {
    for (;;) {
      const [demand] = this.#demands;
      const plan = demand === undefined ? this.#planOf(this.#ownShare()) : this.#planOf(0, demand.upTo);
      if (plan.retire || plan.remove.length > 0 || plan.rewrite.length > 0) return plan;
      if (demand === undefined) return undefined;
      if (demand.passesLeft-- > 0) {
        demand.upTo = this.#options.ledger.segments().at(-1)?.segment ?? 0;
      } else {
        this.#demands.delete(demand);
        demand.done.resolve();
      }
    }
  }

  #ownShare(): number {
    return this.#options.isFull() ? DEAD_SHARE_MIN_WHEN_FULL : DEAD_SHARE_MIN;
  }

  #planOf(deadShareMin: number, upTo = Number.POSITIVE_INFINITY): CompactionPlan {
    const { ledger, writer, segmentBytes } = this.#options;
    const states: SegmentState[] = ledger
      .segments()
      .filter(({ segment }) => segment <= upTo && !this.#stuck.has(segment))
      .map((use) => ({ ...use, open: writer.isOpen(use.segment) }));
    return planCompaction(states, { segmentBytes, deadShareMin });
  }

  async #perform(plan: CompactionPlan): Promise<void> {
    const { writer, folder } = this.#options;
    if (plan.retire) {
      await writer.sealActive();
      return;
    }
    const group = plan.remove.length > 0 ? plan.remove : plan.rewrite;
    try {
      const sources: Source[] = [];
      for (const segment of group) sources.push(await this.#sourceOf(segment));
      if (sources.some(({ needed }) => needed.length > 0)) await this.#copy(sources);
      // What outranks the dead records must not be lost while they are gone.
      await writer.sync();
      for (const source of sources) await this.#remove(source);
    } catch (error) {
      if (!(error instanceof StuckSource)) throw error;
      this.#stuck.add(error.segment);
      folder.log.error({ segment: error.segment, err: error.cause }, 'segment cannot be compacted');
    }
  }

  async #sourceOf(segment: number): Promise<Source> {
    const { folder, ledger } = this.#options;
    try {
      const { entries } = await readSealed(folder, segment);
      return { segment, entries, needed: ledger.neededOf(segment, entries) };
    } catch (error) {
      throw new StuckSource(segment, error);
    }
  }

  async #copy(sources: readonly Source[]): Promise<void> {
    const { folder, random, ledger, writer, onRoomChanged } = this.#options;
    const needed = sources.flatMap((source) => source.needed);
    const copy = await SegmentCopy.begin({
      ...folder,
      segment: writer.takeSegmentNumber(),
      salt: random.bytes(SALT_BYTES),
      firstSequence: needed.reduce((lowest, { sequence }) => Math.min(lowest, sequence), Number.MAX_SAFE_INTEGER),
    });
    const originals: Original[] = [];
    try {
      for (const source of sources) await this.#copySource(source, copy, originals);
      await copy.finish();
    } catch (error) {
      await copy.discard();
      throw error;
    }
    ledger.segmentHasSize(copy.segment, copy.bytes);
    onRoomChanged();
    // From here on each record counts at its new place; a crash would find both, and go by the higher segment.
    for (const [i, { segment, entry }] of originals.entries()) {
      if (i > 0 && i % SWITCHED_AT_ONCE === 0) await this.#nextTurn();
      ledger.copied(segment, entry, { segment: copy.segment, offset: copy.entries[i]?.offset ?? 0 });
    }
    folder.log.info(
      { from: sources.map(({ segment }) => segment), to: copy.segment, records: originals.length, bytes: copy.bytes },
      'segments compacted',
    );
  }

  async #copySource({ segment, needed }: Source, copy: SegmentCopy, originals: Original[]): Promise<void> {
    const { folder } = this.#options;
    let file: DiskFile;
    try {
      file = await folder.disk.open(segmentPath(segment), 'read');
    } catch (error) {
      throw new StuckSource(segment, error);
    }
    let unsynced = 0;
    try {
      for await (const swept of sweepRecords((offset, into) => file.readInto(offset, into), needed)) {
        const records: CopiedRecord[] = [];
        for (const record of swept) {
          const copied = await this.#judge(segment, record);
          if (copied === undefined) continue;
          records.push(copied);
          originals.push({ segment, entry: record.entry });
        }
        const before = copy.bytes;
        await copy.add(records);
        const added = copy.bytes - before;
        unsynced += added;
        this.#copiedBytes += added;
        if (unsynced >= SYNC_EVERY_BYTES) {
          await copy.sync();
          unsynced = 0;
        }
        await this.#pace(added);
      }
    } finally {
      await file.close();
    }
  }

  /**
   * What is copied of a record. One with damaged frames is copied as it is: reads of it fail there as here. A chunk's record
   * whose header cannot be read keeps its segment; a tombstone is written anew.
   */
  async #judge(segment: number, { entry, bytes, error }: SweptRecord): Promise<CopiedRecord | undefined> {
    const { damaged, folder } = this.#options;
    if (entry.kind === 'tombstone') {
      const header = error === undefined ? tombstoneOf(bytes, entry) : undefined;
      if (header !== undefined) return { header, rest: Buffer.alloc(0) };
      folder.log.warn({ segment, chunk: entry.chunk }, 'damaged tombstone written anew');
      await this.#entombAgain(entry.chunk);
      return undefined;
    }
    if (error !== undefined || bytes.length < recordBytesOf(entry)) {
      damaged.add(entry.chunk);
      throw new StuckSource(segment, error);
    }
    let header: ChunkHeader;
    try {
      header = verifyRecord(bytes, entry);
    } catch {
      damaged.add(entry.chunk);
      try {
        header = verifyHeader(bytes, entry);
      } catch (cause) {
        throw new StuckSource(segment, cause);
      }
    }
    return { header, rest: bytes.subarray(recordHeaderBytes(header.frameLengths.length)) };
  }

  /** Where the chunk is here again, its newer record does what the tombstone did. */
  async #entombAgain(chunk: ChunkId): Promise<void> {
    const { ledger, writer } = this.#options;
    if (!ledger.index.has(chunk)) await writer.append({ kind: 'tombstone', chunk });
  }

  async #remove({ segment, entries }: Source): Promise<void> {
    const { folder, ledger, readers, onRoomChanged } = this.#options;
    const { disk, log } = folder;
    await disk.remove(segmentPath(segment));
    // Before the sidecar goes: a segment without one would be taken for one that was being written.
    await disk.syncDirectory(SEGMENT_FOLDER);
    await readers.forget(segment);
    await disk.remove(sidecarPath(segment));
    ledger.removed(segment, entries);
    this.#removedSegments++;
    onRoomChanged();
    log.debug({ segment }, 'segment removed');
  }

  async #pace(bytes: number): Promise<void> {
    const { clock, bytesPerSecond = COMPACTION_BYTES_PER_SECOND } = this.#options;
    this.#closing.signal.throwIfAborted();
    if (this.#demands.size > 0) return;
    await Promise.allSettled([sleep(clock, (bytes / bytesPerSecond) * 1000, this.#hurry.signal)]);
    this.#closing.signal.throwIfAborted();
  }

  #nextTurn(): Promise<void> {
    return new Promise((resolve) => this.#options.clock.defer(resolve));
  }

  #rejectAll(error: unknown): void {
    for (const { done } of this.#demands) done.reject(error);
    this.#demands.clear();
  }
}

function tombstoneOf(bytes: Buffer, entry: SidecarEntry): TombstoneHeader | undefined {
  try {
    const header = decodeRecordHeader(bytes);
    return header.kind === 'tombstone' && header.chunk === entry.chunk && header.offset === entry.offset
      ? header
      : undefined;
  } catch {
    return undefined;
  }
}
