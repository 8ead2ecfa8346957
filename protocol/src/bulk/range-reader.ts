/**
 * Turns the DATA frames of one get into the raw bytes that were asked for: checks that they are the frames of the range, in
 * order and complete, unpacks them and trims both ends. Frames wait here until they are taken; there are at most those of a chunk.
 */
import { zstdDecompressSync } from 'node:zlib';
import { CollectiveError } from '@collective/base/errors';
import { FRAME_BYTES } from '@collective/base/limits';
import { GetEnd } from '../gen/node.ts';
import { FRAME_TYPES, type Frame, frameTypeName, payloadOf } from './frame.ts';

export interface RawPiece {
  /** In the chunk. */
  readonly offset: number;
  readonly bytes: Buffer;
  /** Optional: the bytes are no longer used and their memory may serve the next frame. Saves much when reading fast. */
  release(): void;
}

export class RangeReader {
  readonly #from: number;
  readonly #end: number;
  readonly #what: string;
  #nextOffset: number;
  #framesSeen = 0;
  #waitingFrames: Frame[] = [];
  #finished = false;
  #error: unknown;
  #failed = false;
  #wake: (() => void) | undefined;

  constructor(offset: number, length: number, what: string) {
    this.#from = offset;
    this.#end = offset + length;
    this.#what = what;
    this.#nextOffset = offset - (offset % FRAME_BYTES);
  }

  /** True when this was the last frame of the stream. */
  accept(frame: Frame): boolean {
    if (frame.type === FRAME_TYPES.GET_END) {
      this.#finish(GetEnd.decode(payloadOf(frame)).frames);
      return true;
    }
    if (frame.type !== FRAME_TYPES.DATA) this.fail(this.#invalid(`${frameTypeName(frame.type)} came instead of data`));
    else if (frame.rawOffset !== this.#nextOffset || this.#nextOffset >= this.#end)
      this.fail(this.#invalid(`the frame at ${frame.rawOffset} came, that at ${this.#nextOffset} was expected`));
    else if (frame.rawLength < FRAME_BYTES && frame.rawOffset + frame.rawLength < this.#end)
      this.fail(
        this.#invalid(
          `the frame at ${frame.rawOffset} has only ${frame.rawLength} bytes, the range goes on to ${this.#end}`,
        ),
      );
    else {
      this.#framesSeen++;
      this.#nextOffset += FRAME_BYTES;
      this.#waitingFrames.push(frame);
      this.#wake?.();
      return false;
    }
    frame.release();
    return false;
  }

  fail(error: unknown): void {
    if (this.#failed || this.#finished) return;
    this.#failed = true;
    this.#error = error;
    this.#wake?.();
  }

  /** Undefined after the last. Throws what `fail` was told. */
  async next(): Promise<RawPiece | undefined> {
    const frame = await this.nextFrame();
    return frame === undefined ? undefined : this.#unpack(frame);
  }

  /** The next frame as it came, for whoever stores frames. */
  async nextFrame(): Promise<Frame | undefined> {
    for (;;) {
      if (this.#failed) throw this.#error;
      const frame = this.#waitingFrames.shift();
      if (frame !== undefined) return frame;
      if (this.#finished) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  releaseAll(): void {
    for (const frame of this.#waitingFrames) frame.release();
    this.#waitingFrames = [];
  }

  #finish(framesSent: number): void {
    if (this.#nextOffset < this.#end || framesSent !== this.#framesSeen) {
      this.fail(
        this.#invalid(
          `it ended after ${this.#framesSeen} frames of ${framesSent}, at ${this.#nextOffset} of ${this.#end}`,
        ),
      );
      return;
    }
    this.#finished = true;
    this.#wake?.();
  }

  #unpack(frame: Frame): RawPiece {
    const whole = frame.zstd ? this.#decompress(frame) : payloadOf(frame);
    const start = Math.max(0, this.#from - frame.rawOffset);
    const end = Math.min(frame.rawLength, this.#end - frame.rawOffset);
    if (frame.zstd) frame.release();
    return {
      offset: frame.rawOffset + start,
      bytes: start === 0 && end === whole.length ? whole : whole.subarray(start, end),
      release: frame.zstd ? nothingToRelease : frame.release,
    };
  }

  #decompress(frame: Frame): Buffer {
    try {
      const raw = zstdDecompressSync(payloadOf(frame), { maxOutputLength: frame.rawLength });
      if (raw.length === frame.rawLength) return raw;
    } catch (cause) {
      throw new CollectiveError('chunk_corrupt', `${this.#what}: unpack the frame at ${frame.rawOffset}`, { cause });
    }
    throw new CollectiveError(
      'chunk_corrupt',
      `${this.#what}: the frame at ${frame.rawOffset} does not unpack to ${frame.rawLength} bytes`,
    );
  }

  #invalid(what: string): CollectiveError {
    return new CollectiveError('frame_invalid', `${this.#what}: ${what}`);
  }
}

function nothingToRelease(): void {
  // Unpacked bytes have memory of their own.
}
