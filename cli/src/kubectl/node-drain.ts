/** Which nodes of a Member are to be drained (K2: a list in an annotation), and how far that is. Pure. */
import { CollectiveError } from '@collective/base/errors';
import { counted } from '../output/counted.ts';
import { ANNOTATIONS, conditionOf, type MemberObject } from './member-object.ts';

export interface DrainWish {
  readonly nodes: readonly string[];
  readonly undo: boolean;
}

export function drainList({ metadata }: MemberObject): string[] {
  const text = metadata.annotations?.[ANNOTATIONS.drainNodes] ?? '';
  return [...new Set(text.split(',').map((name) => name.trim()))].filter((name) => name !== '');
}

/** Undefined: they are as wanted already. */
export function drainOrder(
  member: MemberObject,
  { nodes, undo }: DrainWish,
): Record<string, string | null> | undefined {
  const listed = drainList(member);
  const wanted = undo ? listed.filter((name) => !nodes.includes(name)) : [...new Set([...listed, ...nodes])];
  if (!undo) checkKnown(member, nodes);
  if (undo) checkListed(member, listed, nodes);
  if (wanted.length === listed.length) return undefined;
  return { [ANNOTATIONS.drainNodes]: wanted.length === 0 ? null : wanted.join(',') };
}

/** A name in the list outlives its node: no new node gets it until it is taken out. */
export function orderSaid(member: MemberObject, { nodes, undo }: DrainWish, changed: boolean): string {
  const { name } = member.metadata;
  if (!undo) return `${nodes.join(', ')} of ${name}: ${changed ? 'to be drained' : 'was to be drained already'}.`;
  const gone = nodes.filter((node) => isGone(member, [node]));
  const kept = nodes.filter((node) => !gone.includes(node));
  return [
    ...(kept.length > 0 ? [`${kept.join(', ')} of ${name}: to be kept.`] : []),
    ...(gone.length > 0 ? [`${gone.join(', ')} of ${name}: gone already; a new node may be called so again.`] : []),
  ].join('\n');
}

function checkKnown({ metadata, status }: MemberObject, nodes: readonly string[]): void {
  const known = (status?.nodes ?? []).map(({ name }) => name);
  const unknown = nodes.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  // The name of a pod is what people see first.
  const meant = known.find(
    (name) => unknown === `${metadata.name}-${name}-0` || unknown === `${metadata.name}-${name}`,
  );
  const todo = meant === undefined ? `Its nodes: ${known.join(', ') || 'none yet'}.` : `The node is called ${meant}.`;
  throw new CollectiveError('not_found', `Drain ${unknown}: member ${metadata.name} has no node of this name`, {
    todo,
  });
}

function checkListed({ metadata, status }: MemberObject, listed: readonly string[], nodes: readonly string[]): void {
  const going = status?.nodes?.find(({ name, state }) => nodes.includes(name) && state === 'Removing');
  if (going !== undefined) {
    throw new CollectiveError('busy', `Keep ${going.name}: nothing is left on it, and it is being removed`, {
      todo: 'Its place in the pool is filled by a new node.',
    });
  }
  const unlisted = nodes.find((name) => !listed.includes(name));
  if (unlisted === undefined) return;
  throw new CollectiveError('not_found', `Keep ${unlisted}: it is not to be drained`, {
    todo: `To be drained in ${metadata.name}: ${listed.join(', ') || 'none'}.`,
  });
}

/** Gone: the operator removes it when the coordinator says that nothing is left there. */
export function isGone({ status }: MemberObject, nodes: readonly string[]): boolean {
  return !(status?.nodes ?? []).some(({ name }) => nodes.includes(name));
}

export function drainStep(member: MemberObject, nodes: readonly string[]): string {
  const reconciling = conditionOf(member, 'Reconciling');
  const stuck = reconciling?.reason === 'DrainStuck' ? reconciling.message : undefined;
  const stalled = conditionOf(member, 'Stalled');
  // What keeps the drain comes with what stalls the member.
  if (stalled?.status === 'True') return `STALLED: ${stuck ?? stalled.message ?? stalled.reason}`;
  if (member.spec?.maintenance?.paused) return 'Waiting: the member is paused (spec.maintenance.paused)';
  const parts = (member.status?.nodes ?? [])
    .filter(({ name }) => nodes.includes(name))
    .map(({ name, state, leftChunks }) => {
      const left = leftChunks === undefined || leftChunks === 0 ? '' : `, ${counted(leftChunks, 'chunk')} left`;
      return `${name} ${state ?? '-'}${left}`;
    });
  return `${parts.join('; ')}${stuck === undefined ? '' : ` (${stuck})`}`;
}
