/**
 * Which copies move so that nodes are used evenly (D8): pure functions over what lies on each node by the rows of chunks, not by
 * what its disk has in use, where what was moved away lies dead until compaction.
 *
 * A move takes from a node above the average of all shares and gives to one below it, and takes neither across it. So each move makes
 * the sum of all distances smaller: whatever the order, nothing moves back, and it ends. Zones are never fewer for a chunk
 * than before.
 */
import type { Random } from '@collective/base/random';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { zoneOf } from './choose-replicas.ts';
import { type NodePicture, type PicturedNode, relieving } from './node-picture.ts';
import { type DropAction, type Place, planRepair } from './plan-repair.ts';

/** Nodes are even when none is further from the average than this share of its capacity, or than half of what begins a rebalance. */
const EVEN_SHARE = 0.02;

export interface ChunkMove {
  readonly from: Place;
  readonly to: Place;
  /** Nodes to copy it from. */
  readonly sources: readonly string[];
}

/** What lies on each node that takes part: those that take new chunks and are there. */
export class NodeLoads {
  readonly #bytes = new Map<string, number>();
  readonly #capacity = new Map<string, number>();
  readonly #average: number;

  /** `bytes`: of the copies that stay. */
  constructor(bytes: ReadonlyMap<string, number>, picture: NodePicture) {
    let all = 0;
    let capacity = 0;
    for (const node of picture.values()) {
      if (node.duty !== 'active' || node.heard === 'away' || node.capacityBytes === 0) continue;
      this.#bytes.set(node.name, bytes.get(node.name) ?? 0);
      this.#capacity.set(node.name, node.capacityBytes);
      all += bytes.get(node.name) ?? 0;
      capacity += node.capacityBytes;
    }
    this.#average = capacity === 0 ? 0 : all / capacity;
  }

  get nodes(): readonly string[] {
    return [...this.#bytes.keys()];
  }

  /** Above the average, as a share of capacity; below it: negative. Undefined: it does not take part. */
  excess(node: string, moreBytes = 0): number | undefined {
    const bytes = this.#bytes.get(node);
    const capacity = this.#capacity.get(node);
    return bytes === undefined || capacity === undefined ? undefined : (bytes + moreBytes) / capacity - this.#average;
  }

  /** How far the node that is furthest from the average is from it. */
  get spread(): number {
    return Math.max(0, ...this.nodes.map((node) => Math.abs(this.excess(node) ?? 0)));
  }

  moved({ from, to }: ChunkMove, bytes: number): void {
    this.#bytes.set(from.node, (this.#bytes.get(from.node) ?? 0) - bytes);
    this.#bytes.set(to.node, (this.#bytes.get(to.node) ?? 0) + bytes);
  }
}

/** The spread at which a rebalance that was begun at `percent` ends; 0: asked for by a person. */
export function evenEnough(percent: number): number {
  return percent === 0 ? EVEN_SHARE : Math.min(EVEN_SHARE, percent / 200);
}

/** Where a copy of this chunk should move; undefined: it is well as it is, or nothing better can be done with it. */
export function planMove(
  row: Pick<ChunkRow, 'replicas' | 'storedLength'>,
  wanted: number,
  loads: NodeLoads,
  even: number,
  { picture, random }: { readonly picture: NodePicture; readonly random: Random },
): ChunkMove | undefined {
  const bytes = row.storedLength;
  const holders = row.replicas.flatMap(({ node }) => picture.get(node) ?? []);
  if (holders.length !== row.replicas.length || row.replicas.length !== wanted) return undefined;
  const byExcess = (a: string, b: string): number => (loads.excess(a) ?? 0) - (loads.excess(b) ?? 0);
  const givers = row.replicas
    .filter(({ node }) => (loads.excess(node, -bytes) ?? -1) >= 0)
    .sort((a, b) => byExcess(b.node, a.node));
  if (givers.length === 0 || holders.some(({ heard, duty }) => heard === 'away' || duty === 'draining'))
    return undefined;
  const takers = [...picture.values()]
    .filter((node) => canTake(node, bytes, loads) && !holders.some(({ name }) => name === node.name))
    .sort((a, b) => byExcess(a.name, b.name));
  for (const { node, disk } of givers)
    for (const taker of takers) {
      if (!isWorth(node, taker.name, loads, even)) break;
      const left = holders.filter(({ name }) => name !== node);
      if (zonesOf([...left, taker]) < zonesOf(holders)) continue;
      const to = { node: taker.name, disk: taker.disk };
      const copy = { ...to, stable: true, damaged: false, incarnation: taker.incarnation, sequence: 0 };
      // What repair would do with one too many.
      const drop = planRelief({ ...row, replicas: [...row.replicas, copy] }, wanted, node, { picture, random });
      if (drop !== undefined) return { from: { node, disk }, to, sources: holders.map(({ name }) => name) };
    }
  return undefined;
}

/** The copy on this node goes, and nothing else is to be done; undefined: that is not so. */
export function planRelief(
  row: Pick<ChunkRow, 'replicas' | 'storedLength'>,
  wanted: number,
  node: string,
  { picture, random }: { readonly picture: NodePicture; readonly random: Random },
): DropAction | undefined {
  const [goes, ...others] = planRepair(row, wanted, relieving(picture, node), random).actions;
  const isIt = goes?.kind === 'drop' && goes.forgets && others.length === 0 && goes.place.node === node;
  return isIt ? { ...goes, relieves: true } : undefined;
}

/** One of the two is further from the average than it may be. */
function isWorth(giver: string, taker: string, loads: NodeLoads, even: number): boolean {
  return (loads.excess(giver) ?? 0) > even || (loads.excess(taker) ?? 0) < -even;
}

function canTake(node: PicturedNode, bytes: number, loads: NodeLoads): boolean {
  if (node.heard !== 'ready' || node.duty !== 'active' || node.freeBytes <= bytes) return false;
  const excess = loads.excess(node.name, bytes);
  return excess !== undefined && excess <= 0;
}

function zonesOf(nodes: readonly PicturedNode[]): number {
  return new Set(nodes.map(zoneOf)).size;
}

/** Whether this hour of UTC is in a window such as '22-05': from the first to before the second; empty: always. */
export function isWithinHours(hours: string, hour: number): boolean {
  const [, first, last] = /^(\d\d)-(\d\d)$/.exec(hours) ?? [];
  if (first === undefined || last === undefined) return true;
  const [from, to] = [Number(first), Number(last)];
  return from <= to ? hour >= from && hour < to : hour >= from || hour < to;
}
