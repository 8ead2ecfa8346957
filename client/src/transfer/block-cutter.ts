/** Cuts a source into the blocks of a file (D1) without copying: a block is the list of pieces that make it up. */
import { BLOCK_BYTES } from '@collective/base/limits';
import type { WriteSource } from '../api.ts';

export interface CutBlock {
  readonly index: number;
  readonly pieces: readonly Uint8Array[];
  readonly length: number;
}

/** `startBlock`: index of the first block, when an upload goes on. */
export async function* cutBlocks(source: WriteSource, startBlock = 0): AsyncGenerator<CutBlock, void, undefined> {
  let index = startBlock;
  let pieces: Uint8Array[] = [];
  let length = 0;
  for await (const given of piecesOf(source)) {
    let piece = given;
    while (piece.length > 0) {
      const part = piece.subarray(0, BLOCK_BYTES - length);
      pieces.push(part);
      length += part.length;
      piece = piece.subarray(part.length);
      if (length < BLOCK_BYTES) continue;
      yield { index, pieces, length };
      index++;
      pieces = [];
      length = 0;
    }
  }
  if (length > 0) yield { index, pieces, length };
}

function piecesOf(source: WriteSource): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  return source instanceof Uint8Array ? [source] : source;
}

/** All zeros: stored as a hole. */
export function isHole(block: CutBlock): boolean {
  return block.pieces.every((piece) => {
    for (let at = 0; at < piece.length; at += ZEROS.length) {
      const part = piece.subarray(at, at + ZEROS.length);
      if (ZEROS.compare(part, 0, part.length, 0, part.length) !== 0) return false;
    }
    return true;
  });
}

const ZEROS = Buffer.alloc(64 * 1024);
