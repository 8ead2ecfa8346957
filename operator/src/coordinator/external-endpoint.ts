/**
 * Whether a member that lives elsewhere answers where its Member says, and proves the name of its coordinator under the bundle
 * that was given (T2). No certificate is shown and nothing is asked: it is one handshake. An edge.
 */
import { connect } from 'node:tls';
import type { Clock } from '@collective/base/clock';
import { CollectiveError, errorChain } from '@collective/base/errors';
import { serverCheck } from '@collective/protocol/tls/peer-identity';
import { type ExpectedServer, parseTrustDomain, serverDnsName } from '@collective/protocol/tls/spiffe-id';
import { parseBundle } from '@collective/protocol/tls/trust-set';
import type { ExternalAnswer } from '../member/picture.ts';

const ANSWER_WITHIN_MS = 5_000;

export interface ExternalEndpoint {
  /** host:port */
  readonly endpoint: string;
  readonly trustBundle: string;
  readonly trustDomain: string;
}

export async function askExternalEndpoint(
  { endpoint, trustBundle, trustDomain: text }: ExternalEndpoint,
  clock: Clock,
  signal: AbortSignal,
): Promise<ExternalAnswer> {
  try {
    const trustDomain = parseTrustDomain(text);
    const roots = parseBundle(trustBundle, 'spec.external.trustBundle');
    const expected: ExpectedServer = { trustDomain, role: 'coordinator' };
    const [, host = '', port = ''] = /^\[?(.*?)\]?:([0-9]+)$/.exec(endpoint) ?? [];
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const socket = connect({
      host,
      port: Number(port),
      servername: serverDnsName(expected) ?? '',
      ca: roots.map((root) => root.toString()),
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      checkServerIdentity: serverCheck(() => ({ trustDomain, roots }), expected, clock),
    });
    const tooLate = clock.setTimer(ANSWER_WITHIN_MS, () =>
      reject(new CollectiveError('deadline_exceeded', `Reach ${endpoint}: no answer within ${ANSWER_WITHIN_MS} ms`)),
    );
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
    try {
      await promise;
      return { reachable: true };
    } finally {
      tooLate.cancel();
      signal.removeEventListener('abort', onAbort);
      // What comes after the handshake (it misses our certificate) is no answer to our question.
      socket.on('error', () => socket.destroy());
      socket.destroy();
    }
  } catch (thrown) {
    signal.throwIfAborted();
    return { reachable: false, why: `${endpoint}: ${errorChain(thrown).join(': ')}` };
  }
}
