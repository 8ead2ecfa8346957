/**
 * The questions of one reconcile to a member's coordinator. A coordinator that does not run is not asked, one that does not
 * answer in time is silent: both are ordinary, and planners decide what they mean.
 */

import { CollectiveError, errorChain } from '@collective/base/errors';
import type { Admin } from '@collective/client';
import { secretText } from '../ca/secret-data.ts';
import type { KeptRequest } from '../csr/checked-requests.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { isReadyPod } from '../kube/object-facts.ts';
import { memberAddress, namesOf, podOf } from '../member/names.ts';
import type { MemberPicture, ObjectsByName } from '../member/picture.ts';
import type { CoordinatorAccess, OperatorIdentity } from './coordinator-access.ts';
import type { CoordinatorAnswer } from './coordinator-answer.ts';

export interface CoordinatorQuestion {
  readonly access: CoordinatorAccess;
  readonly member: MemberPicture['member'];
  readonly trustDomain: string;
  readonly objects: MemberPicture['objects'];
  readonly signal: AbortSignal;
  /** Which nodes are to be counted, by the answer so far. */
  readonly nodesToCount: (answer: CoordinatorAnswer) => readonly string[];
}

export interface AskedCoordinator {
  readonly answer: CoordinatorAnswer;
  /** For orders; absent when it did not answer. */
  readonly admin?: Admin;
}

export async function askCoordinator(question: CoordinatorQuestion): Promise<AskedCoordinator> {
  const { access, member, trustDomain, objects, signal } = question;
  const { name, namespace = '' } = member.metadata;
  const names = namesOf(name);
  const pod = objects.pods.get(podOf(names.coordinator));
  if (!isReadyPod(pod)) return unasked(pod === undefined ? 'it has no pod yet' : 'its pod is not ready');
  const identity = operatorIdentity(objects.secrets.get(names.operatorTls), objects.configMaps, names.trust);
  if (identity === undefined) return unasked('the operator has no certificate of this member yet');
  try {
    const target = { key: { namespace, name }, address: memberAddress(name, namespace), trustDomain, identity };
    const admin = await access.admin(target);
    const status = await admin.status({ signal });
    const subjects = await admin.subjects({ signal });
    const requests = await keptRequests(admin, signal);
    const answer: CoordinatorAnswer = { state: 'answered', status, holdings: new Map(), subjects, requests };
    const holdings = new Map<string, Awaited<ReturnType<Admin['nodeHolding']>>>();
    for (const node of question.nodesToCount(answer))
      holdings.set(node, await admin.nodeHolding(node, { rough: true, signal }));
    return { answer: { ...answer, holdings }, admin };
  } catch (thrown) {
    signal.throwIfAborted();
    if (!(thrown instanceof CollectiveError)) throw thrown;
    // The next look dials anew: a channel that was refused for long has been seen to try again only a minute and a half later.
    if (thrown.code === 'unavailable') access.forget({ namespace, name });
    return { answer: { state: 'silent', why: errorChain(thrown)[0] ?? thrown.message } };
  }
}

async function keptRequests(admin: Admin, signal: AbortSignal): Promise<readonly KeptRequest[]> {
  try {
    const { requests } = await admin.certificateRequests.list({}, { signal });
    return requests.map(({ id, subject, csr }) => ({ id, uri: subject, csr }));
  } catch (thrown) {
    // One of a version before keeps none; it must not be taken for silent, or it could not be updated.
    if (thrown instanceof CollectiveError && thrown.code === 'unsupported') return [];
    throw thrown;
  }
}

function unasked(why: string): AskedCoordinator {
  return { answer: { state: 'unasked', why } };
}

function operatorIdentity(
  secret: KubeObject | undefined,
  configMaps: ObjectsByName,
  trust: string,
): OperatorIdentity | undefined {
  const certificatePem = secretText(secret, 'tls.crt');
  const keyPem = secretText(secret, 'tls.key');
  const { data } = (configMaps.get(trust) ?? {}) as { readonly data?: Readonly<Record<string, string>> };
  const bundlePem = data?.['trust.pem'];
  if (certificatePem === '' || keyPem === '' || bundlePem === undefined) return undefined;
  return { certificatePem, keyPem, bundlePem };
}
