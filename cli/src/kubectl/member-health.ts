/** One word about a Member that a person can act on, and why, worst first. Pure: the object as the operator left it. */
import { counted } from '../output/counted.ts';
import { type Condition, conditionOf, isTrue, type MemberObject } from './member-object.ts';

export const HEALTHS = [
  'OK',
  'DEGRADED',
  'RECONCILING',
  'NOT READY',
  'STALLED',
  'DAMAGED',
  'PAUSED',
  'DELETING',
  'UNKNOWN',
] as const;
export type HealthWord = (typeof HEALTHS)[number];

export interface Health {
  readonly word: HealthWord;
  /** Unset: nothing to say. */
  readonly why?: string;
}

/** In the order in which they depend on each other: the first that is missing explains the others. */
const EXPLAINING = ['CertificatesReady', 'CoordinatorReady', 'NodesReady', 'ReplicationHealthy', 'Ready'];

export function healthOf(member: MemberObject): Health {
  const { metadata, spec, status } = member;
  if (metadata.deletionTimestamp !== undefined) return { word: 'DELETING', why: saidBy(reasonFor(member)) };
  const damage = damageOf(member);
  if (damage !== undefined) return { word: 'DAMAGED', why: damage };
  if (isTrue(member, 'Stalled')) return { word: 'STALLED', why: saidBy(conditionOf(member, 'Stalled')) };
  if (spec?.maintenance?.paused)
    return { word: 'PAUSED', why: 'spec.maintenance.paused: the operator changes nothing' };
  if (status?.conditions === undefined || status.conditions.length === 0) {
    return { word: 'UNKNOWN', why: 'no operator has looked at it yet: does one run, and for this namespace?' };
  }
  if (metadata.generation !== undefined && (status.observedGeneration ?? 0) < metadata.generation) {
    return { word: 'RECONCILING', why: 'the operator has not seen the newest spec yet' };
  }
  if (isTrue(member, 'Ready')) {
    if (conditionOf(member, 'ReplicationHealthy')?.status === 'False')
      return { word: 'DEGRADED', why: saidBy(conditionOf(member, 'ReplicationHealthy')) };
    return isTrue(member, 'Reconciling')
      ? { word: 'OK', why: saidBy(conditionOf(member, 'Reconciling')) }
      : { word: 'OK' };
  }
  const why = saidBy(reasonFor(member));
  return isTrue(member, 'Reconciling')
    ? { word: 'RECONCILING', why: why ?? saidBy(conditionOf(member, 'Reconciling')) }
    : { word: 'NOT READY', why };
}

export function healthText(member: MemberObject): string {
  const { word, why } = healthOf(member);
  return why === undefined ? word : `${word}: ${why}`;
}

/** What is gone for good, unless somebody brings it back or writes it again; what is to be done is said by ReplicationHealthy. */
function damageOf({ status }: MemberObject): string | undefined {
  const { unreadable = 0, lost = 0 } = status?.replication ?? {};
  const parts = [
    ...(unreadable > 0 ? [`${counted(unreadable, 'chunk')} without a readable copy`] : []),
    ...(lost > 0 ? [`${counted(lost, 'block')} lost what was written last`] : []),
  ];
  return parts.length === 0 ? undefined : parts.join(', ');
}

function reasonFor(member: MemberObject): Condition | undefined {
  return EXPLAINING.map((type) => conditionOf(member, type)).find(
    (condition) => condition !== undefined && condition.status !== 'True',
  );
}

function saidBy(condition: Condition | undefined): string | undefined {
  return condition?.message || condition?.reason || undefined;
}
