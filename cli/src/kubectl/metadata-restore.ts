/** When metadata may be restored in a cluster, and how far that is (K3, M2a). Pure. */
import { CollectiveError } from '@collective/base/errors';
import { ANNOTATIONS, conditionOf, type MemberObject } from './member-object.ts';

export const LATEST = 'latest';
/** States of a coordinator that has nothing that could be overwritten. */
const WITHOUT_METADATA: ReadonlySet<string> = new Set(['VolumeLost', 'Restoring']);

/** Undefined: it is ordered already. */
export function restoreOrder(member: MemberObject, from: string): Record<string, string> | undefined {
  const { metadata, status } = member;
  const { name, namespace } = metadata;
  const { state = 'Pending' } = status?.coordinator ?? {};
  if (!WITHOUT_METADATA.has(state)) {
    throw new CollectiveError(
      'busy',
      `Restore ${name}: its coordinator is ${state} and has its volume, which is never overwritten`,
      {
        todo: `If what it has is worth nothing: kubectl delete -n ${namespace} pvc ${name}-coordinator --wait=false, then kubectl delete -n ${namespace} pod ${name}-coordinator-0, then again.`,
      },
    );
  }
  const kept = status?.backup?.kept ?? [];
  if (from !== LATEST && kept.length > 0 && !kept.includes(from)) {
    throw new CollectiveError('not_found', `Restore ${name} from ${from}: no backup of this name is known`, {
      todo: `'kubectl collective backups ${name}' lists them.`,
    });
  }
  return metadata.annotations?.[ANNOTATIONS.restoreFrom] === from ? undefined : { [ANNOTATIONS.restoreFrom]: from };
}

/** It serves again, on what was restored. */
export function isRestored({ status }: MemberObject): boolean {
  return status?.coordinator?.state === 'Ready' && status.coordinator.restored !== undefined;
}

export function restoreStep(member: MemberObject): string {
  const stalled = conditionOf(member, 'Stalled');
  if (stalled?.status === 'True') return `STALLED: ${stalled.message ?? stalled.reason}`;
  if (member.spec?.maintenance?.paused) return 'Waiting: the member is paused (spec.maintenance.paused)';
  const coordinator = conditionOf(member, 'CoordinatorReady');
  return coordinator?.message ?? member.status?.coordinator?.state ?? 'Waiting for the operator';
}
