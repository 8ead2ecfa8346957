/**
 * What the cluster warns of, for things that no status tells: why a StatefulSet makes no pod (a quota), why a claim gets no
 * volume (a missing class), why a pod does not get its volume (another machine has it). Events are asked for only while something of that kind is missing, and then not too often.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { claimFacts, isReadyPod, partOf, waitsLongToBegin } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { podOf } from './names.ts';
import { NamespaceQuestion } from './namespace-question.ts';
import type { ClusterWarning, MemberObjects } from './picture.ts';

/** A pod or volume that is being made is not missing: among many members something always is. */
const MISSED_AFTER_MS = 10_000;
/** An older one may be about something that was mended. */
const COUNTS_FOR_MS = 10 * 60_000;

export type Warnings = ReadonlyMap<string, ClusterWarning>;

export class ClusterWarnings {
  readonly #clock: Clock;
  readonly #warnings: NamespaceQuestion<Warnings>;

  constructor({ api, clock }: { readonly api: Pick<KubeApi, 'list'>; readonly clock: Clock }) {
    this.#clock = clock;
    // A namespace may have thousands of events; few are warnings.
    const ask = async (namespace: string, signal: AbortSignal): Promise<Warnings> => {
      const { objects } = await api.list(RESOURCES.events, { namespace, fieldSelector: 'type=Warning', signal });
      return warningsOf(objects, wallMs(clock));
    };
    this.#warnings = new NamespaceQuestion({ clock, ask });
  }

  async about(namespace: string, objects: MemberObjects, signal: AbortSignal): Promise<Warnings> {
    if (!isMissingSomething(objects, wallMs(this.#clock))) return new Map();
    return await this.#warnings.answer(namespace, signal);
  }
}

/** A pod that is not there although its StatefulSet is, a claim without a volume, or a pod that does not begin, for longer than that takes. */
export function isMissingSomething({ statefulSets, pods, volumeClaims }: MemberObjects, nowMs: number): boolean {
  const lacksPod = [...statefulSets].some(([name, set]) => !pods.has(podOf(name)) && !isNew(set, nowMs));
  const lacksVolume = [...volumeClaims.values()].some(
    (claim) =>
      claimFacts(claim).phase === 'Pending' &&
      !isNew(claim, nowMs) &&
      !isReadyPod(pods.get(podOf(claim.metadata.name))),
  );
  return lacksPod || lacksVolume || [...pods.values()].some((pod) => waitsLongToBegin(pod, nowMs));
}

/** By the server's clock, which may be ahead of ours: what is made in the future is not new. */
function isNew({ metadata }: KubeObject, nowMs: number): boolean {
  const ageMs = nowMs - Date.parse(metadata.creationTimestamp ?? '');
  return ageMs >= 0 && ageMs < MISSED_AFTER_MS;
}

/** Newest of each object, by `Kind/name`. */
export function warningsOf(events: readonly KubeObject[], nowMs: number): Warnings {
  const newest = new Map<string, { readonly atMs: number; readonly warning: ClusterWarning }>();
  for (const event of events) {
    const atMs = timeOf(event);
    if (event.type !== 'Warning' || nowMs - atMs > COUNTS_FOR_MS) continue;
    const key = `${String(partOf(event.regarding, 'kind'))}/${String(partOf(event.regarding, 'name'))}`;
    if ((newest.get(key)?.atMs ?? 0) > atMs) continue;
    newest.set(key, { atMs, warning: { reason: String(event.reason ?? ''), message: String(event.note ?? '') } });
  }
  return new Map([...newest].map(([key, { warning }]) => [key, warning]));
}

function timeOf(event: KubeObject): number {
  const times = [
    partOf(event.series, 'lastObservedTime'),
    event.deprecatedLastTimestamp,
    event.eventTime,
    event.metadata.creationTimestamp,
  ];
  return Math.max(0, ...times.flatMap((time) => (typeof time === 'string' ? [Date.parse(time)] : [])));
}
