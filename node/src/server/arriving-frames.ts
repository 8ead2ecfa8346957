/** Frames of a put on their way to another replica: pushed as they arrive, taken as the connection allows. At most those of one chunk. */
import type { ArrivingChunk } from '@collective/protocol/bulk/exchange';
import type { Frame } from '@collective/protocol/bulk/frame';

export class ArrivingFrames implements ArrivingChunk {
  #frames: Frame[] = [];
  #digest: Buffer = Buffer.alloc(0);
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  push(frame: Frame): void {
    this.#frames.push(frame);
    this.#wake?.();
  }

  end(digest: Buffer): void {
    this.#digest = digest;
    this.#ended = true;
    this.#wake?.();
  }

  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake?.();
  }

  digest(): Buffer {
    return this.#digest;
  }

  get arriving(): AsyncIterable<Frame> {
    return this.#take();
  }

  async *#take(): AsyncGenerator<Frame, void, undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error;
      const frame = this.#frames.shift();
      if (frame !== undefined) {
        yield frame;
        continue;
      }
      if (this.#ended) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
