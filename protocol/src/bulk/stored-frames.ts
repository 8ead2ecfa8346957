/** Frames that lie one behind the other in memory, as a chunk store gives them, seen as frames that arrived. Checksums are not compared again. */
import { FRAME_HEADER_BYTES, type Frame, frameHeaders } from './frame.ts';

/** Throws `frame_invalid`. */
export function* storedFrames(frames: Buffer): Generator<Frame, void, undefined> {
  let at = 0;
  for (const header of frameHeaders(frames)) {
    const from = at + FRAME_HEADER_BYTES;
    at = from + header.storedLength;
    yield { ...header, payload: [frames.subarray(from, at)], release: nothingToRelease };
  }
}

function nothingToRelease(): void {
  // The memory belongs to whoever read it.
}
