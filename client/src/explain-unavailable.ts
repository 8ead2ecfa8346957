/**
 * gRPC calls every failed connection unavailable. Before that is believed, the server is looked at once: when another than
 * the one that was meant answers (wrong authority, wrong name, expired), trying again is of no use and the person is told.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { probeServer } from '@collective/protocol/tls/probe-server';
import type { ExpectedServer } from '@collective/protocol/tls/spiffe-id';
import { parseBundle } from '@collective/protocol/tls/trust-set';

export interface Dialled {
  /** `host:port`, `[host]:port`. */
  readonly address: string;
  readonly expected: ExpectedServer;
  readonly bundlePem: string;
  readonly clock: Clock;
}

/** Waits for the attempt; throws `unauthenticated` in place of `unavailable` when that is the reason. */
export async function explained<T>(attempt: Promise<T>, dialled: Dialled): Promise<T> {
  try {
    return await attempt;
  } catch (thrown) {
    if (!isCode(thrown, 'unavailable')) throw thrown;
    throw (await reasonOf(dialled)) ?? thrown;
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
    return isCode(found, 'unauthenticated') ? found : undefined;
  }
}

function isCode(thrown: unknown, code: string): boolean {
  return thrown instanceof CollectiveError && thrown.code === code;
}
