/**
 * One Member from what is to what should be: gather, plan, apply, report (K1). Level-triggered: every look decides from the whole
 * picture, so a lost event or a dead operator costs time and nothing else. A look that finds everything in order asks the
 * coordinator and makes no call to the apiserver.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import type { Log } from '@collective/base/log';
import type { Admin } from '@collective/client';
import { ANNOTATIONS, FINALIZER } from '../api/group.ts';
import type { Member, MemberStatus } from '../api/member.ts';
import { type CertManagerSupport, UNKNOWN_AGAIN_MS } from '../ca/cert-manager-support.ts';
import { type AskedCoordinator, askCoordinator } from '../coordinator/ask-coordinator.ts';
import type { CoordinatorAccess } from '../coordinator/coordinator-access.ts';
import { askExternalEndpoint } from '../coordinator/external-endpoint.ts';
import { peerReports } from '../coordinator/peer-reports.ts';
import { checkKeptRequest } from '../csr/checked-requests.ts';
import type { RequestWatch } from '../csr/request-watch.ts';
import { serveRequests } from '../csr/serve-requests.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject, ObjectKey } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { Applier } from '../runtime/applier.ts';
import { type Reconciled, soonest } from '../runtime/controller.ts';
import type { DeclaredStatus } from '../runtime/declared-status.ts';
import { userLeaves } from '../users/user-leaves.ts';
import { applyMember, refusedRemoval } from './apply-member.ts';
import type { ClaimUsers } from './claim-users.ts';
import type { ClusterCache } from './cluster-cache.ts';
import type { ClusterWarnings } from './cluster-warnings.ts';
import { namespaceEnds } from './ending-namespace.ts';
import { foreignObjects } from './foreign-objects.ts';
import { LatestStatus } from './latest-status.ts';
import type { MemberMetrics } from './member-metrics.ts';
import { plainStatus, statusOf } from './member-status.ts';
import type { MemberPicture, TrustClaim } from './picture.ts';
import { type DeletionPlan, deletingConditions, withRefused } from './plan-deletion.ts';
import { conditionsOf, hasFinalizer, type MemberPlan, planMember, requeueAfterMs } from './plan-member.ts';
import { nodesToCount, planNodes } from './plan-nodes.ts';
import type { PlannedEvent } from './plan-types.ts';
import { type OperatorSettings, shapeOf } from './shape.ts';
import { statusEvents } from './status-events.ts';

/** Where events go; writing one never fails a reconcile. */
export interface EventSink {
  record(regarding: KubeObject, event: PlannedEvent): void;
}

export interface MemberReconcilerParts {
  readonly api: KubeApi;
  readonly cache: ClusterCache;
  readonly applier: Applier;
  readonly coordinators: CoordinatorAccess;
  readonly certManager: CertManagerSupport;
  readonly warnings: ClusterWarnings;
  readonly claimUsers: ClaimUsers;
  readonly requests: Pick<RequestWatch, 'follow' | 'forget'>;
  readonly statuses: DeclaredStatus;
  readonly events: EventSink;
  readonly metrics: MemberMetrics;
  readonly settings: OperatorSettings;
  readonly clock: Clock;
  readonly log: Log;
}

export class MemberReconciler {
  readonly #parts: MemberReconcilerParts;
  readonly #latest: LatestStatus;

  constructor(parts: MemberReconcilerParts) {
    this.#parts = parts;
    this.#latest = new LatestStatus(parts.statuses, parts.clock);
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Reconciled> {
    const { cache, certManager, coordinators, requests, metrics } = this.#parts;
    const cached = cache.member(key);
    if (cached === undefined) {
      coordinators.forget(key);
      requests.forget(key);
      metrics.forget(key);
      this.#latest.forget(key);
      return {};
    }
    // Before the look: what is in the way of certificates is asked for only where some can be made.
    const support = await certManager.support(cache.seesCertificates, signal);
    const isDeleted = cached.metadata.deletionTimestamp !== undefined;
    if (support === 'unknown' && !isDeleted) return { requeueAfterMs: UNKNOWN_AGAIN_MS };
    const { picture, admin } = await this.#gather(this.#latest.of(cached), signal);
    if (admin !== undefined) requests.follow(key, admin);
    const plan = planMember(picture, {
      renewalPolicySupported: support === 'unknown' ? 'absent' : support,
      userLeaves: userLeaves(picture.member, trustDomainOf(picture)),
      peers: peerReports(picture.coordinator, trustDomainOf(picture)),
    });
    switch (plan.kind) {
      case 'run':
        return await this.#run(picture, plan, admin, signal);
      case 'delete':
        return await this.#delete(picture, plan.deletion, signal);
      case 'external':
      case 'stalled':
        return soonest(plan.requeueAfterMs, await this.#report(picture, plainStatus(picture, plan.conditions), signal));
    }
  }

  async #gather(member: Member, signal: AbortSignal): Promise<{ picture: MemberPicture; admin: Admin | undefined }> {
    const { api, cache, coordinators, warnings, claimUsers, settings, clock } = this.#parts;
    const { name, namespace = '', deletionTimestamp } = member.metadata;
    const isDeleted = deletionTimestamp !== undefined;
    const key = { namespace, name };
    const objects = cache.objectsOf(key);
    const collective = cache.collective({ namespace, name: member.spec.collectiveRef.name });
    const unasked: AskedCoordinator = { answer: { state: 'unasked', why: 'it has no Collective' } };
    const base: MemberPicture = {
      nowMs: wallMs(clock),
      operator: settings,
      member,
      ...(collective === undefined ? {} : { collective }),
      claims: this.#claims(member, collective?.spec.domain),
      objects,
      coordinator: unasked.answer,
      keptRequests: [],
      namespaceEnds: isDeleted && (await namespaceEnds(api, namespace, signal)),
      foreign: isDeleted ? new Set() : await foreignObjects({ api, cache }, { member, objects }, signal),
      warnings: await warnings.about(namespace, objects, signal),
      claimUsers: await claimUsers.of(namespace, objects, signal),
    };
    // A Collective that went before its Member leaves a coordinator that can be asked whether it may go, too.
    const trustDomain =
      collective === undefined
        ? isDeleted
          ? member.status?.trustDomain
          : undefined
        : `${name}.${collective.spec.domain}`;
    if (trustDomain === undefined) return { picture: base, admin: undefined };
    const { external } = member.spec;
    if (external !== undefined) {
      const answer = await askExternalEndpoint({ ...external, trustDomain }, clock, signal);
      return { picture: { ...base, external: answer }, admin: undefined };
    }
    const { answer, admin } = await askCoordinator({
      access: coordinators,
      member,
      trustDomain,
      objects,
      signal,
      nodesToCount: (sofar) => {
        if (collective === undefined || isDeleted) return [];
        const picture = { ...base, coordinator: sofar };
        return nodesToCount(planNodes(picture, shapeOf(member, collective, settings)), sofar);
      },
    });
    const kept = answer.state === 'answered' ? answer.requests : [];
    const keptRequests = await Promise.all(kept.map((request) => checkKeptRequest(request, trustDomain)));
    return { picture: { ...base, coordinator: answer, keptRequests }, admin };
  }

  #claims(member: Member, domain: string | undefined): TrustClaim[] {
    const { cache } = this.#parts;
    if (domain === undefined) return [];
    return cache.members().flatMap(({ metadata, spec, status }) => {
      const { name, namespace = '', uid = '', creationTimestamp: created = '' } = metadata;
      if (name !== member.metadata.name) return [];
      const collective = cache.collective({ namespace, name: spec.collectiveRef.name });
      const holds = status?.trustDomain === `${name}.${domain}`;
      return collective?.spec.domain === domain ? [{ namespace, name, uid, created, holds }] : [];
    });
  }

  async #run(
    picture: MemberPicture,
    plan: MemberPlan,
    admin: Admin | undefined,
    signal: AbortSignal,
  ): Promise<Reconciled> {
    const { api, applier, clock, log, metrics, events } = this.#parts;
    const { member } = picture;
    const { name, namespace = '' } = member.metadata;
    if (!hasFinalizer(picture))
      await this.#setFinalizers(member, [...(member.metadata.finalizers ?? []), FINALIZER], signal);
    const ofMember = log.child({ namespace, member: name });
    const outcome = await applyMember({ api, applier, clock, log: ofMember }, { picture, plan, admin }, signal);
    const served = { plan: plan.requests, kept: picture.keptRequests };
    const told = await serveRequests({ applier, admin, log: ofMember }, served, signal);
    for (const event of [...plan.events, ...outcome.events, ...told]) events.record(asObject(member), event);
    if (plan.orderIsOver) await this.#takeOrderAway(member, signal);
    const conditions = conditionsOf(plan, picture, outcome.refused);
    const { settingsWait } = outcome;
    const status = statusOf({ picture, plan, conditions, settingsWait });
    const againAfterMs = await this.#report(picture, status, signal);
    metrics.seen({ namespace, name }, status, picture.coordinator);
    return soonest(requeueAfterMs(plan, conditions), againAfterMs);
  }

  async #delete(picture: MemberPicture, deletion: DeletionPlan, signal: AbortSignal): Promise<Reconciled> {
    const { applier, log } = this.#parts;
    const { member } = picture;
    if (!hasFinalizer(picture)) return {};
    // Told before it is done: who goes on after a restart must know that the coordinator had its say.
    if (reconcilingReason(member) !== deletion.reconciling.reason)
      await this.#report(picture, plainStatus(picture, deletingConditions(picture, deletion)), signal);
    const { refused } = await applier.remove(deletion.removals, signal);
    const seen = withRefused(deletion, refused.map(refusedRemoval));
    const againAfterMs = await this.#report(picture, plainStatus(picture, deletingConditions(picture, seen)), signal);
    if (deletion.isFinished) {
      const left = member.metadata.finalizers?.filter((finalizer) => finalizer !== FINALIZER) ?? [];
      await this.#setFinalizers(member, left, signal);
      const { name, namespace } = member.metadata;
      log.info({ namespace, member: name, why: deletion.reconciling.message }, 'member has ended');
    }
    return soonest(seen.requeueAfterMs, againAfterMs);
  }

  /** A list is replaced as a whole: only if nobody changed the object meanwhile. */
  async #setFinalizers(member: Member, finalizers: readonly string[], signal: AbortSignal): Promise<void> {
    // The status may have been written a moment ago.
    const { name, namespace = '', resourceVersion, uid } = this.#latest.of(member).metadata;
    const reference = { resource: RESOURCES.members, namespace, name };
    const answer = await this.#parts.api.patch(
      reference,
      { metadata: { uid, resourceVersion, finalizers } },
      { signal },
    );
    this.#latest.wrote(answer);
  }

  /** Only the one that was seen: another order may have come meanwhile. */
  async #takeOrderAway(member: Member, signal: AbortSignal): Promise<void> {
    const { name, namespace = '', resourceVersion, uid } = this.#latest.of(member).metadata;
    const reference = { resource: RESOURCES.members, namespace, name };
    const annotations = { [ANNOTATIONS.restoreFrom]: null };
    const answer = await this.#parts.api.patch(
      reference,
      { metadata: { uid, resourceVersion, annotations } },
      { signal },
    );
    this.#latest.wrote(answer);
  }

  /** When the rest of it is to be told; undefined: all is told. */
  async #report({ member }: MemberPicture, status: MemberStatus, signal: AbortSignal): Promise<number | undefined> {
    const { events } = this.#parts;
    // A part of it may have been told in this look.
    const before = this.#latest.of(member);
    const { isWritten, againAfterMs } = await this.#latest.write(before, status, signal);
    if (isWritten) for (const event of statusEvents(before.status, status)) events.record(asObject(member), event);
    return againAfterMs;
  }
}

function trustDomainOf({ member, collective }: MemberPicture): string {
  return `${member.metadata.name}.${collective?.spec.domain ?? ''}`;
}

function reconcilingReason({ status }: Member): string | undefined {
  return status?.conditions?.find(({ type }) => type === 'Reconciling')?.reason;
}

function asObject(member: Member): KubeObject {
  return member as unknown as KubeObject;
}
