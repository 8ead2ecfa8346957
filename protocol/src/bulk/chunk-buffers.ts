/**
 * Memory of chunks for the next ones. Fresh memory for every chunk is dear twice: the kernel hands it out page by page, and the
 * garbage collector runs all the time. Who gives memory back must not use it any more; what is not given back is garbage.
 */
import { BLOCK_BYTES } from '@collective/base/limits';
import { CHUNK_FRAMES_MAX, FRAME_HEADER_BYTES } from './frame.ts';

/** The largest chunk with its frame headers, none of its frames compressed. */
export const ENCODED_BYTES_MAX = BLOCK_BYTES + CHUNK_FRAMES_MAX * FRAME_HEADER_BYTES;
/** Smaller wishes get memory of their own size, so that small chunks never hold large buffers. */
const WHOLE_FROM_BYTES = ENCODED_BYTES_MAX / 2;

export class ChunkBuffers {
  readonly #keptMax: number;
  #kept: Buffer[] = [];

  /** `keptMax` buffers of the largest chunk stay in hand. */
  constructor(keptMax: number) {
    this.#keptMax = keptMax;
  }

  /** What `take` really uses for a wish. */
  static bytesFor(length: number): number {
    return length < WHOLE_FROM_BYTES ? length : ENCODED_BYTES_MAX;
  }

  take(length: number): Buffer {
    if (length < WHOLE_FROM_BYTES) return Buffer.allocUnsafe(length);
    return (this.#kept.pop() ?? Buffer.allocUnsafeSlow(ENCODED_BYTES_MAX)).subarray(0, length);
  }

  giveBack(buffer: Buffer): void {
    if (buffer.buffer.byteLength === ENCODED_BYTES_MAX && this.#kept.length < this.#keptMax)
      this.#kept.push(Buffer.from(buffer.buffer, 0, ENCODED_BYTES_MAX));
  }
}
