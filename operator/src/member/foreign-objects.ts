/**
 * Objects that are there already and are not this Member's, under names that people choose: the Secrets of `spec.users`, and the
 * account of the pods, which is called like the Member. Server-side apply would take them over, and who may write Members and
 * nothing else would change and at last delete what is not theirs. It is asked for only before an object is made.
 */
import { LABELS } from '../api/group.ts';
import type { Member } from '../api/member.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError } from '../kube/kube-error.ts';
import type { KubeObject, ObjectReference, ResourceKind } from '../kube/kube-object.ts';
import { labelOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { userLeaves } from '../users/user-leaves.ts';
import { namesOf } from './names.ts';
import type { MemberObjects } from './picture.ts';

/** Of a picture: `Kind/name`. */
export type ForeignObjects = ReadonlySet<string>;

export interface ForeignObjectsParts {
  readonly api: Pick<KubeApi, 'get'>;
  /** All that an operator made in this scope, whosever it is. */
  readonly cache: { get(reference: ObjectReference): KubeObject | undefined; readonly seesCertificates: boolean };
}

export function isForeign(foreign: ForeignObjects, { kind }: ResourceKind, name: string): boolean {
  return foreign.has(`${kind}/${name}`);
}

export async function foreignObjects(
  { api, cache }: ForeignObjectsParts,
  { member, objects }: { readonly member: Member; readonly objects: MemberObjects },
  signal: AbortSignal,
): Promise<ForeignObjects> {
  const { namespace = '' } = member.metadata;
  const seen = await Promise.all(
    namesToMake(member, objects, cache.seesCertificates).map(async ([resource, name]): Promise<string[]> => {
      const reference = { resource, namespace, name };
      const found = cache.get(reference) ?? (await whatIsThere(api, reference, signal));
      return found === undefined || isOf(member, found) ? [] : [`${resource.kind}/${name}`];
    }),
  );
  return new Set(seen.flat());
}

function namesToMake(
  member: Member,
  { certificates, serviceAccounts }: MemberObjects,
  makesCertificates: boolean,
): [ResourceKind, string][] {
  if (member.spec.external !== undefined) return [];
  const account = namesOf(member.metadata.name).serviceAccount;
  // One that has had its account puts it right, whatever became of it.
  const needsAccount = member.status?.trustDomain === undefined && !serviceAccounts.has(account);
  return [
    ...(needsAccount ? ([[RESOURCES.serviceAccounts, account]] as [ResourceKind, string][]) : []),
    // Without cert-manager none is made.
    ...(makesCertificates ? userLeaves(member, '') : [])
      .filter(({ name }) => !certificates.has(name))
      .flatMap(({ name }): [ResourceKind, string][] => [
        [RESOURCES.certificates, name],
        [RESOURCES.secrets, name],
      ]),
  ];
}

async function whatIsThere(
  api: Pick<KubeApi, 'get'>,
  reference: ObjectReference,
  signal: AbortSignal,
): Promise<KubeObject | undefined> {
  try {
    return await api.get(reference, { signal });
  } catch (thrown) {
    // The kind itself may be gone by now.
    if (isKubeError(thrown) && thrown.isNotFound) return undefined;
    throw thrown;
  }
}

function isOf({ metadata: { name, uid } }: Member, object: KubeObject): boolean {
  const isOwned = object.metadata.ownerReferences?.some((owner) => owner.uid === uid) === true;
  return isOwned || labelOf(object, LABELS.member) === name;
}
