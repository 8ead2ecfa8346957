/**
 * Whether the cluster's cert-manager can be told not to renew an authority (`spec.renewal`, since 1.21): told by the schema that
 * the apiserver serves, which everybody may read. A yes is kept, a no is asked again after a while, so that an upgrade is found.
 */
import type { Clock } from '@collective/base/clock';
import type { KubeApi } from '../kube/kube-api.ts';
import { partOf } from '../kube/object-facts.ts';

const ASK_AGAIN_MS = 30_000;
const CERTIFICATE_KIND = /(^|\.)Certificate$/;

export type RenewalSupport = boolean | 'absent';

export class CertManagerSupport {
  readonly #api: Pick<KubeApi, 'schemas'>;
  readonly #clock: Clock;
  #last: { readonly support: RenewalSupport; readonly atMs: number } | undefined;

  constructor({ api, clock }: { readonly api: Pick<KubeApi, 'schemas'>; readonly clock: Clock }) {
    this.#api = api;
    this.#clock = clock;
  }

  async support(signal: AbortSignal): Promise<RenewalSupport> {
    const nowMs = this.#clock.bootMs();
    if (this.#last?.support === true) return true;
    if (this.#last !== undefined && nowMs - this.#last.atMs < ASK_AGAIN_MS) return this.#last.support;
    const support = renewalSupport(await this.#api.schemas('cert-manager.io/v1', { signal }));
    this.#last = { support, atMs: nowMs };
    return support;
  }
}

export function renewalSupport(schemas: Readonly<Record<string, unknown>> | undefined): RenewalSupport {
  const certificate = Object.entries(schemas ?? {}).find(([name]) => CERTIFICATE_KIND.test(name))?.[1];
  if (certificate === undefined) return 'absent';
  const spec = partOf(partOf(certificate, 'properties'), 'spec');
  return partOf(partOf(spec, 'properties'), 'renewal') !== undefined;
}
