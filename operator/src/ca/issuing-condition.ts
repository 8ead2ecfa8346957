/**
 * Asks cert-manager for a certificate now, as `cmctl renew` does: by the condition Issuing of the Certificate. It is how a leaf
 * is healed that cert-manager takes for good (another authority signed it) or gives up for hours after a failure.
 */
import type { KubeObject } from '../kube/kube-object.ts';

interface CertificateStatus {
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly lastTransitionTime?: string;
  }[];
  readonly lastFailureTime?: string;
  readonly failedIssuanceAttempts?: number;
}

/** cert-manager waits for 1 to 32 hours after a failed issuance; a leaf that is needed is asked for sooner. */
const RETRY_MS_FIRST = 30_000;
const RETRY_MS_MAX = 10 * 60_000;

/** A merge patch of the subresource status; refused (409) when somebody else was faster. */
export function issuingPatch(certificate: KubeObject, nowMs: number): object {
  const { conditions = [] } = statusOf(certificate);
  const issuing = {
    type: 'Issuing',
    status: 'True',
    reason: 'ManuallyTriggered',
    message: 'The operator of Collective asks for this certificate',
    lastTransitionTime: new Date(nowMs - (nowMs % 1_000)).toISOString().replace('.000', ''),
    observedGeneration: certificate.metadata.generation,
  };
  return {
    metadata: { resourceVersion: certificate.metadata.resourceVersion },
    status: { conditions: [...conditions.filter(({ type }) => type !== 'Issuing'), issuing] },
  };
}

export function isIssuing(certificate: KubeObject): boolean {
  return (statusOf(certificate).conditions ?? []).some(({ type, status }) => type === 'Issuing' && status === 'True');
}

/** Its last attempt, that is. */
export function hasFailed(certificate: KubeObject): boolean {
  return statusOf(certificate).lastFailureTime !== undefined;
}

/** cert-manager has not looked at it since it was made: it has much to do, and will come to it without being asked. */
export function isUnseen(certificate: KubeObject): boolean {
  return (statusOf(certificate).conditions ?? []).length === 0;
}

/** When the next attempt may be asked for, after what cert-manager tried last. What claims to be of the future says nothing. */
export function nextAttemptMs(certificate: KubeObject, nowMs: number, issuedMs = 0): number {
  const { lastFailureTime, failedIssuanceAttempts = 0 } = statusOf(certificate);
  const timeOf = (text: string | undefined): number => (text === undefined ? 0 : Date.parse(text));
  const lastMs = Math.max(
    timeOf(certificate.metadata.creationTimestamp),
    timeOf(lastFailureTime),
    issuedMs > nowMs ? 0 : issuedMs,
  );
  return lastMs + Math.min(RETRY_MS_FIRST * 2 ** Math.max(failedIssuanceAttempts - 1, 0), RETRY_MS_MAX);
}

function statusOf({ status }: KubeObject): CertificateStatus {
  return (status ?? {}) as CertificateStatus;
}
