/**
 * Who signs leaves, as a port (T5): the member's own authority in embedded mode; in Kubernetes the coordinator never holds
 * the key, and keeps requests until they are signed elsewhere. A signer is only ever given a request that `checkCsr` has
 * checked as a whole and that was approved: by a token, or by the certificate that it renews.
 */
import type { CheckedRequest } from '@collective/protocol/tls/check-csr';

export interface IssuedLeaf {
  readonly certificatePem: string;
  readonly notAfterMs: number;
}

export interface Signer {
  /**
   * Safe to repeat. Throws `not_signed_yet` when it takes longer than a caller can wait, `csr_refused` when it will not be
   * signed, `overloaded` when too many wait.
   */
  sign(request: CheckedRequest, signal?: AbortSignal): Promise<IssuedLeaf>;
  /** Roots of the member, PEM: what peers pin (T4). */
  bundlePem(): string;
}
