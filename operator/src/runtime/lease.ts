/**
 * A Lease of coordination.k8s.io as electors use it: who holds it, since when, and when it last said so. Times in it are for people;
 * nobody decides by another machine's clock. A lease is over when it has not changed for its duration by the watcher's own clock.
 */
import type { KubeObject } from '../kube/kube-object.ts';

export interface LeaseSpec {
  readonly holderIdentity?: string | null;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

/** The lease as a candidate saw it, and since when it has been just so. */
export interface SeenLease {
  readonly resourceVersion: string | undefined;
  readonly sinceMs: number;
}

/** The least that a leader is given, and what is usual in Kubernetes; the most that a lost one is missed for. */
export const LEASE_SECONDS = { min: 15, usual: 15, max: 300 } as const;

export interface LeaseTimes {
  /** From the last renewal until others may take it. */
  readonly durationSeconds: number;
  /** A leader that could not renew for so long has lost it. */
  readonly renewWithinMs: number;
  /** Of one call: a hanging one leaves time for another. */
  readonly callWithinMs: number;
  readonly retryMs: number;
  /** What was led has this long to fall silent once the lease is lost: less than is left until others may take it. */
  readonly silentWithinMs: number;
}

/** In the proportions of client-go: 15, 10 and 2 s. */
export function leaseTimes(durationSeconds: number = LEASE_SECONDS.usual): LeaseTimes {
  const part = (fraction: number): number => Math.floor(durationSeconds * 1000 * fraction);
  return {
    durationSeconds,
    renewWithinMs: part(10 / 15),
    callWithinMs: part(5 / 15),
    retryMs: part(2 / 15),
    silentWithinMs: part(4 / 15),
  };
}

export function specOf(lease: KubeObject): LeaseSpec {
  return (lease.spec ?? {}) as LeaseSpec;
}

export function holderOf(lease: KubeObject): string {
  return specOf(lease).holderIdentity ?? '';
}

/** A version that is not the one seen before begins its time anew. */
export function seeLease(before: SeenLease | undefined, lease: KubeObject, nowMs: number): SeenLease {
  const { resourceVersion } = lease.metadata;
  return before !== undefined && before.resourceVersion === resourceVersion
    ? before
    : { resourceVersion, sinceMs: nowMs };
}

/** Whether `identity` may take the lease now: it is free, or its own already, or over. */
export function mayTake(lease: KubeObject, identity: string, { sinceMs }: SeenLease, nowMs: number): boolean {
  const holder = holderOf(lease);
  if (holder === '' || holder === identity) return true;
  return nowMs - sinceMs >= (specOf(lease).leaseDurationSeconds ?? 0) * 1000;
}

export interface Claim {
  readonly identity: string;
  readonly durationSeconds: number;
  readonly nowWallMs: number;
}

/** What is written to take the lease, or to renew it. */
export function claimOf(lease: KubeObject | undefined, { identity, durationSeconds, nowWallMs }: Claim): LeaseSpec {
  const before = lease === undefined ? {} : specOf(lease);
  const isRenewal = lease !== undefined && holderOf(lease) === identity;
  const now = microTime(nowWallMs);
  return {
    holderIdentity: identity,
    leaseDurationSeconds: durationSeconds,
    acquireTime: isRenewal ? (before.acquireTime ?? now) : now,
    renewTime: now,
    leaseTransitions: (before.leaseTransitions ?? 0) + (isRenewal || lease === undefined ? 0 : 1),
  };
}

/** What is written to give the lease back, so that the next one need not wait. */
export function releaseOf(nowWallMs: number): LeaseSpec {
  return { holderIdentity: null, leaseDurationSeconds: 1, renewTime: microTime(nowWallMs) };
}

/** As `metav1.MicroTime` is written. */
export function microTime(wallMs: number): string {
  return new Date(wallMs).toISOString().replace(/\.(\d{3})Z$/, '.$1000Z');
}
