/**
 * One Member from what is to what should be: gather, plan, apply, report (K1). Level-triggered: every look decides from the whole
 * picture, so a lost event or a dead operator costs time and nothing else. A look that finds everything in order asks the
 * coordinator and makes no call to the apiserver.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import type { Log } from '@collective/base/log';
import type { Admin } from '@collective/client';
import { FINALIZER } from '../api/group.ts';
import type { Member, MemberStatus } from '../api/member.ts';
import type { CertManagerSupport } from '../ca/cert-manager-support.ts';
import { type AskedCoordinator, askCoordinator } from '../coordinator/ask-coordinator.ts';
import type { CoordinatorAccess } from '../coordinator/coordinator-access.ts';
import { askExternalEndpoint } from '../coordinator/external-endpoint.ts';
import { peerReports } from '../coordinator/peer-reports.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject, ObjectKey } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { Applier } from '../runtime/applier.ts';
import type { Reconciled } from '../runtime/controller.ts';
import { userLeaves } from '../users/user-leaves.ts';
import { applyMember } from './apply-member.ts';
import type { ClusterCache } from './cluster-cache.ts';
import type { ClusterWarnings } from './cluster-warnings.ts';
import { LatestStatus } from './latest-status.ts';
import type { MemberMetrics } from './member-metrics.ts';
import { plainStatus, statusOf } from './member-status.ts';
import type { MemberPicture, TrustClaim } from './picture.ts';
import { type MemberConditions, plainConditions } from './plan-conditions.ts';
import type { DeletionPlan } from './plan-deletion.ts';
import { conditionsOf, hasFinalizer, type MemberPlan, planMember, requeueAfterMs } from './plan-member.ts';
import { nodesToClose, planNodes } from './plan-nodes.ts';
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
    this.#latest = new LatestStatus(parts.api);
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Reconciled> {
    const { cache, coordinators, metrics } = this.#parts;
    const cached = cache.member(key);
    if (cached === undefined) {
      coordinators.forget(key);
      metrics.forget(key);
      this.#latest.forget(key);
      return {};
    }
    const { picture, admin } = await this.#gather(this.#latest.of(cached), signal);
    const plan = planMember(picture, {
      renewalPolicySupported: await this.#certManagerSupport(signal),
      userLeaves: userLeaves(picture.member, trustDomainOf(picture)),
      peers: peerReports(picture.coordinator, trustDomainOf(picture)),
    });
    switch (plan.kind) {
      case 'run':
        return await this.#run(picture, plan, admin, signal);
      case 'delete':
        return await this.#delete(picture, plan.deletion, signal);
      case 'external':
        await this.#report(picture, plainStatus(picture, plan.conditions), signal);
        return { requeueAfterMs: plan.requeueAfterMs };
      case 'stalled':
        await this.#report(picture, plainStatus(picture, plan.conditions), signal);
        return {};
    }
  }

  async #gather(member: Member, signal: AbortSignal): Promise<{ picture: MemberPicture; admin: Admin | undefined }> {
    const { cache, coordinators, warnings, settings, clock } = this.#parts;
    const { name, namespace = '' } = member.metadata;
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
      warnings: await warnings.about(namespace, objects, signal),
    };
    if (collective === undefined) return { picture: base, admin: undefined };
    const trustDomain = `${name}.${collective.spec.domain}`;
    const { external } = member.spec;
    if (external !== undefined) {
      const answer = await askExternalEndpoint({ ...external, trustDomain }, clock, signal);
      return { picture: { ...base, external: answer }, admin: undefined };
    }
    const shape = shapeOf(member, collective, settings);
    const { answer, admin } = await askCoordinator({
      access: coordinators,
      member,
      trustDomain,
      objects,
      signal,
      nodesToCount: (sofar) => {
        const picture = { ...base, coordinator: sofar };
        return member.metadata.deletionTimestamp === undefined ? nodesToClose(planNodes(picture, shape), sofar) : [];
      },
    });
    return { picture: { ...base, coordinator: answer }, admin };
  }

  #claims(member: Member, domain: string | undefined): TrustClaim[] {
    const { cache } = this.#parts;
    if (domain === undefined) return [];
    return cache.members().flatMap(({ metadata, spec }) => {
      const { name, namespace = '', uid = '', creationTimestamp: created = '' } = metadata;
      if (name !== member.metadata.name) return [];
      const collective = cache.collective({ namespace, name: spec.collectiveRef.name });
      return collective?.spec.domain === domain ? [{ namespace, name, uid, created }] : [];
    });
  }

  async #certManagerSupport(signal: AbortSignal): Promise<boolean | 'absent'> {
    const { cache, certManager } = this.#parts;
    const support = await certManager.support(signal);
    // What is not watched yet must not be taken for missing.
    return support !== 'absent' && !cache.seesCertificates ? 'absent' : support;
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
    for (const event of plan.events) events.record(asObject(member), event);
    const conditions = conditionsOf(plan, picture, outcome.refused);
    const { began } = outcome;
    const status = statusOf({ picture, plan, conditions, began });
    await this.#report(picture, status, signal);
    metrics.seen({ namespace, name }, status, picture.coordinator);
    return { requeueAfterMs: requeueAfterMs(plan, conditions) };
  }

  async #delete(picture: MemberPicture, deletion: DeletionPlan, signal: AbortSignal): Promise<Reconciled> {
    const { applier } = this.#parts;
    const { member } = picture;
    if (!hasFinalizer(picture)) return {};
    // Told before it is done: who goes on after a restart must know that the coordinator had its say.
    await this.#report(picture, plainStatus(picture, deletingConditions(picture, deletion)), signal);
    await applier.remove(deletion.removals, signal);
    if (deletion.isFinished) {
      const left = member.metadata.finalizers?.filter((finalizer) => finalizer !== FINALIZER) ?? [];
      await this.#setFinalizers(member, left, signal);
    }
    return deletion.requeueAfterMs === undefined ? {} : { requeueAfterMs: deletion.requeueAfterMs };
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

  async #report({ member }: MemberPicture, status: MemberStatus, signal: AbortSignal): Promise<void> {
    const { events } = this.#parts;
    if (!(await this.#latest.write(member, status, signal))) return;
    for (const event of statusEvents(member.status, status)) events.record(asObject(member), event);
  }
}

function trustDomainOf({ member, collective }: MemberPicture): string {
  return `${member.metadata.name}.${collective?.spec.domain ?? ''}`;
}

function deletingConditions({ member }: MemberPicture, { reconciling, stalled }: DeletionPlan): MemberConditions {
  const { message } = stalled ?? reconciling;
  const ready = { status: 'False', reason: 'Deleting', message } as const;
  const before = member.status?.conditions ?? [];
  const kept = Object.fromEntries(
    before.map(({ type, status, reason, message }) => [type, { status, reason, message }]),
  );
  const plain = plainConditions(stalled, ready);
  return { ...plain, ...kept, Ready: ready, Reconciling: reconciling, Stalled: plain.Stalled };
}

function asObject(member: Member): KubeObject {
  return member as unknown as KubeObject;
}
