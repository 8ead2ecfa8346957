/**
 * Whose a trust domain is (K1): within the operator's scope it is claimed once, by the Member that began under it, and before one
 * has by the oldest. Another one gets no authority, or two would speak for the same names; and who made a Member early and its
 * Collective late must not bring one to a stop that runs.
 */

import { labelSelectorMatches } from '../kube/label-selector.ts';
import { RESOURCES } from '../kube/resources.ts';
import { isForeign } from './foreign-objects.ts';
import { namesOf } from './names.ts';
import type { MemberPicture, TrustClaim } from './picture.ts';
import type { PlannedCondition } from './plan-types.ts';

/** Why a Member cannot be begun with; undefined: it can. */
export function planReferences(picture: MemberPicture): PlannedCondition | undefined {
  const { member, collective } = picture;
  const { namespace, name } = member.metadata;
  const wanted = member.spec.collectiveRef.name;
  if (collective === undefined) {
    return stalled(
      'CollectiveNotFound',
      `There is no Collective ${wanted} in namespace ${namespace}: create it, or create the Member with another spec.collectiveRef`,
    );
  }
  const { memberSelector } = collective.spec;
  if (memberSelector !== undefined && !labelSelectorMatches(memberSelector, member.metadata.labels ?? {})) {
    return stalled(
      'NotSelected',
      `Collective ${wanted} does not select this Member: give it the labels that spec.memberSelector of the Collective names`,
    );
  }
  const owner = ownerOfDomain(picture.claims);
  if (owner !== undefined && owner.uid !== member.metadata.uid) {
    return stalled(
      'TrustDomainConflict',
      `The trust domain ${name}.${collective.spec.domain} is that of the Member ${owner.namespace}/${owner.name}: use another name, or another spec.domain of the Collective`,
    );
  }
  const account = namesOf(name).serviceAccount;
  if (isForeign(picture.foreign, RESOURCES.serviceAccounts, account)) {
    return stalled(
      'NameTaken',
      `The ServiceAccount ${account} of namespace ${namespace} is not of this Member, whose pods run under that name: use another name for the Member, or delete the account if nobody needs it`,
    );
  }
  return undefined;
}

/** Who has begun first, then oldest first; of the same second the one with the lower uid, so that all operators see the same. */
function ownerOfDomain(claims: readonly TrustClaim[]): TrustClaim | undefined {
  return [...claims].sort(
    (a, b) => Number(b.holds) - Number(a.holds) || compare(a.created, b.created) || compare(a.uid, b.uid),
  )[0];
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function stalled(reason: string, message: string): PlannedCondition {
  return { status: 'True', reason, message };
}
