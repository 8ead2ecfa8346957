/**
 * Has the coordinator renew the own certificate, over that certificate (T3). One connection a try: renewals are rare, and gRPC sets
 * no end to a dial that nobody answers, as when the coordinator has just moved to another machine.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import { Metadata } from '@grpc/grpc-js';
import { fromServiceError } from '../errors/grpc-status.ts';
import { AdminClient, type IssuedCertificate } from '../gen/admin.ts';
import { DialledGuard } from './dialled-guard.ts';
import { channelCredentials, dialOptions } from './grpc-credentials.ts';
import type { ExpectedServer } from './spiffe-id.ts';
import type { Trust } from './trust-files.ts';
import { untilSigned } from './until-signed.ts';

/** Somebody else may have to sign before the coordinator can answer (T5). */
export const RENEW_WITHIN_MS = 60_000;
/** Of one try: above what a coordinator waits for the signature. */
const ANSWERED_WITHIN_MS = 10_000;

export interface RenewalRequest {
  readonly trust: Trust;
  readonly clock: Clock;
  /** `host:port` */
  readonly coordinator: string;
  /** DER */
  readonly csr: Buffer;
}

export async function requestRenewal({ trust, clock, coordinator, csr }: RenewalRequest): Promise<IssuedCertificate> {
  const { id } = trust.current;
  const expected: ExpectedServer = { trustDomain: id.trustDomain, role: 'coordinator' };
  const ask = async (): Promise<IssuedCertificate> => {
    // As in `DialledGuard`: what is dialled after the end is not wanted.
    const guard = new DialledGuard({ trust, clock, giveUp: () => undefined });
    const credentials = channelCredentials(trust, expected, clock, (peer) => guard.secured(peer));
    const client = new AdminClient(coordinator, credentials, dialOptions(expected));
    try {
      return await renewOver(client, csr, { what: `Renew the certificate of ${id.uri}`, clock });
    } finally {
      guard[Symbol.dispose]();
      client.close();
    }
  };
  return await untilSigned(ask, { clock, withinMs: RENEW_WITHIN_MS });
}

function renewOver(
  client: AdminClient,
  csr: Buffer,
  { what, clock }: { readonly what: string; readonly clock: Clock },
): Promise<IssuedCertificate> {
  const deadline = wallMs(clock) + ANSWERED_WITHIN_MS;
  return new Promise((resolve, reject) =>
    client.renewCertificate({ csr }, new Metadata(), { deadline }, (error, issued) => {
      if (error === null) resolve(issued);
      else reject(fromServiceError(error, what));
    }),
  );
}
