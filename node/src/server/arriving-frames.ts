/** Frames of a put on their way to another replica: pushed as they arrive, taken as the connection allows. At most those of one chunk. */
import type { ArrivingChunk } from '@collective/protocol/bulk/exchange';

export class ArrivingFrames implements ArrivingChunk {
  #frames: Buffer[] = [];
  #digest: Buffer = Buffer.alloc(0);
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  push(frames: Buffer): void {
    this.#frames.push(frames);
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

  get arriving(): AsyncIterable<Buffer> {
    return this.#take();
  }

  async *#take(): AsyncGenerator<Buffer, void, undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error;
      const frames = this.#frames.shift();
      if (frames !== undefined) {
        yield frames;
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
