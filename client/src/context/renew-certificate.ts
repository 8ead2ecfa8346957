/** At 2/3 of its life a peer renews its certificate by a request over the old one (T3). The key is made anew as well. */
import { type Clock, wallMs } from '@collective/base/clock';
import { type TrustFiles, writeTrustFiles } from '@collective/protocol/tls/trust-files';
import type { Admin } from '../api.ts';

const RENEW_AFTER_SHARE = 2 / 3;

export interface Renewal {
  readonly trust: TrustFiles;
  readonly admin: Admin;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

/** True if a new certificate was written. */
export async function renewIfDue(renewal: Renewal): Promise<boolean> {
  const { validFromDate, validToDate } = renewal.trust.current.leaf;
  const lifeMs = validToDate.getTime() - validFromDate.getTime();
  if (wallMs(renewal.clock) < validFromDate.getTime() + lifeMs * RENEW_AFTER_SHARE) return false;
  await renewCertificate(renewal);
  return true;
}

export async function renewCertificate({ trust, admin, signal }: Renewal): Promise<void> {
  // The X.509 library costs a tenth of a second to load, and most runs do not need it.
  const { makeCsr } = await import('@collective/protocol/tls/make-csr');
  const { csr, keyPem } = await makeCsr(trust.current.id);
  const { certificatePem, bundlePem } = await admin.renewCertificate(csr, { signal });
  await writeTrustFiles(trust.folder, { certificatePem, keyPem, bundlePem });
  await trust.look();
}
