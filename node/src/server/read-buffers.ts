/** Memory of reads for the next ones: one size for large reads, memory of their own for small ones. */
import { READ_BYTES_MAX } from '../chunk-store/chunk-store.ts';

/** Smaller reads are many, and a large buffer for each would be dear. */
const WHOLE_FROM_BYTES = READ_BYTES_MAX / 2;

export class ReadBuffers {
  readonly #keptMax: number;
  #kept: Buffer[] = [];

  constructor(keptMax: number) {
    this.#keptMax = keptMax;
  }

  /** What `take` may use for a read of so many bytes. */
  static bytesFor(length: number): number {
    return length < WHOLE_FROM_BYTES ? length : READ_BYTES_MAX;
  }

  take(length: number): Buffer {
    if (length < WHOLE_FROM_BYTES) return Buffer.allocUnsafe(length);
    return (this.#kept.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES_MAX)).subarray(0, length);
  }

  giveBack(buffer: Buffer): void {
    if (buffer.buffer.byteLength === READ_BYTES_MAX && this.#kept.length < this.#keptMax)
      this.#kept.push(Buffer.from(buffer.buffer, 0, READ_BYTES_MAX));
  }
}
