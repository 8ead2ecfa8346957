/**
 * Keeps the PodMonitor that a Collective asks for. Its kind is not watched, since most clusters do not have it: it is written when
 * the Collective has changed or the operator is new, and a steady Collective costs no call. One of the same name that was made for
 * anything else is neither written nor removed.
 */
import type { Collective } from '../api/collective.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError } from '../kube/kube-error.ts';
import type { KubeObject, ObjectKey } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { PlannedEvent } from '../member/plan-types.ts';
import type { Reconciled } from '../runtime/controller.ts';
import type { EventRecorder } from '../runtime/event-recorder.ts';
import { podMonitor } from './pod-monitor.ts';

/** A Prometheus operator that is installed later is found after this, and a name that is free again. */
const TRY_AGAIN_MS = 5 * 60_000;

export interface PodMonitorKeeperParts {
  readonly api: Pick<KubeApi, 'get' | 'apply' | 'delete'>;
  readonly events: Pick<EventRecorder, 'record'>;
}

export class PodMonitorKeeper {
  readonly #parts: PodMonitorKeeperParts;
  /** Uid and generation of each Collective when it was done last; one entry a Collective. */
  readonly #done = new Map<string, string>();

  constructor(parts: PodMonitorKeeperParts) {
    this.#parts = parts;
  }

  async keep(collective: Collective, signal: AbortSignal): Promise<Reconciled> {
    const { name, namespace = '', uid = '' } = collective.metadata;
    if (this.#done.get(nameOf({ namespace, name })) === stateOf(collective)) return {};
    const wanted = podMonitor(collective);
    try {
      const found = await this.#parts.api.get({ resource: RESOURCES.podMonitors, namespace, name }, { signal });
      const isOurs = found?.metadata.ownerReferences?.some((owner) => owner.uid === uid && owner.controller) === true;
      if (wanted === undefined) {
        if (isOurs) await this.#remove(found, signal);
      } else if (found !== undefined && !isOurs) {
        return this.#tell(collective, {
          reason: 'NameTaken',
          message: `The PodMonitor ${name} is not of this Collective and is left alone: delete it, or set spec.monitoring.enabled to false`,
        });
      } else await this.#parts.api.apply(RESOURCES.podMonitors, wanted, { signal });
    } catch (thrown) {
      if (!isKubeError(thrown) || !thrown.isNotFound) throw thrown;
      if (wanted === undefined) return this.#isDone(collective);
      return this.#tell(collective, {
        reason: 'PrometheusOperatorMissing',
        message:
          'spec.monitoring asks for a PodMonitor, a kind that this cluster does not have: install the Prometheus operator, or set spec.monitoring.enabled to false',
      });
    }
    return this.#isDone(collective);
  }

  /** Of a Collective that is gone; its PodMonitor goes with its owner. */
  forget(key: ObjectKey): void {
    this.#done.delete(nameOf(key));
  }

  #tell(collective: Collective, event: Pick<PlannedEvent, 'reason' | 'message'>): Reconciled {
    this.#parts.events.record(collective as unknown as KubeObject, { type: 'Warning', ...event });
    return { requeueAfterMs: TRY_AGAIN_MS };
  }

  #isDone(collective: Collective): Reconciled {
    const { name, namespace = '' } = collective.metadata;
    this.#done.set(nameOf({ namespace, name }), stateOf(collective));
    return {};
  }

  async #remove({ metadata: { namespace = '', name, uid } }: KubeObject, signal: AbortSignal): Promise<void> {
    await this.#parts.api.delete({ resource: RESOURCES.podMonitors, namespace, name }, { signal, uid });
  }
}

function nameOf({ namespace, name }: ObjectKey): string {
  return `${namespace}/${name}`;
}

function stateOf({ metadata: { uid, generation } }: Collective): string {
  return `${uid}/${generation}`;
}
