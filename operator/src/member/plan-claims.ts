/**
 * Whose a trust domain is (K1): within the operator's scope it is claimed once, by the oldest Member that has it. A younger
 * one gets no authority, or two would speak for the same names.
 */

import { labelSelectorMatches } from '../kube/label-selector.ts';
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
      `The trust domain ${name}.${collective.spec.domain} is that of the older Member ${owner.namespace}/${owner.name}: use another name, or another spec.domain of the Collective`,
    );
  }
  return undefined;
}

/** Oldest first; of the same second the one with the lower uid, so that all operators see the same. */
function ownerOfDomain(claims: readonly TrustClaim[]): TrustClaim | undefined {
  return [...claims].sort((a, b) => compare(a.created, b.created) || compare(a.uid, b.uid))[0];
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function stalled(reason: string, message: string): PlannedCondition {
  return { status: 'True', reason, message };
}
