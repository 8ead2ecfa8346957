/**
 * Which nodes take the replicas of the next chunks: a pure function over a picture of the nodes. The first replica is drawn
 * by free space, each further one likewise among the zones that have none yet, and only then among the rest: two copies in
 * one house burn together.
 */
import { type Random, randomUnit } from '@collective/base/random';

interface Zoned {
  readonly name: string;
  /** Empty: no label; such nodes count as zones of their own. */
  readonly zone: string;
}

export interface NodeCandidate extends Zoned {
  /** Bytes it can take above its reserve. */
  readonly freeBytes: number;
}

/** `sets` replica sets of up to `wanted` distinct nodes each; empty when no candidate has room. */
export function chooseReplicas(
  candidates: readonly NodeCandidate[],
  wanted: number,
  sets: number,
  random: Random,
): string[][] {
  const usable = candidates.filter(({ freeBytes }) => freeBytes > 0);
  if (usable.length === 0) return [];
  return Array.from({ length: sets }, () => chooseSet(usable, wanted, random));
}

/** One more node beside those that have a replica already; undefined when no candidate has room. */
export function chooseNext<Candidate extends NodeCandidate>(
  chosen: readonly Zoned[],
  candidates: readonly Candidate[],
  random: Random,
): Candidate | undefined {
  const usable = candidates.filter(({ freeBytes }) => freeBytes > 0);
  if (usable.length === 0) return undefined;
  const fresh = usable.filter((candidate) => chosen.every((other) => zoneOf(other) !== zoneOf(candidate)));
  return drawByFreeSpace(fresh.length > 0 ? fresh : usable, random);
}

function chooseSet(usable: readonly NodeCandidate[], wanted: number, random: Random): string[] {
  const chosen: NodeCandidate[] = [];
  let left = [...usable];
  while (chosen.length < wanted) {
    const next = chooseNext(chosen, left, random);
    if (next === undefined) break;
    chosen.push(next);
    left = left.filter((candidate) => candidate.name !== next.name);
  }
  return chosen.map(({ name }) => name);
}

/** What must not hold two copies of a chunk while there are others: a labelled zone, or else the node itself. */
export function zoneOf({ zone, name }: Zoned): string {
  return zone === '' ? `node:${name}` : `zone:${zone}`;
}

function drawByFreeSpace<Candidate extends NodeCandidate>(from: readonly Candidate[], random: Random): Candidate {
  const total = from.reduce((sum, { freeBytes }) => sum + freeBytes, 0);
  let at = randomUnit(random) * total;
  for (const candidate of from) {
    at -= candidate.freeBytes;
    if (at < 0) return candidate;
  }
  const last = from.at(-1);
  if (last === undefined) throw new RangeError('Draw one of no nodes');
  return last;
}
