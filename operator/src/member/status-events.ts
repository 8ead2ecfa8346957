/** What changed in a Member's status, as events for people: told once, when it changes. */
import type { Condition } from '../api/condition.ts';
import type { MemberStatus } from '../api/member.ts';
import type { PlannedEvent } from './plan-types.ts';

/** Reasons of everyday life: no warning. */
const ORDINARY: ReadonlySet<string> = new Set([
  'Starting',
  'Restoring',
  'Issuing',
  'Pending',
  'Deleting',
  'Removing',
  'NotAsked',
]);

export function statusEvents(before: MemberStatus | undefined, after: MemberStatus): PlannedEvent[] {
  return [...conditionEvents(before, after), ...damageEvents(before, after), ...nodeEvents(before, after)];
}

function conditionEvents(before: MemberStatus | undefined, after: MemberStatus): PlannedEvent[] {
  const [was, is] = [conditionOf(before, 'Ready'), conditionOf(after, 'Ready')];
  const events: PlannedEvent[] = [];
  if (is?.status === 'True' && was?.status !== 'True')
    events.push({ type: 'Normal', reason: 'Ready', message: is.message });
  if (is?.status === 'False' && was?.reason !== is.reason && !ORDINARY.has(is.reason))
    events.push({ type: 'Warning', reason: is.reason, message: is.message });
  const [stalledWas, stalled] = [conditionOf(before, 'Stalled'), conditionOf(after, 'Stalled')];
  if (stalled?.status === 'True' && stalledWas?.reason !== stalled.reason && stalled.reason !== is?.reason)
    events.push({ type: 'Warning', reason: stalled.reason, message: stalled.message });
  const [goingWas, going] = [conditionOf(before, 'Reconciling'), conditionOf(after, 'Reconciling')];
  if (going?.reason === 'DrainStuck' && goingWas?.reason !== 'DrainStuck')
    events.push({ type: 'Warning', reason: 'DrainStuck', message: going.message });
  return events;
}

const DAMAGE = [
  ['Unreadable', 'unreadable'],
  ['BlocksLost', 'lost'],
] as const;

/** By the number, which outlasts a coordinator that is silent; and by the reason, since CRDs of a version before know no lost blocks. */
function damageEvents(before: MemberStatus | undefined, after: MemberStatus): PlannedEvent[] {
  const [was, is] = [conditionOf(before, 'ReplicationHealthy'), conditionOf(after, 'ReplicationHealthy')];
  return DAMAGE.flatMap(([reason, field]): PlannedEvent[] => {
    const isNew = (after.replication?.[field] ?? 0) > 0 && (before?.replication?.[field] ?? 0) === 0;
    if (!isNew || is?.status !== 'False' || was?.reason === reason) return [];
    return [{ type: 'Warning', reason, message: is.message }];
  });
}

function nodeEvents(before: MemberStatus | undefined, after: MemberStatus): PlannedEvent[] {
  const states = new Map(before?.nodes?.map(({ name, state }) => [name, state]));
  const told = { Draining: 'NodeDraining', Drained: 'NodeDrained', Removing: 'NodeRemoving' } as const;
  const steps = (after.nodes ?? []).flatMap(({ name, state }): PlannedEvent[] => {
    const reason = told[state as keyof typeof told];
    if (reason === undefined || states.get(name) === state) return [];
    const message = {
      NodeDraining: `Node ${name} is to go: what lies on it moves to other nodes`,
      NodeDrained: `Node ${name} is empty`,
      NodeRemoving: `Node ${name} is empty and taken away`,
    }[reason];
    return [{ type: 'Normal', reason, message }];
  });
  const left = new Set(after.nodes?.map(({ name }) => name));
  const gone = [...states].filter(([name, state]) => state === 'Removing' && !left.has(name));
  return [
    ...steps,
    ...gone.map(
      ([name]): PlannedEvent => ({
        type: 'Normal',
        reason: 'NodeRemoved',
        message: `Node ${name} and its volume are gone`,
      }),
    ),
  ];
}

function conditionOf(status: MemberStatus | undefined, type: string): Condition | undefined {
  return status?.conditions?.find((condition) => condition.type === type);
}
