/** The public shapes of requests for certificates that a coordinator keeps for whoever signs them (T5). Types only, as in `api.ts`. */
import type { CallOptions } from './api.ts';

export interface KeptCertificateRequest {
  readonly id: string;
  /** URI that it was approved for. */
  readonly subject: string;
  /** PKCS#10, DER. */
  readonly csr: Uint8Array;
}

export interface KeptCertificateRequests {
  /** Unanswered, oldest first. */
  readonly requests: readonly KeptCertificateRequest[];
  /** Of what is kept now; for `after`. */
  readonly mark: string;
}

export interface CertificateRequestsQuery {
  readonly after?: string;
  /** Answered when something is kept that the answer with the mark `after` did not know of, at the latest after so long; default: at once. */
  readonly waitSeconds?: number;
}

export type CertificateRequestAnswer = { readonly certificatePem: string } | { readonly refused: string };

/** For the operator of the member alone. */
export interface CertificateRequests {
  list(query?: CertificateRequestsQuery, options?: CallOptions): Promise<KeptCertificateRequests>;
  /**
   * False: it was answered before, or is not kept any more. Throws `invalid_argument` for a certificate that is not what was asked for,
   * or that no root of the coordinator's bundle has signed (yet).
   */
  answer(id: string, answer: CertificateRequestAnswer, options?: CallOptions): Promise<boolean>;
}
