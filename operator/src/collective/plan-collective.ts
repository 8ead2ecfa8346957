/** What a Collective says of its Members: how many there are and are ready, how much room they have. Pure. */
import type { Collective, CollectiveStatus } from '../api/collective.ts';
import type { Member } from '../api/member.ts';
import { setConditions } from '../api/set-conditions.ts';
import { labelSelectorMatches } from '../kube/label-selector.ts';
import { bytesOf, roughQuantity } from '../kube/quantity.ts';
import type { PlannedCondition } from '../member/plan-types.ts';

/** Members that are named in a message; of more the number is told. */
const NAMES_TOLD_MAX = 5;

/** `members`: all of its namespace that name it. */
export function planCollective(
  { metadata, spec, status }: Collective,
  members: readonly Member[],
  nowMs: number,
): CollectiveStatus {
  const own = members.filter(({ metadata: { labels = {} } }) =>
    labelSelectorMatches(spec.memberSelector ?? {}, labels),
  );
  const ready = own.filter((member) => isTrue(member, 'Ready'));
  const stalled = own.filter((member) => isTrue(member, 'Stalled'));
  const total = own.length;
  const unready = own.filter((member) => !ready.includes(member)).map(nameOf);
  const message = `${ready.length} of ${total} members are ready${unready.length === 0 ? '' : `; not: ${listed(unready)}`}`;
  const isReady = ready.length === total;
  const conditions: Readonly<Record<string, PlannedCondition>> = {
    Ready: { status: isReady ? 'True' : 'False', reason: isReady ? 'MembersReady' : 'MembersNotReady', message },
    Reconciling:
      isReady || stalled.length > 0
        ? { status: 'False', reason: isReady ? 'Settled' : 'MembersStalled', message }
        : { status: 'True', reason: 'MembersNotReady', message },
    Stalled:
      stalled.length > 0
        ? {
            status: 'True',
            reason: 'MembersStalled',
            message: `Look at the conditions of ${listed(stalled.map(nameOf))}`,
          }
        : { status: 'False', reason: 'NotStalled', message: '' },
  };
  const sum = (of: (member: Member) => unknown): string =>
    roughQuantity(own.reduce((bytes, member) => bytes + (bytesOf(of(member)) ?? 0), 0));
  return {
    ...(metadata.generation === undefined ? {} : { observedGeneration: metadata.generation }),
    members: { ready: ready.length, total },
    membersReady: `${ready.length}/${total}`,
    capacity: sum((member) => member.status?.capacity),
    used: sum((member) => member.status?.used),
    conditions: setConditions(conditions, {
      previous: status?.conditions ?? [],
      nowMs,
      observedGeneration: metadata.generation,
    }),
  };
}

function isTrue({ metadata, status }: Member, type: string): boolean {
  return (
    metadata.deletionTimestamp === undefined &&
    status?.conditions?.some((condition) => condition.type === type && condition.status === 'True') === true
  );
}

function nameOf({ metadata }: Member): string {
  return metadata.name;
}

function listed(names: readonly string[]): string {
  const told = [...names].sort().slice(0, NAMES_TOLD_MAX).join(', ');
  const more = names.length - NAMES_TOLD_MAX;
  return more > 0 ? `${told} and ${more} more` : told;
}
