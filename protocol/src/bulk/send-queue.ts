/**
 * What a TLS connection has still to send. One write is with the socket at a time, so that TLS takes large buffers as they are:
 * several waiting writes would be copied into one by Node. Small parts are gathered into one write for the same reason
 * turned round: a TLS record and a system call for 24 bytes would be dear.
 */
import { stampStream } from './frame.ts';

/** A part of at least so many bytes is written alone, without a copy. */
const ALONE_BYTES = 64 * 1024;
/** Small parts are gathered up to about this. */
const GATHER_BYTES_MAX = 256 * 1024;

interface QueuedPart {
  readonly bytes: Uint8Array;
  readonly stream: number | undefined;
  readonly onSent: (() => void) | undefined;
}

/** What goes into one write, and who wants to know that it is done. */
export interface NextWrite {
  readonly bytes: Uint8Array;
  readonly onSent: readonly (() => void)[];
}

export class SendQueue {
  #parts: QueuedPart[] = [];
  #head = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  push(parts: readonly Uint8Array[], stream: number | undefined, onSent: (() => void) | undefined): void {
    const last = parts.length - 1;
    parts.forEach((bytes, index) => {
      this.#bytes += bytes.length;
      this.#parts.push({ bytes, stream, onSent: index === last ? onSent : undefined });
    });
  }

  /** The bytes count as queued until `sent`. */
  next(): NextWrite | undefined {
    const first = this.#parts[this.#head];
    if (first === undefined) return undefined;
    const taken: QueuedPart[] = [];
    let takenBytes = 0;
    while (this.#head < this.#parts.length) {
      const part = this.#parts[this.#head];
      if (part === undefined) break;
      const large = part.bytes.length >= ALONE_BYTES;
      if (taken.length > 0 && (large || takenBytes + part.bytes.length > GATHER_BYTES_MAX)) break;
      taken.push(part);
      takenBytes += part.bytes.length;
      this.#head++;
      if (large) break;
    }
    this.#forgetTaken();
    const onSent = taken.flatMap((part) => (part.onSent === undefined ? [] : [part.onSent]));
    return { bytes: taken.length === 1 ? stamped(first) : gathered(taken, takenBytes), onSent };
  }

  sent(write: NextWrite): void {
    this.#bytes = Math.max(0, this.#bytes - write.bytes.length);
    for (const done of write.onSent) done();
  }

  /** Tells all who wait that their bytes are free. */
  clear(): void {
    const left = this.#parts.slice(this.#head);
    this.#parts = [];
    this.#head = 0;
    this.#bytes = 0;
    for (const part of left) part.onSent?.();
  }

  #forgetTaken(): void {
    if (this.#head < 256 && this.#head < this.#parts.length) return;
    this.#parts = this.#parts.slice(this.#head);
    this.#head = 0;
  }
}

function stamped(part: QueuedPart): Uint8Array {
  if (part.stream !== undefined) stampStream(asBuffer(part.bytes), part.stream);
  return part.bytes;
}

/** Stamps the copy: the same frame may be in this write more than once, with different streams. */
function gathered(parts: readonly QueuedPart[], length: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part.bytes, at);
    if (part.stream !== undefined) stampStream(bytes.subarray(at, at + part.bytes.length), part.stream);
    at += part.bytes.length;
  }
  return bytes;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
