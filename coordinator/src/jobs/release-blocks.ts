/**
 * Lets go of the blocks of removed and emptied files, so that their chunks become garbage (`ops/doomed-blocks.ts`). Poked
 * whenever such blocks are left behind; works until none are left.
 */
import type { Engine } from '../engine/engine.ts';
import { DOOMED_START, type DoomedCursor, releaseDoomedBlocks } from '../ops/doomed-blocks.ts';
import type { Round } from './keeper.ts';

export class BlockRelease {
  readonly #engine: Engine;
  #files = 0;
  #slices = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Since the start. */
  get released(): { readonly files: number; readonly slices: number } {
    return { files: this.#files, slices: this.#slices };
  }

  async work({ signal, progress }: Round): Promise<void> {
    let done = 0;
    let cursor: DoomedCursor | undefined = DOOMED_START;
    while (cursor !== undefined) {
      const from: DoomedCursor = cursor;
      // Lost with the power a step is made again: it need not be stable to go on.
      const step = await this.#engine.run((tx) => releaseDoomedBlocks(tx, from), { durability: 'written', signal });
      this.#files += step.files;
      this.#slices += step.slices;
      done += step.files;
      progress(done, undefined, 'files');
      cursor = step.next;
    }
  }
}
