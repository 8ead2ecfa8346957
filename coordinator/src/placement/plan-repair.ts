/**
 * What is to be done so that a chunk has the replicas that its realm wants (D8): a pure function over the chunk's row and a
 * picture of the nodes. Repair, drain and the return of a lost node are this one plan; `jobs/repair.ts` carries it out.
 *
 * Invariants: a copy comes from a replica that can be read now; two replicas never lie on one node; a replica goes only when
 * as many others as are wanted are sound, stable and present, and those are named so that they can be read again first. So
 * the last copy is never dropped, whichever actions of whichever plans are carried out.
 */
import { type Random, randomBelow } from '@collective/base/random';
import type { ChunkRow, ReplicaPlace } from '../tables/gen/tables.ts';
import { chooseNext, zoneOf } from './choose-replicas.ts';
import type { NodePicture, PicturedNode } from './node-picture.ts';

/** One disk of a node. */
export interface Place {
  readonly node: string;
  readonly disk: string;
}

export interface CopyAction {
  readonly kind: 'copy';
  /** Takes the place of whatever the row says of this node. */
  readonly to: Place;
  /** It has a damaged copy, which must not be taken for a good one. */
  readonly replaces: boolean;
  /** Nodes to get it from. */
  readonly sources: readonly string[];
}

export interface DropAction {
  readonly kind: 'drop';
  readonly place: Place;
  /** To be read and verified before: they are what is left. Empty for what nobody can name any more. */
  readonly reread: readonly Place[];
  /** The node is there and is to forget its copy; else only the place is given up. */
  readonly forgets: boolean;
  /** It was planned for a picture in which this node is the fullest (`relieving`): what it holds is to become less. */
  readonly relieves?: boolean;
}

export type RepairAction = CopyAction | DropAction;

/** Why something that should be done cannot be done now. */
export const BLOCKED_REASONS = {
  'no-copy': 'no sound copy is left on any disk that the member has',
  'no-source': 'the nodes that have a copy are away',
  'no-target': 'no further node is ready, takes new chunks, has room and has not just given the chunk up',
  'node-away': 'a node that has one of its copies is away, or has not made it stable yet',
} as const;

export type BlockedReason = keyof typeof BLOCKED_REASONS;

export interface RepairPlan {
  /** Replicas that are there or will be again: the fewer, the more endangered. */
  readonly sound: number;
  /** Of these, which can be read now. */
  readonly readable: number;
  /** Copies that are to be made, as far as possible by `actions`. */
  readonly missing: number;
  /** Independent of each other. */
  readonly actions: readonly RepairAction[];
  readonly blocked: BlockedReason | undefined;
}

export type Repairable = Pick<ChunkRow, 'replicas' | 'storedLength'>;

/**
 * here: can be read. unsure: its node was started anew and has not been asked yet (D3). away: its node is, and may come back.
 * lost: its node was given up. gone: its node has another disk, or there is no such node.
 */
type Standing = 'here' | 'unsure' | 'away' | 'lost' | 'gone' | 'damaged';

interface Judged {
  readonly place: ReplicaPlace;
  readonly is: Standing;
  /** Undefined: there is no such node. */
  readonly node: PicturedNode | undefined;
}

/** `wanted`: by the present rule of the chunk's realm. `random` decides among equals where copies go. */
export function planRepair(row: Repairable, wanted: number, picture: NodePicture, random: Random): RepairPlan {
  const all = judgedPlaces(row, picture);
  const existing = all.filter(exists);
  const sources = all.filter(({ is }) => is === 'here');
  const counting = existing.filter(stays);
  const missing = Math.max(0, wanted - counting.length);
  const found = { sound: existing.length, readable: sources.length, missing };
  if (missing === 0) return { ...found, ...planDrops(all, wanted) };
  if (sources.length === 0) return { ...found, actions: [], blocked: existing.length === 0 ? 'no-copy' : 'no-source' };
  const places = chooseTargets(all, counting, missing, { row, picture, random });
  const names = inTurn(sources, random).map(({ place }) => place.node);
  return {
    ...found,
    actions: places.map(({ to, replaces }) => ({ kind: 'copy', to, replaces, sources: names })),
    blocked: places.length < missing ? 'no-target' : undefined,
  };
}

/**
 * Garbage is not repaired. Within its grace it may be named again, so where a node is to be emptied it moves like
 * anything else, but one copy is enough; what is condemned nobody can name any more.
 */
export function planClearance(row: Repairable, condemned: boolean, picture: NodePicture, random: Random): RepairPlan {
  const nothing: RepairPlan = { sound: 0, readable: 0, missing: 0, actions: [], blocked: undefined };
  const draining = row.replicas.filter(({ node }) => picture.get(node)?.duty === 'draining');
  if (draining.length === 0) return nothing;
  const plan = planRepair(row, 1, picture, random);
  // Nobody could read it even if it were named again.
  const isLost = plan.blocked === 'no-copy';
  if (!condemned && !isLost) {
    const leaves = ({ node, disk }: Place): boolean =>
      draining.some((each) => each.node === node && each.disk === disk);
    return { ...plan, actions: plan.actions.filter((action) => action.kind === 'copy' || leaves(action.place)) };
  }
  const actions: RepairAction[] = draining.flatMap(({ node, disk }) => {
    const { heard, disk: current, lost } = picture.get(node) as PicturedNode;
    const isPresent = current === disk && !lost;
    if (isPresent && heard === 'away') return [];
    return [{ kind: 'drop', place: { node, disk }, reread: [], forgets: isPresent }];
  });
  return { ...nothing, actions, blocked: actions.length < draining.length ? 'node-away' : undefined };
}

/**
 * Nobody names the chunk now, but within its grace somebody may again (D2), also by a backup of the metadata that is restored: with
 * this node would go the last copy that is not on its way elsewhere. It is what `planClearance` still has to move.
 */
export function isLastOfGarbage(row: Repairable, node: string, picture: NodePicture): boolean {
  const existing = judgedPlaces(row, picture).filter(exists);
  const isHere = ({ place }: Judged): boolean => place.node === node;
  return existing.some(isHere) && existing.every((each) => isHere(each) || !stays(each));
}

/** The drop is planned for this row as well, and those that were read again are all that it relies on. */
export function mayDrop(plan: RepairPlan, drop: DropAction): boolean {
  return plan.actions.some(
    (action) =>
      action.kind === 'drop' &&
      isSamePlace(action.place, drop.place) &&
      action.forgets === drop.forgets &&
      action.reread.every((place) => drop.reread.some((other) => isSamePlace(place, other))),
  );
}

export function isSamePlace(a: Place, b: Place): boolean {
  return a.node === b.node && a.disk === b.disk;
}

/** Nothing that is known of its node speaks against it: it need not be judged because of this place. */
export function isOrdinaryPlace({ node, disk }: Place, picture: NodePicture): boolean {
  const known = picture.get(node);
  return known !== undefined && known.disk === disk && !known.lost && known.duty !== 'draining';
}

function judgedPlaces(row: Repairable, picture: NodePicture): Judged[] {
  return row.replicas.map((place) => {
    const node = picture.get(place.node);
    return { place, node, is: standingOf(place, node) };
  });
}

function exists({ is }: Judged): boolean {
  return is === 'here' || is === 'unsure' || is === 'away';
}

function standingOf(place: ReplicaPlace, node: PicturedNode | undefined): Standing {
  if (node === undefined || node.disk !== place.disk) return 'gone';
  if (place.damaged) return 'damaged';
  if (node.heard === 'away') return node.lost ? 'lost' : 'away';
  // Until its node has synced it, or was asked after a restart, only the start that wrote it surely has it.
  return place.stable || place.incarnation === node.incarnation ? 'here' : 'unsure';
}

function stays({ node }: Judged): boolean {
  return node?.duty !== 'draining';
}

function chooseTargets(
  all: readonly Judged[],
  counting: readonly Judged[],
  missing: number,
  { row, picture, random }: { row: Repairable; picture: NodePicture; random: Random },
): { to: Place; replaces: boolean }[] {
  const hasRoom = ({ heard, freeBytes }: PicturedNode): boolean => heard === 'ready' && freeBytes > row.storedLength;
  const mended = all.flatMap(({ is, node }) =>
    is === 'damaged' && node !== undefined && node.duty !== 'draining' && hasRoom(node) ? [node] : [],
  );
  const chosen = mended.slice(0, missing).map((node) => ({ to: placeOf(node), replaces: true }));
  const holders = [...counting.flatMap(({ node }) => node ?? []), ...mended.slice(0, missing)];
  // A node whose disk was lost may take the chunk on its new one.
  const taken = new Set(all.flatMap(({ is, place }) => (is === 'gone' ? [] : [place.node])));
  let left = [...picture.values()].filter((node) => node.duty === 'active' && hasRoom(node) && !taken.has(node.name));
  while (chosen.length < missing) {
    const next = chooseNext(holders, left, random);
    if (next === undefined) break;
    chosen.push({ to: placeOf(next), replaces: false });
    holders.push(next);
    left = left.filter(({ name }) => name !== next.name);
  }
  return chosen;
}

function placeOf({ name, disk }: PicturedNode): Place {
  return { node: name, disk };
}

/** Another one first each time, so that many copies are asked of all. */
function inTurn<T>(all: readonly T[], random: Random): readonly T[] {
  const first = all.length > 1 ? randomBelow(random, all.length) : 0;
  return [...all.slice(first), ...all.slice(0, first)];
}

/** As many as are wanted count: what else the row names may go, if the others are all here. */
function planDrops(all: readonly Judged[], wanted: number): Pick<RepairPlan, 'actions' | 'blocked'> {
  const firm = all.filter((each) => each.is === 'here' && each.place.stable && stays(each));
  const kept = keepBest(firm, wanted);
  const leaving = all.filter((each) => each.is === 'gone' || !stays(each));
  const damaged = all.filter((each) => each.is === 'damaged' && stays(each) && each.node?.heard !== 'away');
  const going = [...leaving, ...damaged, ...firm.filter((each) => !kept.includes(each))];
  if (going.length === 0) return { actions: [], blocked: hasHiddenExcess(all, wanted) ? 'node-away' : undefined };
  if (kept.length < wanted) return { actions: [], blocked: 'node-away' };
  const reread = kept.map(({ place: { node, disk } }) => ({ node, disk }));
  const actions = going.flatMap((each) => dropOf(each, reread) ?? []);
  return { actions, blocked: actions.length < going.length ? 'node-away' : undefined };
}

/** What is too many, or damaged, is on a node that is away, or not stable yet: that it is must not be forgotten until then. */
function hasHiddenExcess(all: readonly Judged[], wanted: number): boolean {
  const staying = all.filter(stays);
  const there = staying.filter(exists);
  return there.length > wanted || staying.some(({ is, node }) => is === 'damaged' && node?.heard === 'away');
}

function dropOf({ place, is, node }: Judged, reread: readonly Place[]): DropAction | undefined {
  const { node: name, disk } = place;
  const drop = { kind: 'drop', place: { node: name, disk } } as const;
  // It may come back after all: with the place would go what is known of a copy.
  if (is === 'gone' || node?.lost) return { ...drop, reread, forgets: false };
  if (node?.heard === 'away' || is === 'unsure' || !place.stable) return undefined;
  return { ...drop, reread, forgets: true };
}

/** Those that stay: zones are kept apart, a cordoned node is relieved, and then the fullest one. */
function keepBest(firm: readonly Judged[], wanted: number): readonly Judged[] {
  let kept = firm.flatMap(({ place, node }) => (node === undefined ? [] : [{ place, node }]));
  while (kept.length > wanted) {
    const zones = kept.map(({ node }) => zoneOf(node));
    const crowded = kept.filter((_, i) => zones.indexOf(zones[i] ?? '') !== zones.lastIndexOf(zones[i] ?? ''));
    const from = crowded.length > 0 ? crowded : kept;
    const goes = from.reduce((worst, each) => (isWorse(each.node, worst.node) ? each : worst));
    kept = kept.filter((each) => each !== goes);
  }
  return firm.filter(({ place }) => kept.some((each) => each.place === place));
}

function isWorse(a: PicturedNode, b: PicturedNode): boolean {
  if ((a.duty === 'cordoned') !== (b.duty === 'cordoned')) return a.duty === 'cordoned';
  const [useOfA, useOfB] = [shareUsed(a), shareUsed(b)];
  return useOfA === useOfB ? a.name > b.name : useOfA > useOfB;
}

/** Of what its owner gives; 0 to 1. */
export function shareUsed({ usedBytes, capacityBytes }: PicturedNode): number {
  return capacityBytes === 0 ? 1 : usedBytes / capacityBytes;
}
