/**
 * The embedded log: segments in a folder, appended by one writer. One write serves all batches that wait for it, one
 * fdatasync all that wait to be stable; without anybody waiting a sync follows within LOG_SYNC_WITHIN_MS (M2).
 * `log-recovery.ts` is what happens at a start.
 *
 * Cost: a batch is copied never, written once; at 1 ms a sync and 32 batches waiting the log is far from being the limit.
 */
import { assert } from '@collective/base/assert';
import type { Clock, Timer } from '@collective/base/clock';
import type { Disk, DiskFile } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import { compareEpochs, type Epoch, type LogPosition } from '@collective/base/ids';
import { LOG_SYNC_WITHIN_MS } from '@collective/base/limits';
import type { Random } from '@collective/base/random';
import type { Log, LogEvents, LogRecord } from './log.ts';
import { encodeRecord, encodeSegmentHeader, RECORD_PAYLOAD_BYTES_MAX, recordBytes } from './log-record.ts';
import { newSegment, type RecoveredLog, recoverLog, type Segment } from './log-recovery.ts';

export const SEGMENT_BYTES = 64 * 1024 * 1024;
/** One that is shorter gives too little back for the sync and the file that it costs. */
const SEGMENT_BYTES_LEAST = 1024 * 1024;

export interface FileLogOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** For the salts of segments: not to be foreseen by who stores data. */
  readonly random: Random;
  /** Folder on the disk. */
  readonly folder: string;
  readonly segmentBytes?: number;
}

interface Waiting {
  readonly position: LogPosition;
  readonly payload: Uint8Array;
}

export class FileLog implements Log {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #folder: string;
  readonly #segmentBytes: number;
  readonly #segments: Segment[];
  #file: DiskFile;
  #recovered: readonly LogRecord[];
  #last: LogPosition;
  #written: LogPosition;
  #stable: LogPosition;
  #epoch: Epoch | undefined;
  #events: LogEvents | undefined;
  #queue: Waiting[] = [];
  #writing = false;
  #syncing = false;
  #hurried = false;
  #endsSegment = false;
  #timer: Timer | undefined;
  #failure: Error | undefined;
  #closed = false;
  #idle: (() => void)[] = [];

  private constructor(options: FileLogOptions, recovered: RecoveredLog) {
    this.#disk = options.disk;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#folder = options.folder;
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES;
    this.#segments = recovered.segments;
    this.#file = recovered.file;
    this.#recovered = recovered.records;
    this.#last = recovered.last;
    this.#written = recovered.last;
    this.#stable = recovered.last;
  }

  /** Recovers what is there and makes it stable. Throws `store_damaged`, `version_too_new`. */
  static async open(options: FileLogOptions): Promise<FileLog> {
    return new FileLog(options, await recoverLog(options.disk, options.folder, options.random));
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
    assert(!this.#closed, 'nothing is appended to a log that was closed');
    // A longer one would be written, acknowledged, and then taken for damage at the next start.
    assert(payload.length <= RECORD_PAYLOAD_BYTES_MAX, `a batch has at most ${RECORD_PAYLOAD_BYTES_MAX} bytes`);
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

  endSegment(): void {
    this.#endsSegment = (this.#segments.at(-1)?.bytes ?? 0) >= SEGMENT_BYTES_LEAST;
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
    assert(!this.#closed, 'a log is closed once');
    this.#closed = true;
    // Also after a failure: a descriptor that is closed under a running write may by then be another file's.
    while (this.#writing || this.#syncing || (this.#failure === undefined && this.#stable < this.#last)) {
      this.hurry();
      await this.#becomesIdle();
    }
    this.#timer?.cancel();
    await this.#file.close();
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    try {
      while (this.#queue.length > 0 && this.#failure === undefined) {
        if (this.#endsSegment || (this.#segments.at(-1)?.bytes ?? 0) >= this.#segmentBytes) await this.#nextSegment();
        const segment = this.#segments.at(-1);
        const batch = this.#queue;
        this.#queue = [];
        assert(segment !== undefined && this.#epoch !== undefined, 'there is a segment to write to');
        const pieces: Uint8Array[] = [];
        let bytes = 0;
        for (const { position, payload } of batch) {
          pieces.push(
            ...encodeRecord(segment.salt, { position, stableMark: this.#stable, epoch: this.#epoch }, payload),
          );
          bytes += recordBytes(payload.length);
        }
        await this.#file.write(segment.bytes, pieces);
        if (this.#failure !== undefined) break;
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
    if (this.#failure !== undefined || this.#stable >= this.#written) return;
    if (this.#hurried) {
      if (!this.#syncing) void this.#sync();
      return;
    }
    // Also while another sync runs: its duration is part of the time that is allowed.
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
    while (this.#syncing) await this.#becomesIdle();
    if (this.#failure !== undefined) throw this.#failure;
    await this.#sync();
    if (this.#failure !== undefined) throw this.#failure;
    this.#endsSegment = false;
    const index = (this.#segments.at(-1)?.index ?? 0) + 1;
    const segment = newSegment(index, (this.#written + 1) as LogPosition, this.#random);
    const file = await this.#disk.open(`${this.#folder}/${segment.name}`, 'create');
    await file.write(0, [encodeSegmentHeader(segment)]);
    await file.sync();
    await this.#disk.syncDirectory(this.#folder);
    const old = this.#file;
    this.#file = file;
    this.#segments.push(segment);
    await old.close();
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    const code = error instanceof CollectiveError && error.code === 'no_space' ? 'no_space' : 'disk_failed';
    this.#failure = new CollectiveError(code, `Write the log in ${this.#folder}`, { cause: error });
    this.#timer?.cancel();
    this.#events?.failed(this.#failure);
  }

  #becomesIdle(): Promise<void> {
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #tellIdle(): void {
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }
}
