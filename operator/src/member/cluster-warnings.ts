/**
 * What the cluster warns of, for things that no status tells: why a StatefulSet makes no pod (a quota), why a claim gets no
 * volume (a missing class). Events are asked for only while something of that kind is missing, and then not too often.
 */
import type { Clock } from '@collective/base/clock';
import { wallMs } from '@collective/base/clock';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { claimFacts, isReadyPod, partOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { podOf } from './names.ts';
import type { ClusterWarning, MemberObjects } from './picture.ts';

const ASK_AGAIN_MS = 15_000;
/** An older one may be about something that was mended. */
const COUNTS_FOR_MS = 10 * 60_000;
const NAMESPACES_KEPT_MAX = 1_000;

export type Warnings = ReadonlyMap<string, ClusterWarning>;

export class ClusterWarnings {
  readonly #api: Pick<KubeApi, 'list'>;
  readonly #clock: Clock;
  readonly #asked = new Map<string, { readonly atMs: number; readonly warnings: Warnings }>();

  constructor({ api, clock }: { readonly api: Pick<KubeApi, 'list'>; readonly clock: Clock }) {
    this.#api = api;
    this.#clock = clock;
  }

  async about(namespace: string, objects: MemberObjects, signal: AbortSignal): Promise<Warnings> {
    if (!isMissingSomething(objects)) return new Map();
    const known = this.#asked.get(namespace);
    const nowMs = this.#clock.bootMs();
    if (known !== undefined && nowMs - known.atMs < ASK_AGAIN_MS) return known.warnings;
    const { objects: events } = await this.#api.list(RESOURCES.events, { namespace, signal });
    const warnings = warningsOf(events, wallMs(this.#clock));
    if (this.#asked.size >= NAMESPACES_KEPT_MAX) this.#asked.clear();
    this.#asked.set(namespace, { atMs: nowMs, warnings });
    return warnings;
  }
}

/** A pod that is not there although its StatefulSet is, or a claim without a volume. */
export function isMissingSomething({ statefulSets, pods, volumeClaims }: MemberObjects): boolean {
  const lacksPod = [...statefulSets.keys()].some((name) => !pods.has(podOf(name)));
  const lacksVolume = [...volumeClaims.values()].some(
    (claim) => claimFacts(claim).phase === 'Pending' && !isReadyPod(pods.get(podOf(claim.metadata.name))),
  );
  return lacksPod || lacksVolume;
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
