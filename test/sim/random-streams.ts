/**
 * Random numbers of one run, a stream for each part of the world: a part that draws more or less than it did, or a new kind of fault,
 * leaves the numbers of the others as they were, so that kept seeds keep most of their story when the simulation grows.
 */
import { crc32 } from '@collective/base/crc';
import { type Random, SeededRandom } from '@collective/base/random';

export type RandomStreams = (part: string) => Random;

/** SeededRandom takes 53 bits: the seed is the lower half, the part's name makes the rest. */
export function randomStreams(seed: number): RandomStreams {
  return (part) => new SeededRandom((seed % 2 ** 32) + (crc32(Buffer.from(part)) % 2 ** 21) * 2 ** 32);
}
