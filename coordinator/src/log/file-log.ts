/**
 * The embedded log: segments in a folder, appended by one writer. One write serves all batches that wait for it, one
 * fdatasync all that wait to be stable; without anybody waiting a sync follows within LOG_SYNC_WITHIN_MS (M2).
 *
 * At a start the records above the last recorded stable mark are copied into a new segment, synced, and only then put in
 * place by a rename: after a failed fsync the page cache shows bytes that the disk never got. A later segment that begins
 * at or below the end of an earlier one takes over from there, so a crash at any point of the copy leaves a readable log.
 *
 * Cost: a batch is copied never, written once; at 1 ms a sync and 32 batches waiting the log is far from being the limit.
 */
import { assert } from '@collective/base/assert';
import type { Clock, Timer } from '@collective/base/clock';
import type { Disk, DiskFile } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import { compareEpochs, type Epoch, type LogPosition } from '@collective/base/ids';
import { LOG_SYNC_WITHIN_MS } from '@collective/base/limits';
import type { Log, LogEvents, LogRecord } from './log.ts';
import {
  anyRecordAfter,
  decodeRecord,
  decodeSegmentHeader,
  encodeRecord,
  encodeSegmentHeader,
  recordBytes,
  SEGMENT_HEADER_BYTES,
  wasStableAfter,
} from './log-record.ts';

export const SEGMENT_BYTES = 64 * 1024 * 1024;

export interface FileLogOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** Folder on the disk. */
  readonly folder: string;
  readonly segmentBytes?: number;
}

interface Segment {
  readonly index: number;
  readonly name: string;
  readonly first: LogPosition;
  bytes: number;
}

interface Waiting {
  readonly position: LogPosition;
  readonly payload: Uint8Array;
}

export class FileLog implements Log {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #folder: string;
  readonly #segmentBytes: number;
  #segments: Segment[];
  #file: DiskFile;
  #recovered: LogRecord[];
  #last: LogPosition;
  #written: LogPosition;
  #stable: LogPosition;
  #epoch: Epoch | undefined;
  #events: LogEvents | undefined;
  #queue: Waiting[] = [];
  #writing = false;
  #syncing = false;
  #hurried = false;
  #timer: Timer | undefined;
  #failure: Error | undefined;
  #idle: (() => void)[] = [];

  private constructor(
    options: FileLogOptions,
    segments: Segment[],
    file: DiskFile,
    recovered: LogRecord[],
    last: LogPosition,
  ) {
    this.#disk = options.disk;
    this.#clock = options.clock;
    this.#folder = options.folder;
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    this.#segments = segments;
    this.#file = file;
    this.#recovered = recovered;
    this.#last = last;
    this.#written = last;
    this.#stable = last;
  }

  /** Recovers what is there and makes it stable. Throws `store_damaged`, `version_too_new`. */
  static async open(options: FileLogOptions): Promise<FileLog> {
    const { disk, folder } = options;
    await disk.makeFolder(folder);
    const found = await readSegments(disk, folder);
    const stableMark = found.records.reduce((mark, record) => Math.max(mark, record.stableMark), 0);
    const tail = found.records.filter((record) => record.position > stableMark);
    const first = (tail[0]?.position ?? found.last + 1) as LogPosition;
    const index = found.indexMax + 1;
    const segment: Segment = { index, name: segmentName(index), first, bytes: SEGMENT_HEADER_BYTES };

    const aside = `${folder}/${segment.name}.new`;
    const copy = await disk.open(aside, 'create');
    const pieces: Uint8Array[] = [encodeSegmentHeader(first)];
    for (const record of tail) {
      pieces.push(...encodeRecord({ ...record, stableMark: stableMark as LogPosition }, record.payload));
      segment.bytes += recordBytes(record.payload.length);
    }
    await copy.write(0, pieces);
    await copy.sync();
    await copy.close();
    await disk.rename(aside, `${folder}/${segment.name}`);
    await disk.syncDirectory(folder);
    const file = await disk.open(`${folder}/${segment.name}`, 'write');
    return new FileLog(options, [...found.segments, segment], file, found.records, found.last);
  }

  get last(): LogPosition {
    return this.#last;
  }

  get sizeBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  async *read(after: LogPosition): AsyncIterable<LogRecord> {
    assert(this.#epoch === undefined, 'the log is read before it is appended to');
    for (const record of this.#recovered) if (record.position > after) yield record;
  }

  begin(epoch: Epoch, events: LogEvents): void {
    assert(this.#epoch === undefined, 'the log begins once');
    const newest = this.#recovered.at(-1)?.epoch;
    if (newest !== undefined && compareEpochs(newest, epoch) >= 0)
      throw new CollectiveError(
        'fenced',
        `Begin the log with epoch ${epoch.generation}.${epoch.start}: it holds records of ${newest.generation}.${newest.start}`,
      );
    this.#epoch = epoch;
    this.#events = events;
    this.#recovered = [];
  }

  append(payload: Uint8Array): LogPosition {
    assert(this.#epoch !== undefined, 'the log has begun');
    if (this.#failure !== undefined) throw this.#failure;
    this.#last = (this.#last + 1) as LogPosition;
    this.#queue.push({ position: this.#last, payload });
    if (!this.#writing) void this.#writeAll();
    return this.#last;
  }

  hurry(): void {
    this.#hurried = true;
    this.#syncWhenDue();
  }

  async truncate(through: LogPosition): Promise<void> {
    // A segment is of no more use when the next one begins at or below the first position that is still needed.
    while (this.#segments.length > 1) {
      const [oldest, next] = this.#segments;
      if (oldest === undefined || next === undefined || next.first > through + 1) return;
      this.#segments.shift();
      await this.#disk.remove(`${this.#folder}/${oldest.name}`);
      // One by one: else a power loss could bring back an older segment and not the next, which reads as a gap.
      await this.#disk.syncDirectory(this.#folder);
    }
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    if (this.#failure === undefined) {
      while (this.#writing || this.#syncing || this.#stable < this.#last) {
        this.hurry();
        if (this.#failure !== undefined) break;
        await new Promise<void>((resolve) => this.#idle.push(resolve));
      }
    }
    this.#timer?.cancel();
    await this.#file.close();
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    try {
      while (this.#queue.length > 0 && this.#failure === undefined) {
        if ((this.#segments.at(-1)?.bytes ?? 0) >= this.#segmentBytes) await this.#nextSegment();
        const segment = this.#segments.at(-1);
        const batch = this.#queue;
        this.#queue = [];
        assert(segment !== undefined && this.#epoch !== undefined, 'there is a segment to write to');
        const pieces: Uint8Array[] = [];
        let bytes = 0;
        for (const { position, payload } of batch) {
          pieces.push(...encodeRecord({ position, stableMark: this.#stable, epoch: this.#epoch }, payload));
          bytes += recordBytes(payload.length);
        }
        await this.#file.write(segment.bytes, pieces);
        segment.bytes += bytes;
        this.#written = batch.at(-1)?.position ?? this.#written;
        this.#events?.written(this.#written);
        this.#syncWhenDue();
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#writing = false;
    this.#tellIdle();
  }

  #syncWhenDue(): void {
    if (this.#failure !== undefined || this.#syncing || this.#stable >= this.#written) return;
    if (this.#hurried) {
      void this.#sync();
      return;
    }
    this.#timer ??= this.#clock.setTimer(LOG_SYNC_WITHIN_MS, () => {
      this.#timer = undefined;
      this.#hurried = true;
      this.#syncWhenDue();
    });
  }

  async #sync(): Promise<void> {
    this.#syncing = true;
    this.#hurried = false;
    this.#timer?.cancel();
    this.#timer = undefined;
    const through = this.#written;
    try {
      await this.#file.sync();
      if (this.#failure === undefined && through > this.#stable) {
        this.#stable = through;
        this.#events?.stable(through);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#syncing = false;
    this.#syncWhenDue();
    this.#tellIdle();
  }

  /** The old segment is stable before the new one exists, so only the last segment can have a torn tail. */
  async #nextSegment(): Promise<void> {
    while (this.#syncing) await new Promise<void>((resolve) => this.#idle.push(resolve));
    if (this.#failure !== undefined) throw this.#failure;
    await this.#sync();
    if (this.#failure !== undefined) throw this.#failure;
    const index = (this.#segments.at(-1)?.index ?? 0) + 1;
    const first = (this.#written + 1) as LogPosition;
    const segment: Segment = { index, name: segmentName(index), first, bytes: SEGMENT_HEADER_BYTES };
    const file = await this.#disk.open(`${this.#folder}/${segment.name}`, 'create');
    await file.write(0, [encodeSegmentHeader(first)]);
    await file.sync();
    await this.#disk.syncDirectory(this.#folder);
    const old = this.#file;
    this.#file = file;
    this.#segments.push(segment);
    await old.close();
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = new CollectiveError('disk_failed', `Write the log in ${this.#folder}`, { cause: error });
    this.#timer?.cancel();
    this.#events?.failed(this.#failure);
  }

  #tellIdle(): void {
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }
}

interface FoundLog {
  segments: Segment[];
  records: (LogRecord & { stableMark: LogPosition })[];
  last: LogPosition;
  /** Over all names, also those of segments that were created but never got a header. */
  indexMax: number;
}

async function readSegments(disk: Disk, folder: string): Promise<FoundLog> {
  const names = await disk.list(folder);
  // Left over from a start that did not finish its copy.
  for (const name of names) if (name.endsWith('.new')) await disk.remove(`${folder}/${name}`);
  const found: { segment: Segment; bytes: Buffer }[] = [];
  let indexMax = 0;
  for (const name of names.filter((each) => /^\d{10}\.log$/.test(each))) {
    indexMax = Math.max(indexMax, Number(name.slice(0, 10)));
    const file = await disk.open(`${folder}/${name}`, 'read');
    const bytes = await file.read(0, await file.size());
    await file.close();
    const first = decodeSegmentHeader(bytes, name);
    // A segment without a header was created but never written to: its header is synced before its first record.
    if (first === undefined) {
      if (anyRecordAfter(bytes, -8, 0 as LogPosition))
        throw new CollectiveError(
          'store_damaged',
          `Read log segment ${folder}/${name}: its header is damaged but records follow`,
        );
      continue;
    }
    found.push({ segment: { index: Number(name.slice(0, 10)), name, first, bytes: bytes.length }, bytes });
  }
  const records: (LogRecord & { stableMark: LogPosition })[] = [];
  let last = ((found[0]?.segment.first ?? 1) - 1) as LogPosition;
  for (const [at, { segment, bytes }] of found.entries()) {
    const next = found[at + 1]?.segment.first;
    if (segment.first > last + 1)
      throw new CollectiveError(
        'store_damaged',
        `Read log segment ${segment.name}: it begins at ${segment.first}, the one before ends at ${last}`,
      );
    // A later segment takes over from its first position on (a copy made at a start).
    while ((records.at(-1)?.position ?? 0) >= segment.first) records.pop();
    last = (segment.first - 1) as LogPosition;
    let offset = SEGMENT_HEADER_BYTES;
    while (next === undefined || last < next - 1) {
      const record = decodeRecord(bytes, offset);
      if (record === undefined || record.position !== last + 1) {
        if (next !== undefined || wasStableAfter(bytes, offset, last))
          throw new CollectiveError(
            'store_damaged',
            `Read log segment ${segment.name}: the record after position ${last} is damaged at byte ${offset}, and others follow that were written when it was stable`,
          );
        break;
      }
      records.push(record);
      last = record.position;
      offset = record.end;
    }
    segment.bytes = offset;
  }
  return { segments: found.map((each) => each.segment), records, last, indexMax };
}

function segmentName(index: number): string {
  return `${String(index).padStart(10, '0')}.log`;
}
