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
import { EmptyingSegments } from './emptying-segments.ts';
import { EntryList, type SidecarEntry } from './entry-list.ts';
import { type SegmentRecords, selectNeeded } from './needed-records.ts';
import {
  type CompactionPlan,
  type CompactionRules,
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
import { SEGMENT_FOLDER, segmentPath, sidecarPath } from './segment.ts';
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
/** Looked at, or entered at their new places, before others have a turn. */
const RECORDS_A_TURN = 4_096;
/** What a pass makes dead, tombstones above all, the next ones take. */
const PASSES = 3;

export interface CompactorOptions {
  readonly folder: SegmentFolder;
  readonly clock: Clock;
  readonly random: Random;
  readonly ledger: RecordLedger;
  readonly writer: SegmentWriter;
  readonly readers: Pick<SegmentReaders, 'forget'>;
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

interface Source extends SegmentRecords {
  readonly needed: EntryList;
}

/** From which segment which records of the copy came, in their order. */
interface Originals {
  readonly segment: number;
  readonly entries: EntryList;
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
  readonly #emptying: EmptyingSegments;
  #timer: { readonly timer: Timer; readonly atMs: number } | undefined;
  /** What is just being emptied may be worth a copy then. */
  #againInMs: number | undefined;
  #working: Promise<void> | undefined;
  #lookAgain = false;
  #removedSegments = 0;
  #copiedBytes = 0;

  constructor(options: CompactorOptions) {
    this.#options = options;
    this.#emptying = new EmptyingSegments(options.clock);
  }

  get removedSegments(): number {
    return this.#removedSegments;
  }

  get copiedBytes(): number {
    return this.#copiedBytes;
  }

  get stuckSegments(): number {
    return this.#stuck.size;
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
    this.#cancelTimer();
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
    this.#cancelTimer();
    await this.#working;
    this.#rejectAll(this.#closing.signal.reason);
  }

  #lookIn(delayMs: number): void {
    if (this.#closing.signal.aborted || this.#working !== undefined) return;
    const { clock } = this.#options;
    const atMs = clock.bootMs() + delayMs;
    if (this.#timer !== undefined && this.#timer.atMs <= atMs) return;
    this.#cancelTimer();
    const timer = clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      this.#work();
    });
    this.#timer = { timer, atMs };
  }

  #cancelTimer(): void {
    this.#timer?.timer.cancel();
    this.#timer = undefined;
  }

  #work(): void {
    this.#working ??= this.#workAll().finally(() => {
      this.#working = undefined;
      if (this.#lookAgain) this.#lookIn(LOOK_AFTER_MS);
      else if (this.#againInMs !== undefined) this.#lookIn(this.#againInMs);
    });
  }

  /** Never throws. */
  async #workAll(): Promise<void> {
    const { folder, writer } = this.#options;
    this.#lookAgain = false;
    this.#againInMs = undefined;
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
        this.#againInMs = RETRY_AFTER_MS;
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
      const plan = demand === undefined ? this.#ownPlan() : this.#planOf({ deadShareMin: 0, upTo: demand.upTo });
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

  #ownPlan(): CompactionPlan {
    if (this.#options.isFull()) return this.#planOf({ deadShareMin: DEAD_SHARE_MIN_WHEN_FULL });
    const { emptying, againInMs } = this.#emptying.look(this.#options.ledger.segments());
    this.#againInMs = againInMs;
    return this.#planOf({ deadShareMin: DEAD_SHARE_MIN, emptying });
  }

  #planOf({
    upTo = Number.POSITIVE_INFINITY,
    ...rules
  }: Omit<CompactionRules, 'segmentBytes'> & { readonly upTo?: number }): CompactionPlan {
    const { ledger, writer, segmentBytes } = this.#options;
    const states: SegmentState[] = ledger
      .segments()
      .filter(({ segment }) => segment <= upTo && !this.#stuck.has(segment))
      .map((use) => ({ ...use, open: writer.isOpen(use.segment) }));
    return planCompaction(states, { segmentBytes, ...rules });
  }

  async #perform(plan: CompactionPlan): Promise<void> {
    const { writer, folder } = this.#options;
    if (plan.retire) {
      await writer.sealActive();
      return;
    }
    try {
      if (plan.remove.length > 0) for (const segment of plan.remove) await this.#take([segment]);
      else await this.#take(plan.rewrite);
    } catch (error) {
      if (!(error instanceof StuckSource)) throw error;
      this.#stuck.add(error.segment);
      folder.log.error({ segment: error.segment, err: error.cause }, 'segment cannot be compacted');
    }
  }

  /** Copies what is needed of the segments, and removes them in their order. */
  async #take(segments: readonly number[]): Promise<void> {
    const { ledger, writer } = this.#options;
    const records: SegmentRecords[] = [];
    for (const segment of segments) records.push(await this.#recordsOf(segment));
    const needed = await this.#inTurns(selectNeeded(ledger, records));
    const sources = records.map((source, i) => ({ ...source, needed: needed[i] ?? new EntryList() }));
    if (sources.some((source) => source.needed.length > 0)) await this.#copy(sources);
    // What outranks the dead records must not be lost while they are gone.
    await writer.sync();
    for (const source of sources) await this.#remove(source);
  }

  async #recordsOf(segment: number): Promise<SegmentRecords> {
    try {
      return { segment, entries: (await readSealed(this.#options.folder, segment)).entries };
    } catch (error) {
      throw new StuckSource(segment, error);
    }
  }

  async #copy(sources: readonly Source[]): Promise<void> {
    const { folder, random, ledger, writer, onRoomChanged } = this.#options;
    const copy = await SegmentCopy.begin({
      ...folder,
      segment: writer.takeSegmentNumber(),
      salt: random.bytes(SALT_BYTES),
      firstSequence: await this.#inTurns(lowestSequence(sources)),
    });
    const originals: Originals[] = [];
    try {
      for (const source of sources) originals.push(await this.#copySource(source, copy));
      await copy.finish();
    } catch (error) {
      await copy.discard();
      throw error;
    }
    ledger.segmentHasSize(copy.segment, copy.bytes);
    onRoomChanged();
    await this.#inTurns(switchPlaces(ledger, originals, copy));
    folder.log.info(
      {
        from: sources.map(({ segment }) => segment),
        to: copy.segment,
        records: copy.entries.length,
        bytes: copy.bytes,
      },
      'segments compacted',
    );
  }

  /** Answers what was copied. */
  async #copySource({ segment, needed }: Source, copy: SegmentCopy): Promise<Originals> {
    const { folder } = this.#options;
    let file: DiskFile;
    try {
      file = await folder.disk.open(segmentPath(segment), 'read');
    } catch (error) {
      throw new StuckSource(segment, error);
    }
    const entries = new EntryList();
    let unsynced = 0;
    try {
      for await (const swept of sweepRecords((offset, into) => file.readInto(offset, into), needed)) {
        const records: CopiedRecord[] = [];
        for (const record of swept) {
          const copied = await this.#judge(segment, record);
          if (copied === undefined) continue;
          records.push(copied);
          entries.push(record.entry);
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
    return { segment, entries };
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
    await this.#inTurns(ledger.removed(segment, entries));
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

  /** Lets whatever else waits have a turn between two steps. */
  async #inTurns<T>(steps: Generator<void, T, undefined>): Promise<T> {
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
      await new Promise<void>((resolve) => this.#options.clock.defer(resolve));
    }
  }

  #rejectAll(error: unknown): void {
    for (const { done } of this.#demands) done.reject(error);
    this.#demands.clear();
  }
}

function* lowestSequence(sources: readonly Source[]): Generator<void, number, undefined> {
  let lowest = Number.MAX_SAFE_INTEGER;
  let looked = 0;
  for (const { needed } of sources)
    for (const { sequence } of needed) {
      lowest = Math.min(lowest, sequence);
      if (++looked % RECORDS_A_TURN === 0) yield;
    }
  return lowest;
}

/** From here on each record counts at its new place; a crash would find both, and go by the higher segment. */
function* switchPlaces(
  ledger: RecordLedger,
  originals: readonly Originals[],
  copy: SegmentCopy,
): Generator<void, void, undefined> {
  let i = 0;
  for (const { segment, entries } of originals)
    for (const entry of entries) {
      ledger.copied(segment, entry, { segment: copy.segment, offset: copy.entries.at(i).offset });
      if (++i % RECORDS_A_TURN === 0) yield;
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
