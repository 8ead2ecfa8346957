/**
 * Whether the cluster's cert-manager can be told not to renew an authority (`spec.renewal`, since 1.21): told by the schema that
 * the apiserver serves, which everybody may read. A yes is kept, a no is asked again after a while, so that an upgrade is found.
 *
 * An apiserver that has just started, or has just been given the kinds, lists objects of a kind and publishes its schema at
 * different moments. While the two disagree it is not known whether there is a cert-manager, and nothing is to be said of it.
 */
import type { Clock } from '@collective/base/clock';
import type { KubeApi } from '../kube/kube-api.ts';
import { partOf } from '../kube/object-facts.ts';

/** Who has installed or upgraded it waits for members to go on. */
const ASK_AGAIN_MS = 10_000;
/** Also when to look again at a member of which it is not known. */
export const UNKNOWN_AGAIN_MS = 1_500;
/** An apiserver publishes within seconds what it serves; a kind that is seen and cannot be used is as good as none. */
const UNKNOWN_FOR_MS = 30_000;
const CERTIFICATE_KIND = /(^|\.)Certificate$/;

export type RenewalSupport = boolean | 'absent';

export class CertManagerSupport {
  readonly #api: Pick<KubeApi, 'schemas'>;
  readonly #clock: Clock;
  #last: { readonly support: RenewalSupport; readonly atMs: number } | undefined;
  #asking: Promise<RenewalSupport> | undefined;
  #disagreeSinceMs: number | undefined;

  constructor({ api, clock }: { readonly api: Pick<KubeApi, 'schemas'>; readonly clock: Clock }) {
    this.#api = api;
    this.#clock = clock;
  }

  /** `seesCertificates`: by the watches there are the kinds of cert-manager. */
  async support(seesCertificates: boolean, signal: AbortSignal): Promise<RenewalSupport | 'unknown'> {
    const support = await this.#told(seesCertificates, signal);
    const nowMs = this.#clock.bootMs();
    if (seesCertificates === (support !== 'absent')) {
      this.#disagreeSinceMs = undefined;
      return support;
    }
    this.#disagreeSinceMs ??= nowMs;
    return nowMs - this.#disagreeSinceMs < UNKNOWN_FOR_MS ? 'unknown' : 'absent';
  }

  async #told(seesCertificates: boolean, signal: AbortSignal): Promise<RenewalSupport> {
    if (this.#last?.support === true) return true;
    const isDoubted = this.#last?.support === 'absent' && seesCertificates;
    const againMs = isDoubted ? UNKNOWN_AGAIN_MS : ASK_AGAIN_MS;
    if (this.#last !== undefined && this.#clock.bootMs() - this.#last.atMs < againMs) return this.#last.support;
    // Schemas are half a megabyte: members that are looked at together share the answer.
    this.#asking ??= this.#ask(signal).finally(() => {
      this.#asking = undefined;
    });
    return await this.#asking;
  }

  async #ask(signal: AbortSignal): Promise<RenewalSupport> {
    const support = renewalSupport(await this.#api.schemas('cert-manager.io/v1', { signal }));
    this.#last = { support, atMs: this.#clock.bootMs() };
    return support;
  }
}

function renewalSupport(schemas: Readonly<Record<string, unknown>> | undefined): RenewalSupport {
  const certificate = Object.entries(schemas ?? {}).find(([name]) => CERTIFICATE_KIND.test(name))?.[1];
  if (certificate === undefined) return 'absent';
  const spec = partOf(partOf(certificate, 'properties'), 'spec');
  return partOf(partOf(spec, 'properties'), 'renewal') !== undefined;
}
