/**
 * D8: what its Member and Collective say of a member's root realm; what they do not say is left as the coordinator makes it. What a
 * Member says of replication stands alone: three replicas of a Collective with its two that are needed, and one of a Member, would
 * together be a rule that no coordinator takes.
 */
import type { RealmChange } from '@collective/client';
import type { Collective } from '../api/collective.ts';
import type { Member } from '../api/member.ts';
import { bytesOf } from '../kube/quantity.ts';

export function rootRealm({ spec }: Member, collective: Collective | undefined): RealmChange {
  const { replication, compression, quotas } = collective?.spec.defaults ?? {};
  const { replicas, minReplicas } = spec.replication ?? replication ?? {};
  const quotaBytes = bytesOf(quotas?.bytes);
  return {
    ...(replicas === undefined ? {} : { replicas }),
    ...(minReplicas === undefined ? {} : { minReplicas }),
    ...(compression === undefined ? {} : { compression: compression === 'Enabled' }),
    ...(quotaBytes === undefined ? {} : { quotaBytes }),
    ...(quotas?.inodes === undefined ? {} : { quotaInodes: quotas.inodes }),
  };
}
