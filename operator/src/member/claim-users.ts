/**
 * Who holds volume claims that were to go: Kubernetes keeps a claim while a pod uses it, also one that is nobody's of ours, as a
 * job that copies or a shell that somebody left open. Pods that are not ours are not watched; they are asked for only while a claim stays.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import { ANNOTATIONS } from '../api/group.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { annotationOf, partOf, podSpecOf } from '../kube/object-facts.ts';
import { RESOURCES } from '../kube/resources.ts';
import { NamespaceQuestion } from './namespace-question.ts';
import type { MemberObjects } from './picture.ts';

/** A claim whose last pod has ended goes within moments. */
const STAYS_AFTER_MS = 10_000;

/** Names of pods, by claim. */
export type ClaimUsersByName = ReadonlyMap<string, readonly string[]>;

export class ClaimUsers {
  readonly #clock: Clock;
  readonly #users: NamespaceQuestion<ClaimUsersByName>;

  constructor({ api, clock }: { readonly api: Pick<KubeApi, 'list'>; readonly clock: Clock }) {
    this.#clock = clock;
    const ask = async (namespace: string, signal: AbortSignal): Promise<ClaimUsersByName> =>
      usersOf((await api.list(RESOURCES.pods, { namespace, signal })).objects);
    this.#users = new NamespaceQuestion({ clock, ask });
  }

  async of(namespace: string, { volumeClaims }: MemberObjects, signal: AbortSignal): Promise<ClaimUsersByName> {
    const nowMs = wallMs(this.#clock);
    const isHeld = (claim: KubeObject): boolean =>
      annotationOf(claim, ANNOTATIONS.removal) === 'Drained' && staysTooLong(claim, nowMs);
    if (![...volumeClaims.values()].some(isHeld)) return new Map();
    return await this.#users.answer(namespace, signal);
  }
}

/** It was to go, and is there still. */
export function staysTooLong({ metadata }: KubeObject, nowMs: number): boolean {
  return nowMs - Date.parse(metadata.deletionTimestamp ?? '') >= STAYS_AFTER_MS;
}

/** One that has no machine yet holds nothing; one that has ended does, until it is deleted. */
export function usersOf(pods: readonly KubeObject[]): ClaimUsersByName {
  const users = new Map<string, string[]>();
  for (const pod of pods) {
    const spec = podSpecOf(pod);
    const volumes = partOf(spec, 'volumes');
    if (!partOf(spec, 'nodeName') || !Array.isArray(volumes)) continue;
    const claims = volumes.map((volume) => partOf(partOf(volume, 'persistentVolumeClaim'), 'claimName'));
    for (const claim of new Set(claims)) {
      if (typeof claim === 'string') users.set(claim, [...(users.get(claim) ?? []), pod.metadata.name]);
    }
  }
  return users;
}
