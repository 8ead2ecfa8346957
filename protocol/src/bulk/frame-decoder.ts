/**
 * Turns a byte stream into verified frames, without I/O. Two ways in, because sockets come in two kinds:
 * `push` takes the pieces that a TLS server socket emits (16 KiB each) and keeps views of them: no copy; `space` and
 * `filled` let a client socket read straight into the frame's own buffer: no copy either and no memory per read.
 *
 * After an error the stream has no frame borders any more: the decoder refuses further bytes.
 */
import { crc32 } from '@collective/base/crc';
import { CollectiveError } from '@collective/base/errors';
import { FRAME_BYTES } from '@collective/base/limits';
import { badChecksum, FRAME_HEADER_BYTES, type Frame, type FrameHeader, readFrameHeader } from './frame.ts';

/** Payload buffers kept for the next frames; 4 MiB. */
const SPARE_BUFFERS_MAX = 32;
/** Smaller payloads get a buffer of their own size: they are many, and keeping 128 KiB for each would be dear. */
const SPARE_FROM_BYTES = 32 * 1024;

export class FrameDecoder {
  readonly #emit: (frame: Frame) => void;
  readonly #headerBytes = Buffer.alloc(FRAME_HEADER_BYTES);
  #headerFilled = 0;
  #header: FrameHeader | undefined;
  #pieces: Uint8Array[] = [];
  #payloadFilled = 0;
  #crc = 0;
  #buffer: Buffer | undefined;
  #spare: Buffer[] = [];
  #failed: CollectiveError | undefined;

  constructor(emit: (frame: Frame) => void) {
    this.#emit = emit;
  }

  /** Bytes of a frame that is not whole yet. At the end of a stream it must be 0. */
  get pendingBytes(): number {
    return this.#headerFilled + this.#payloadFilled;
  }

  /** Takes ownership of `piece`: frames keep views of it. */
  push(piece: Buffer): void {
    this.#refuseAfterFailure();
    let at = 0;
    while (at < piece.length) {
      if (this.#header === undefined) {
        const taken = Math.min(FRAME_HEADER_BYTES - this.#headerFilled, piece.length - at);
        this.#headerBytes.set(piece.subarray(at, at + taken), this.#headerFilled);
        at += taken;
        this.#headerGrew(taken);
        continue;
      }
      const taken = Math.min(this.#header.storedLength - this.#payloadFilled, piece.length - at);
      const view = piece.subarray(at, at + taken);
      this.#pieces.push(view);
      this.#crc = crc32(view, this.#crc);
      this.#payloadFilled += taken;
      at += taken;
      if (this.#payloadFilled === this.#header.storedLength) this.#complete(this.#header);
    }
  }

  /** Where the next bytes go; never empty. Say with `filled` how many came. */
  space(): Buffer {
    this.#refuseAfterFailure();
    if (this.#header === undefined) return this.#headerBytes.subarray(this.#headerFilled);
    this.#buffer ??= this.#takeBuffer(this.#header.storedLength);
    return this.#buffer.subarray(this.#payloadFilled, this.#header.storedLength);
  }

  filled(count: number): void {
    if (this.#header === undefined) {
      this.#headerGrew(count);
      return;
    }
    this.#payloadFilled += count;
    if (this.#payloadFilled < this.#header.storedLength || this.#buffer === undefined) return;
    const payload = this.#buffer.subarray(0, this.#header.storedLength);
    this.#crc = crc32(payload, this.#crc);
    this.#pieces.push(payload);
    this.#complete(this.#header);
  }

  #headerGrew(count: number): void {
    this.#headerFilled += count;
    if (this.#headerFilled < FRAME_HEADER_BYTES) return;
    try {
      this.#header = readFrameHeader(this.#headerBytes);
    } catch (error) {
      throw this.#fail(error);
    }
    this.#crc = crc32(this.#headerBytes.subarray(8));
    if (this.#header.storedLength === 0) this.#complete(this.#header);
  }

  #complete(header: FrameHeader): void {
    if (this.#crc !== header.crc) throw this.#fail(badChecksum(header, this.#crc));
    const buffer = this.#buffer;
    const payload = this.#pieces;
    this.#header = undefined;
    this.#headerFilled = 0;
    this.#pieces = [];
    this.#payloadFilled = 0;
    this.#buffer = undefined;
    this.#emit({ ...header, payload, release: buffer === undefined ? nothingToRelease : this.#releaseOnce(buffer) });
  }

  #takeBuffer(length: number): Buffer {
    if (length < SPARE_FROM_BYTES) return Buffer.allocUnsafe(length);
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(FRAME_BYTES);
  }

  #releaseOnce(buffer: Buffer): () => void {
    let held: Buffer | undefined = buffer;
    return () => {
      if (held !== undefined && held.length === FRAME_BYTES && this.#spare.length < SPARE_BUFFERS_MAX)
        this.#spare.push(held);
      held = undefined;
    };
  }

  #fail(error: unknown): unknown {
    this.#failed =
      error instanceof CollectiveError
        ? error
        : new CollectiveError('frame_invalid', 'Read a bulk frame', { cause: error });
    return error;
  }

  #refuseAfterFailure(): void {
    if (this.#failed !== undefined) throw this.#failed;
  }
}

function nothingToRelease(): void {
  // The payload is made of the socket's own pieces; the garbage collector has them.
}
