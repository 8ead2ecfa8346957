/** A person's certificate renewed over her own identity (T3); what to do and when is the protocol's `keep-renewed.ts`. */
import type { Clock } from '@collective/base/clock';
import { silentLog } from '@collective/base/log';
import { keepRenewed, type RenewalLoop, renew } from '@collective/protocol/tls/keep-renewed';
import type { TrustFiles } from '@collective/protocol/tls/trust-files';
import type { Admin } from '../api.ts';

export interface CertificateRenewal {
  readonly trust: TrustFiles;
  readonly admin: Admin;
  readonly signal?: AbortSignal;
}

/** Renews now, due or not, and writes the new key and certificate. */
export async function renewCertificate({ trust, admin, signal }: CertificateRenewal): Promise<void> {
  await renew({ trust, request: (csr) => admin.renewCertificate(csr, { signal }) });
}

/** Renews when two thirds of the certificate's life are over, or another root signs now, until it is stopped. */
export function renewWhenDue({
  trust,
  admin,
  clock,
  signingRoot,
}: CertificateRenewal & { readonly clock: Clock; readonly signingRoot: () => string }): RenewalLoop {
  return keepRenewed({ trust, clock, log: silentLog, request: (csr) => admin.renewCertificate(csr), signingRoot });
}
