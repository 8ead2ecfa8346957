/**
 * Does what a plan of a member says, in its order: objects, orders to the coordinator, removals, a touch of the pods. What the
 * apiserver refuses of single objects is an outcome, told in conditions; what a coordinator refuses comes again.
 */

import { type Clock, wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import type { Admin } from '@collective/client';
import { ANNOTATIONS } from '../api/group.ts';
import { issuingPatch } from '../ca/issuing-condition.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError } from '../kube/kube-error.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { Applier } from '../runtime/applier.ts';
import type { MemberPicture } from './picture.ts';
import type { CoordinatorOrder, MemberPlan } from './plan-member.ts';
import { rootRealm } from './root-realm.ts';
import type { RefusedWrite } from './troubles.ts';

export interface ApplyMemberParts {
  readonly api: Pick<KubeApi, 'patch'>;
  readonly applier: Applier;
  readonly clock: Clock;
  readonly log: Log;
}

export interface MemberOutcome {
  readonly refused: readonly RefusedWrite[];
  /** It serves for the first time, and the settings of the beginning are written. */
  readonly began: boolean;
}

export async function applyMember(
  { api, applier, clock, log }: ApplyMemberParts,
  { picture, plan, admin }: { picture: MemberPicture; plan: MemberPlan; admin: Admin | undefined },
  signal: AbortSignal,
): Promise<MemberOutcome> {
  const { refused } = await applier.apply(plan.applies, signal);
  for (const name of plan.certificates.renewals) {
    const certificate = picture.objects.certificates.get(name);
    if (certificate === undefined) continue;
    const reference = { resource: RESOURCES.certificates, namespace: plan.shape.namespace, name };
    await unlessConflict(
      api.patch(reference, issuingPatch(certificate, wallMs(clock)), { subresource: 'status', signal }),
    );
  }
  let began = plan.begins;
  for (const order of admin === undefined ? [] : plan.orders) {
    const isDone = await obey(order, { admin: admin as Admin, picture, log }, signal);
    if (order.kind === 'root-realm') began &&= isDone;
  }
  await applier.remove(plan.removals, signal);
  for (const { metadata } of plan.podsToTouch) {
    const reference = { resource: RESOURCES.pods, namespace: plan.shape.namespace, name: metadata.name };
    const annotations = { [ANNOTATIONS.trustBundleHash]: plan.certificates.trustBundleHash };
    await unlessConflict(api.patch(reference, { metadata: { uid: metadata.uid, annotations } }, { signal }));
  }
  return {
    began,
    refused: refused.map(({ intent, error }) => ({
      kind: intent.resource.kind,
      name: intent.object.metadata.name,
      message: error.message,
    })),
  };
}

interface OrderParts {
  readonly admin: Admin;
  readonly picture: MemberPicture;
  readonly log: Log;
}

/** False: it comes again with the next look. */
async function obey(
  order: CoordinatorOrder,
  { admin, picture, log }: OrderParts,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    switch (order.kind) {
      case 'duty':
        await admin.setNodeDuty(order.node, order.duty, { signal });
        break;
      case 'forget':
        await admin.removeNode(order.node, { signal });
        break;
      case 'put-subject':
        await admin.putSubject(order.subject, { signal });
        break;
      case 'remove-subject':
        await admin.removeSubject({ role: 'user', name: order.name }, { signal });
        break;
      case 'root-realm': {
        const change = rootRealm(picture.member, picture.collective);
        if (Object.keys(change).length > 0) await admin.setRealm('/', change, { signal });
      }
    }
    log.info({ order }, 'order to the coordinator is done');
    return true;
  } catch (thrown) {
    signal.throwIfAborted();
    if (!(thrown instanceof CollectiveError)) throw thrown;
    // Forgotten already, by an order whose answer was lost.
    if (order.kind === 'forget' && thrown.code === 'not_found') return true;
    log.warn({ order, err: thrown }, 'order to the coordinator failed');
    return false;
  }
}

/** Somebody else was faster; it is looked at again when the cache has it. */
async function unlessConflict(call: Promise<unknown>): Promise<void> {
  await call.catch((thrown: unknown) => {
    if (!isKubeError(thrown) || !(thrown.isConflict || thrown.isNotFound)) throw thrown;
  });
}
