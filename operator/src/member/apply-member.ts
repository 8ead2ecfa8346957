/**
 * Does what a plan of a member says, in its order: objects, orders to the coordinator, removals, a touch of the pods. What the
 * apiserver refuses of single objects is an outcome, told in conditions; what a coordinator refuses is told by events, and comes again.
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
import type { Applier, GaveWay, RefusedRemoval } from '../runtime/applier.ts';
import { givenNodePort } from './external-address.ts';
import type { MemberPicture } from './picture.ts';
import type { CoordinatorOrder, MemberPlan } from './plan-member.ts';
import type { PlannedEvent } from './plan-types.ts';
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
  /** The settings of the coordinator's beginning are still to be written. */
  readonly settingsWait: boolean;
  /** Of orders that the coordinator refuses, and of ports that are others. */
  readonly events: readonly PlannedEvent[];
}

export async function applyMember(
  { api, applier, clock, log }: ApplyMemberParts,
  { picture, plan, admin }: { picture: MemberPicture; plan: MemberPlan; admin: Admin | undefined },
  signal: AbortSignal,
): Promise<MemberOutcome> {
  const { refused, gaveWay } = await applier.apply(plan.applies, signal);
  for (const name of plan.certificates.renewals) {
    const certificate = picture.objects.certificates.get(name);
    if (certificate === undefined) continue;
    const reference = { resource: RESOURCES.certificates, namespace: plan.shape.namespace, name };
    await orLater(api.patch(reference, issuingPatch(certificate, wallMs(clock)), { subresource: 'status', signal }));
  }
  let { settingsWait } = plan;
  const events: PlannedEvent[] = [];
  for (const order of admin === undefined ? [] : plan.orders) {
    const failure = await obey(order, { admin: admin as Admin, picture, log }, signal);
    if (order.kind === 'root-realm') settingsWait = failure !== undefined;
    if (failure !== undefined && isToBeTold(order, failure)) events.push(refusedOrder(failure));
  }
  const kept = await applier.remove(plan.removals, signal);
  for (const { metadata } of plan.podsToTouch) {
    const reference = { resource: RESOURCES.pods, namespace: plan.shape.namespace, name: metadata.name };
    const annotations = { [ANNOTATIONS.trustBundleHash]: plan.certificates.trustBundleHash };
    await orLater(api.patch(reference, { metadata: { uid: metadata.uid, annotations } }, { signal }));
  }
  return {
    settingsWait,
    events: [...gaveWay.map(otherPort), ...events],
    refused: [
      ...refused.map(({ intent, error }) => ({
        kind: intent.resource.kind,
        name: intent.object.metadata.name,
        message: error.message,
      })),
      ...kept.refused.map(refusedRemoval),
    ],
  };
}

export function refusedRemoval({ removal: { reference }, error }: RefusedRemoval): RefusedWrite {
  return { kind: reference.resource.kind, name: reference.name, message: error.message };
}

/** What is asked for at first is a port that an earlier Service had (`plan-objects.ts`). */
function otherPort({ intent, object, error }: GaveWay): PlannedEvent {
  const [before, now] = [givenNodePort(intent.atFirst), givenNodePort(object)];
  return {
    type: 'Warning',
    reason: 'PortChanged',
    message: `Service ${object.metadata.name} cannot have its port ${before} again and has ${now} now; who dials ${before} must be told. ${error.message}`,
  };
}

interface OrderParts {
  readonly admin: Admin;
  readonly picture: MemberPicture;
  readonly log: Log;
}

/** Undefined: it is done. Otherwise it comes again with the next look. */
async function obey(
  order: CoordinatorOrder,
  { admin, picture, log }: OrderParts,
  signal: AbortSignal,
): Promise<CollectiveError | undefined> {
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
    return undefined;
  } catch (thrown) {
    signal.throwIfAborted();
    if (!(thrown instanceof CollectiveError)) throw thrown;
    // Forgotten already, by an order whose answer was lost.
    if (order.kind === 'forget' && thrown.code === 'not_found') return undefined;
    log.warn({ order, err: thrown }, 'order to the coordinator failed');
    return thrown;
  }
}

/** Of a coordinator that goes just now the conditions tell. */
const PASSING: ReadonlySet<string> = new Set(['unavailable', 'deadline_exceeded', 'shutting_down', 'overloaded']);

function isToBeTold(order: CoordinatorOrder, { code, details }: CollectiveError): boolean {
  // That its pod has ended is noticed by the coordinator a moment later; that chunks lie there is another matter.
  const isMomentary = order.kind === 'forget' && code === 'busy' && details.chunks === undefined;
  return !PASSING.has(code) && !isMomentary;
}

function refusedOrder({ message, todo }: CollectiveError): PlannedEvent {
  return { type: 'Warning', reason: 'OrderRefused', message: `The coordinator refuses: ${message}. ${todo}` };
}

/** Somebody else was faster, or a webhook is silent: it comes again with the next look. */
async function orLater(call: Promise<unknown>): Promise<void> {
  await call.catch((thrown: unknown) => {
    if (!isKubeError(thrown) || !(thrown.isConflict || thrown.isNotFound || thrown.isUnjudged)) throw thrown;
  });
}
