/**
 * Which places of a chunk a reader is sent to: those on the disk that their node has now, without what was found damaged.
 * When nothing else is left, a damaged copy is better than none: damage costs the frames that it is in (D5), and two copies
 * that are damaged in different places serve every byte together (D6).
 */
import type { ReplicaPlace } from '../tables/gen/tables.ts';

export function readablePlaces(
  places: readonly ReplicaPlace[],
  diskOf: (node: string) => string | undefined,
): readonly ReplicaPlace[] {
  const present = places.filter(({ node, disk }) => diskOf(node) === disk);
  const sound = present.filter(({ damaged }) => !damaged);
  return sound.length > 0 ? sound : present;
}
