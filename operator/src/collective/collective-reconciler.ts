/** One Collective: its status from those of its Members, and the PodMonitor that it may ask for. What it owns goes with it. */
import { isDeepStrictEqual } from 'node:util';
import { type Clock, wallMs } from '@collective/base/clock';
import type { Collective, CollectiveStatus } from '../api/collective.ts';
import { API_VERSION } from '../api/group.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { ObjectKey } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { ClusterCache } from '../member/cluster-cache.ts';
import { withoutMessages } from '../member/status-progress.ts';
import { type Reconciled, soonest } from '../runtime/controller.ts';
import type { DeclaredStatus } from '../runtime/declared-status.ts';
import { keyOf } from '../runtime/object-store.ts';
import { StatusPace } from '../runtime/status-pace.ts';
import { planCollective } from './plan-collective.ts';
import { PodMonitorKeeper, type PodMonitorKeeperParts } from './pod-monitor-keeper.ts';

export interface CollectiveReconcilerParts {
  readonly api: Pick<KubeApi, 'get' | 'apply' | 'delete'>;
  readonly statuses: DeclaredStatus;
  readonly events: PodMonitorKeeperParts['events'];
  readonly cache: Pick<ClusterCache, 'collective' | 'members'>;
  readonly clock: Clock;
}

export class CollectiveReconciler {
  readonly #parts: CollectiveReconcilerParts;
  readonly #podMonitors: PodMonitorKeeper;
  readonly #pace: StatusPace;

  constructor(parts: CollectiveReconcilerParts) {
    this.#parts = parts;
    this.#pace = new StatusPace(parts.clock);
    this.#podMonitors = new PodMonitorKeeper(parts);
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Reconciled> {
    const { cache, clock } = this.#parts;
    const collective = cache.collective(key);
    if (collective === undefined) {
      this.#podMonitors.forget(key);
      this.#pace.forget(key);
    }
    if (collective === undefined || collective.metadata.deletionTimestamp !== undefined) return {};
    const members = cache
      .members()
      .filter(({ metadata, spec }) => metadata.namespace === key.namespace && spec.collectiveRef.name === key.name);
    const againAfterMs = await this.#report(collective, planCollective(collective, members, wallMs(clock)), signal);
    const kept = await this.#podMonitors.keep(collective, signal);
    return soonest(kept.requeueAfterMs, againAfterMs);
  }

  /** When the rest of it is to be told; undefined: all is told. */
  async #report(collective: Collective, meant: CollectiveStatus, signal: AbortSignal): Promise<number | undefined> {
    const { statuses } = this.#parts;
    const status = statuses.declared(RESOURCES.collectives, meant);
    if (isDeepStrictEqual(collective.status, status)) return undefined;
    const againAfterMs = isProgress(collective.status, status) ? this.#pace.waitMs(keyOf(collective)) : 0;
    if (againAfterMs > 0) return againAfterMs;
    const { name, namespace, uid } = collective.metadata;
    const object = { apiVersion: API_VERSION, kind: 'Collective', metadata: { name, namespace, uid }, status };
    await statuses.apply(RESOURCES.collectives, object, { signal });
    this.#pace.wrote(keyOf(collective));
    return undefined;
  }
}

/** Counts and sentences; a condition that changes is none. */
function isProgress(before: CollectiveStatus | undefined, after: CollectiveStatus): boolean {
  const lasting = ({ observedGeneration, conditions }: CollectiveStatus): object => ({
    observedGeneration,
    conditions: withoutMessages(conditions),
  });
  return before !== undefined && isDeepStrictEqual(lasting(before), lasting(after));
}
