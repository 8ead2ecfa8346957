/**
 * Enrolment (T3): a one-time token becomes a certificate. The key is made here and never leaves; the server is verified by
 * the member's CA file, the caller has no certificate yet. The token names the subject, and the request must ask for it.
 * Safe to repeat: until an answer is here the key is kept, and the member answers the token again for that key.
 */
import { CollectiveError } from '@collective/base/errors';
import { SystemClock } from '@collective/base/system-clock';
import { EnrolmentClient, type IssuedCertificate } from '@collective/protocol/gen/admin';
import { dialOptions, enrolmentCredentials } from '@collective/protocol/tls/grpc-credentials';
import { type ExpectedServer, type PeerRole, parseTrustDomain, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { untilSigned } from '@collective/protocol/tls/until-signed';
import { type Begin, unaryCall } from '../admin.ts';
import { parseCoordinatorAddress } from '../coordinator-address.ts';
import { explained } from '../explain-unavailable.ts';
import { forgetPending, pendingRequest } from './pending-enrolment.ts';

export interface EnrolOptions {
  readonly coordinator: string;
  /** `<member>.<collective>` */
  readonly trustDomain: string;
  /** The member's CA certificate(s), PEM. */
  readonly caPem: string;
  readonly token: string;
  readonly role: Extract<PeerRole, 'user' | 'client' | 'node'>;
  readonly name: string;
  /** Folder for `tls.crt`, `tls.key` (0600) and `trust.pem`; made if missing. */
  readonly credentials: string;
  readonly signal?: AbortSignal;
}

/** Seconds are usual; after this the person is told, and may repeat the command. */
const SIGNED_WITHIN_MS = 120_000;
/** Of one try: above the 8 s for which a coordinator waits for the signature. */
const ANSWERED_WITHIN_MS = 10_000;
/** After these the same request will not be answered otherwise. */
const FINAL: readonly string[] = ['token_invalid', 'csr_refused'];

/** Answers the subject that was issued. Throws `token_invalid`, `csr_refused`, `not_signed_yet`, `unauthenticated`, `unavailable`. */
export async function enrol(options: EnrolOptions): Promise<{ readonly subject: string }> {
  const clock = new SystemClock();
  const address = parseCoordinatorAddress(options.coordinator);
  const trustDomain = parseTrustDomain(options.trustDomain);
  const { token, credentials: folder } = options;
  const id = spiffeId(trustDomain, options.role, options.name);
  const { csr, keyPem } = await pendingRequest({ folder, token, id });
  const expected: ExpectedServer = { trustDomain, role: 'coordinator' };
  const what = `Enrol ${options.role}/${options.name} at ${address}`;
  const ask = async (): Promise<IssuedCertificate> => {
    // A client a try: gRPC sets no end to a dial that nobody answers, and would fail every call until the kernel does, after minutes.
    let over = false;
    const credentials = enrolmentCredentials(options.caPem, expected, clock, ({ uri }) => {
      // A closed channel may dial once more, and would keep what it gets.
      if (over) throw new CollectiveError('interrupted', `Connect to ${uri}: the connection was given up meanwhile`);
    });
    const client = new EnrolmentClient(address, credentials, dialOptions(expected));
    const begin: Begin<IssuedCertificate> = (done) => client.enrol({ token, csr }, done);
    try {
      const answer = unaryCall(clock, what, options.signal, begin, ANSWERED_WITHIN_MS);
      return await explained(answer, { address, expected, bundlePem: options.caPem, clock });
    } finally {
      over = true;
      client.close();
    }
  };
  try {
    const issued = await untilSigned(ask, { clock, withinMs: SIGNED_WITHIN_MS, signal: options.signal });
    const { certificatePem, bundlePem, subject } = issued;
    await writeTrustFiles(folder, { certificatePem, keyPem, bundlePem });
    await forgetPending(folder);
    return { subject };
  } catch (thrown) {
    if (thrown instanceof CollectiveError && FINAL.includes(thrown.code)) await forgetPending(folder);
    throw thrown;
  }
}
