/**
 * gRPC calls every failed connection unavailable, and a server says only that it does not accept a certificate. Before that
 * is passed on, the reason is looked for: the server is looked at once, and the own certificate's dates. A person is told
 * what to change, and a program does not try again where that is of no use (another server than the one that was meant).
 */
import { type Clock, wallMs } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { probeServer } from '@collective/protocol/tls/probe-server';
import type { ExpectedServer } from '@collective/protocol/tls/spiffe-id';
import { parseBundle, type TrustSet } from '@collective/protocol/tls/trust-set';

export interface Dialled {
  /** `host:port`, `[host]:port`. */
  readonly address: string;
  readonly expected: ExpectedServer;
  readonly bundlePem: string;
  readonly clock: Clock;
  /** Unset: the caller has no certificate yet. */
  readonly own?: Pick<TrustSet, 'id' | 'notBeforeMs' | 'notAfterMs'>;
}

/** Waits for the attempt; what it throws is replaced by the reason where there is one to be found. */
export async function explained<T>(attempt: Promise<T>, dialled: Dialled): Promise<T> {
  try {
    return await attempt;
  } catch (thrown) {
    if (isCode(thrown, 'unavailable')) throw (await reasonOf(dialled)) ?? thrown;
    if (isCode(thrown, 'unauthenticated')) throw outOfDate(dialled, thrown) ?? thrown;
    throw thrown;
  }
}

async function reasonOf({ address, expected, bundlePem, clock }: Dialled): Promise<unknown> {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  const roots = parseBundle(bundlePem, 'the trust bundle');
  try {
    await probeServer({ host, port: Number(address.slice(colon + 1)), expected, bundlePem, roots, clock });
    return undefined;
  } catch (found) {
    return found;
  }
}

/** The server refuses such a certificate in words that do not name the reason. */
function outOfDate({ address, expected, own, clock }: Dialled, cause: unknown): CollectiveError | undefined {
  if (own === undefined) return undefined;
  const nowMs = wallMs(clock);
  const what = `Connect to the ${expected.role} of ${expected.trustDomain} at ${address} as ${own.id.uri}`;
  if (nowMs >= own.notAfterMs) {
    const ago = formatDurationMs(nowMs - own.notAfterMs);
    const why = `this certificate expired ${ago} ago; ask the member for a new token ('collective init --force --token ...')`;
    return new CollectiveError('unauthenticated', `${what}: ${why}`, { cause });
  }
  if (nowMs < own.notBeforeMs) {
    const why = `by the clock of this machine this certificate begins in ${formatDurationMs(own.notBeforeMs - nowMs)}`;
    return new CollectiveError('clock_wrong', `${what}: ${why}`, { cause });
  }
  return undefined;
}

function isCode(thrown: unknown, code: string): boolean {
  return thrown instanceof CollectiveError && thrown.code === code;
}
