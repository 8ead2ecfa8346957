/**
 * Segments open for reading: a bounded number, the one used longest ago is closed first, none while it is being read. A segment
 * that was removed is read to the end by whoever has begun; its room is free when the last of them is done.
 */
import type { Disk, DiskFile } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import { segmentPath } from './segment.ts';

interface Reader {
  readonly file: Promise<DiskFile>;
  users: number;
  /** Closed by the last user. */
  retired: boolean;
}

export class SegmentReaders {
  readonly #disk: Disk;
  readonly #mode: 'read' | 'readDirect';
  readonly #openMax: number;
  /** In order of last use. */
  readonly #readers = new Map<number, Reader>();
  #closed = false;

  constructor(disk: Disk, { mode, openMax }: { readonly mode: 'read' | 'readDirect'; readonly openMax: number }) {
    this.#disk = disk;
    this.#mode = mode;
    this.#openMax = openMax;
  }

  /** Throws what opening throws, `not_found` for a segment that is gone. */
  async use<T>(segment: number, act: (file: DiskFile) => Promise<T>): Promise<T> {
    if (this.#closed) throw new CollectiveError('shutting_down', `Read segment ${segment}: the store is closed`);
    const reader = this.#readers.get(segment) ?? {
      file: this.#disk.open(segmentPath(segment), this.#mode),
      users: 0,
      retired: false,
    };
    this.#readers.delete(segment);
    this.#readers.set(segment, reader);
    reader.users++;
    try {
      return await act(await reader.file);
    } catch (error) {
      // A segment that could not be opened is tried anew next time.
      if (this.#readers.get(segment) === reader) this.#retire(segment, reader);
      throw error;
    } finally {
      reader.users--;
      if (reader.retired && reader.users === 0) await closeFile(reader);
      await this.#closeSurplus();
    }
  }

  /** The segment was removed. */
  async forget(segment: number): Promise<void> {
    const reader = this.#readers.get(segment);
    if (reader === undefined) return;
    this.#retire(segment, reader);
    if (reader.users === 0) await closeFile(reader);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const segment of [...this.#readers.keys()]) await this.forget(segment);
  }

  #retire(segment: number, reader: Reader): void {
    this.#readers.delete(segment);
    reader.retired = true;
  }

  async #closeSurplus(): Promise<void> {
    if (this.#readers.size <= this.#openMax) return;
    for (const [segment, reader] of this.#readers) {
      if (reader.users > 0) continue;
      await this.forget(segment);
      return;
    }
  }
}

async function closeFile(reader: Reader): Promise<void> {
  const opened = await Promise.allSettled([reader.file]);
  for (const result of opened) if (result.status === 'fulfilled') await result.value.close();
}
