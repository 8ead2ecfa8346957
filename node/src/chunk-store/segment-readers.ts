/** Segments open for reading: a bounded number, the one used longest ago is closed first, none while it is being read. */
import type { Disk, DiskFile } from '@collective/base/disk';
import { segmentPath } from './segment.ts';

const OPEN_MAX = 128;

interface Reader {
  readonly file: Promise<DiskFile>;
  users: number;
}

export class SegmentReaders {
  readonly #disk: Disk;
  /** In order of last use. */
  readonly #readers = new Map<number, Reader>();

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  async use<T>(segment: number, act: (file: DiskFile) => Promise<T>): Promise<T> {
    const reader = this.#readers.get(segment) ?? { file: this.#disk.open(segmentPath(segment), 'read'), users: 0 };
    this.#readers.delete(segment);
    this.#readers.set(segment, reader);
    reader.users++;
    try {
      return await act(await reader.file);
    } catch (error) {
      // A segment that could not be opened is tried anew next time.
      if (this.#readers.get(segment) === reader && reader.users === 1) await this.#forget(segment, reader);
      throw error;
    } finally {
      reader.users--;
      await this.#closeSurplus();
    }
  }

  async close(): Promise<void> {
    for (const [segment, reader] of [...this.#readers]) await this.#forget(segment, reader);
  }

  async #closeSurplus(): Promise<void> {
    if (this.#readers.size <= OPEN_MAX) return;
    for (const [segment, reader] of this.#readers) {
      if (reader.users > 0) continue;
      await this.#forget(segment, reader);
      return;
    }
  }

  async #forget(segment: number, reader: Reader): Promise<void> {
    this.#readers.delete(segment);
    const opened = await Promise.allSettled([reader.file]);
    for (const result of opened) if (result.status === 'fulfilled') await result.value.close();
  }
}
