/**
 * Who signs leaves, as a port (T5): the member's own authority in embedded mode; in Kubernetes the coordinator never holds
 * the key. A signer is only ever given a request that `checkCsr` has checked as a whole.
 */
import type { CheckedRequest } from '@collective/protocol/tls/check-csr';

export interface IssuedLeaf {
  readonly certificatePem: string;
  readonly notAfterMs: number;
}

export interface Signer {
  sign(request: CheckedRequest): Promise<IssuedLeaf>;
  /** Roots of the member, PEM: what peers pin (T4). */
  bundlePem(): string;
}
