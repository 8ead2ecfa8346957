/**
 * Finds out why a server cannot be reached. gRPC says of every failed connection that it is unavailable, and more only in
 * words; a person, and a program that decides whether to try again, need to know whether nobody answered or the wrong one
 * did. So after such a failure one TLS connection is made as gRPC makes it, and closed.
 */
import { connect } from 'node:tls';
import { type Clock, sleep } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { type PinnedMember, serverCheck } from './peer-identity.ts';
import { type ExpectedServer, serverDnsName } from './spiffe-id.ts';

const PROBE_WITHIN_MS = 5_000;

export interface ServerProbe {
  readonly host: string;
  readonly port: number;
  readonly expected: ExpectedServer;
  /** The member's roots, PEM and parsed. */
  readonly bundlePem: string;
  readonly roots: PinnedMember['roots'];
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

/** Resolves when the server is who it should be. Throws `unavailable`, or `unauthenticated` when another answered. */
export async function probeServer({
  host,
  port,
  expected,
  bundlePem,
  roots,
  clock,
  signal,
}: ServerProbe): Promise<void> {
  const what = `Connect to the ${expected.role} of ${expected.trustDomain} at ${host}:${port}`;
  signal?.throwIfAborted();
  const stop = new AbortController();
  const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  const socket = connect({
    host,
    port,
    ca: bundlePem,
    ALPNProtocols: ['h2'],
    servername: serverDnsName(expected) ?? '',
    checkServerIdentity: serverCheck(() => ({ trustDomain: expected.trustDomain, roots }), expected, clock),
  });
  try {
    const met = new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', (cause: NodeJS.ErrnoException) => reject(translate(cause, what)));
      socket.once('close', () => reject(new CollectiveError('unavailable', `${what}: the connection was closed`)));
    });
    const tooLate = sleep(clock, PROBE_WITHIN_MS, either).then(() => {
      throw new CollectiveError('unavailable', `${what}: no answer within ${formatDurationMs(PROBE_WITHIN_MS)}`);
    });
    await Promise.race([met, tooLate]);
  } finally {
    stop.abort();
    socket.destroy();
  }
}

/** Errors of the network name a system call; the others come from the handshake. */
function translate(cause: NodeJS.ErrnoException & { readonly reason?: string }, what: string): CollectiveError {
  if (cause instanceof CollectiveError) return cause;
  if (cause.syscall !== undefined || cause.code === 'ECONNRESET')
    return new CollectiveError('unavailable', `${what}: ${NETWORK_REASONS[cause.code ?? ''] ?? cause.message}`, {
      cause,
    });
  if (NOT_TLS.test(cause.code ?? ''))
    return new CollectiveError('unavailable', `${what}: what listens there does not speak TLS`, {
      cause: new Error(cause.reason ?? cause.code),
    });
  return new CollectiveError('unauthenticated', `${what}: its certificate is not accepted`, { cause });
}

const NETWORK_REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was closed',
  ENOTFOUND: 'there is no host of this name',
  EAI_AGAIN: 'the name of the host cannot be looked up now',
  EHOSTUNREACH: 'there is no way to this host',
  ENETUNREACH: 'there is no way to this host',
  ETIMEDOUT: 'no answer',
};
/** Plain HTTP and SSH answer with bytes that no TLS record begins with. */
const NOT_TLS = /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|BAD_RECORD_TYPE|UNSUPPORTED_PROTOCOL)$/;
