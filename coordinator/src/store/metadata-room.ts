/**
 * Room on the coordinator's own disk. Below a reserve everything that makes the metadata larger is refused, while what is read,
 * taken away or needed by sessions goes on: without the reserve nothing could be removed either. It looks again all the time, and
 * lets the metadata grow again by itself when there is clearly more room than that.
 *
 * Pages of the database that hold nothing any more count as room, since they are used before the file grows; but not beyond
 * what the disk itself has, because the log is written beside it.
 */

import { formatByteSize } from '@collective/base/byte-size';
import type { Clock, Timer } from '@collective/base/clock';
import type { Disk } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import type { Growth } from '../ops/context.ts';

const MiB = 1024 * 1024;
/** Of a new member's 64 MiB and more it leaves what its first files need; a start needs 8 MiB. */
export const METADATA_RESERVE_BYTES = 32 * MiB;
/** Growing goes on from here: else it would stop and go with each file. */
export const METADATA_RESUME_BYTES = 48 * MiB;
/** Below it log and write-ahead log are kept short. */
export const METADATA_TIGHT_BYTES = 128 * MiB;
/** At a hundred megabytes a second the reserve is not used up between two looks. */
const LOOK_EVERY_MS = 250;

export function roomOf({ freeBytes, reusableBytes }: { freeBytes: number; reusableBytes: number }): number {
  return Math.min(2 * freeBytes, freeBytes + reusableBytes);
}

export function isFull(wasFull: boolean, roomBytes: number): boolean {
  return roomBytes < (wasFull ? METADATA_RESUME_BYTES : METADATA_RESERVE_BYTES);
}

export interface MetadataRoomParts {
  readonly clock: Clock;
  readonly disk: Pick<Disk, 'space'>;
  /** In pages of the database. */
  reusableBytes(): number;
  /** Growing is refused from now on, or goes on again. */
  onChange(isFull: boolean, roomBytes: number): void;
  readonly log: Log;
}

export class MetadataRoom implements Growth, Disposable {
  readonly #parts: MetadataRoomParts;
  #roomBytes = Number.MAX_SAFE_INTEGER;
  #isFull = false;
  #isBlind = false;
  #timer: Timer | undefined;
  #closed = false;

  /** Has looked once. */
  static async open(parts: MetadataRoomParts): Promise<MetadataRoom> {
    const room = new MetadataRoom(parts);
    await room.#look();
    room.#lookLater();
    return room;
  }

  private constructor(parts: MetadataRoomParts) {
    this.#parts = parts;
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  get isTight(): boolean {
    return this.#roomBytes < METADATA_TIGHT_BYTES;
  }

  require(what: string): void {
    if (!this.#isFull) return;
    throw new CollectiveError(
      'metadata_full',
      `${what}: the coordinator's disk has room for ${formatByteSize(this.#roomBytes)} of metadata, and keeps ${formatByteSize(METADATA_RESUME_BYTES)} so that files can be removed`,
      { details: { roomBytes: this.#roomBytes } },
    );
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #lookLater(): void {
    if (this.#closed) return;
    this.#timer = this.#parts.clock.setTimer(
      LOOK_EVERY_MS,
      () => {
        this.#look()
          .catch((error: unknown) => this.#cannotSee(error))
          .finally(() => this.#lookLater());
      },
      { background: true },
    );
  }

  async #look(): Promise<void> {
    const { disk, reusableBytes, onChange } = this.#parts;
    const { freeBytes } = await disk.space();
    if (this.#closed) return;
    this.#isBlind = false;
    this.#roomBytes = roomOf({ freeBytes, reusableBytes: reusableBytes() });
    const now = isFull(this.#isFull, this.#roomBytes);
    if (now === this.#isFull) return;
    this.#isFull = now;
    onChange(now, this.#roomBytes);
  }

  /** What was seen last goes on to hold. */
  #cannotSee(error: unknown): void {
    if (!this.#isBlind) this.#parts.log.warn({ err: error }, 'room for metadata unknown');
    this.#isBlind = true;
  }
}
