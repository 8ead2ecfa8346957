/** One Collective: its status from those of its Members, and the PodMonitor that it may ask for. What it owns goes with it. */
import { isDeepStrictEqual } from 'node:util';
import { type Clock, wallMs } from '@collective/base/clock';
import type { Collective, CollectiveStatus } from '../api/collective.ts';
import { API_VERSION } from '../api/group.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject, ObjectKey } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { ClusterCache } from '../member/cluster-cache.ts';
import type { Reconciled } from '../runtime/controller.ts';
import { planCollective } from './plan-collective.ts';
import { PodMonitorKeeper, type PodMonitorKeeperParts } from './pod-monitor-keeper.ts';

export interface CollectiveReconcilerParts {
  readonly api: Pick<KubeApi, 'applyStatus' | 'get' | 'apply' | 'delete'>;
  readonly events: PodMonitorKeeperParts['events'];
  readonly cache: Pick<ClusterCache, 'collective' | 'members'>;
  readonly clock: Clock;
}

export class CollectiveReconciler {
  readonly #parts: CollectiveReconcilerParts;
  readonly #podMonitors: PodMonitorKeeper;

  constructor(parts: CollectiveReconcilerParts) {
    this.#parts = parts;
    this.#podMonitors = new PodMonitorKeeper(parts);
  }

  async reconcile(key: ObjectKey, signal: AbortSignal): Promise<Reconciled> {
    const { cache, clock } = this.#parts;
    const collective = cache.collective(key);
    if (collective === undefined) this.#podMonitors.forget(key);
    if (collective === undefined || collective.metadata.deletionTimestamp !== undefined) return {};
    const members = cache
      .members()
      .filter(({ metadata, spec }) => metadata.namespace === key.namespace && spec.collectiveRef.name === key.name);
    await this.#report(collective, planCollective(collective, members, wallMs(clock)), signal);
    return await this.#podMonitors.keep(collective, signal);
  }

  async #report(collective: Collective, status: CollectiveStatus, signal: AbortSignal): Promise<void> {
    if (isDeepStrictEqual(collective.status, status)) return;
    const { name, namespace, uid } = collective.metadata;
    const object = { apiVersion: API_VERSION, kind: 'Collective', metadata: { name, namespace, uid }, status };
    await this.#parts.api.applyStatus(RESOURCES.collectives, object as KubeObject, { signal });
  }
}
