/** Composition of a real member: identity files, gRPC to the coordinator, TLS to the nodes. */
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { AdminClient } from '@collective/protocol/gen/admin';
import { channelCredentials, dialOptions } from '@collective/protocol/tls/grpc-credentials';
import { type ExpectedServer, parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { TrustFiles } from '@collective/protocol/tls/trust-files';
import { MemberAdmin } from './admin.ts';
import type { Admin, CallOptions, ConnectOptions, Member } from './api.ts';
import { ContextStore } from './context/context-store.ts';
import { renewWhenDue } from './context/renew-certificate.ts';
import { parseCoordinatorAddress } from './coordinator-address.ts';
import { explained } from './explain-unavailable.ts';
import { GrpcSessionConnector } from './grpc-session-connector.ts';
import { ConnectedMember } from './member.ts';

/** A closing member waits so long for a new certificate that is on its way. */
const RENEWAL_ENDS_WITHIN_MS = 5_000;
const PROGRAM = 'collective-sdk/0.1.0';

/**
 * Opens a session with a member: by explicit options, by the name of a context, or by the current context.
 * Throws `unavailable`, `unauthenticated`, `not_found` (no such context), `config_invalid`.
 */
export async function connect(target?: ConnectOptions | string, options: CallOptions = {}): Promise<Member> {
  return await connectWith(await optionsOf(target), options);
}

/** For callers that need unary calls only: no session is opened, so nothing of the files can be seen. */
export async function connectAdmin(target?: ConnectOptions | string): Promise<{ readonly admin: Admin } & Disposable> {
  const parts = await openParts(await optionsOf(target));
  return { admin: parts.admin, [Symbol.dispose]: parts.close };
}

async function connectWith(options: ConnectOptions, { signal }: CallOptions): Promise<Member> {
  const parts = await openParts(options);
  const { clock, trust, expected, address } = parts;
  let stopRenewing: (() => Promise<void>) | undefined;
  try {
    const member = await ConnectedMember.open(
      {
        clock,
        random: new SystemRandom(),
        connector: new GrpcSessionConnector({ address, expected, trust, clock }),
        bulk: new TlsBulkConnector({ trust, clock }),
        admin: parts.admin,
      },
      {
        program: options.program ?? PROGRAM,
        listener: options.listener ?? 'external',
        caches: options.cache ?? false,
        bundleHash: () => trust.current.bundleHash,
        connectWithinMs: options.connectWithinMs,
        reconnectWithinMs: options.reconnectWithinMs,
        onEvent: (event) => {
          if (event.kind === 'attach-failed') options.onConnectFailed?.(event.error);
        },
        uploadBytesMax: options.uploadBytesMax,
        downloadBytesMax: options.downloadBytesMax,
        onClosed: async () => {
          // Who only ever connects for a moment would otherwise never get to the end of a renewal (T3).
          const ended = new AbortController();
          const tooLate = sleep(clock, RENEWAL_ENDS_WITHIN_MS, ended.signal).catch(() => undefined);
          await Promise.race([stopRenewing?.(), tooLate]);
          ended.abort();
          parts.close();
        },
      },
      signal,
    );
    trust.watch();
    stopRenewing = renewWhenDue({ trust, admin: parts.admin, clock });
    return member;
  } catch (error) {
    parts.close();
    throw error;
  }
}

async function openParts(options: ConnectOptions) {
  const clock = new SystemClock();
  const address = parseCoordinatorAddress(options.coordinator);
  const trustDomain = parseTrustDomain(options.trustDomain);
  const trust = await TrustFiles.load(options.credentials, { clock });
  if (trust.current.id.trustDomain !== trustDomain) {
    trust[Symbol.dispose]();
    throw new CollectiveError(
      'wrong_member',
      `Connect to ${trustDomain}: the certificate in ${options.credentials} is of ${trust.current.id.trustDomain}`,
    );
  }
  const expected: ExpectedServer = { trustDomain, role: 'coordinator' };
  const client = new AdminClient(address, channelCredentials(trust, expected, clock), dialOptions(expected));
  const close = (): void => {
    client.close();
    trust[Symbol.dispose]();
  };
  const explain = <T>(attempt: Promise<T>): Promise<T> =>
    explained(attempt, { address, expected, bundlePem: trust.current.bundlePem, clock, own: trust.current });
  return { clock, address, trust, expected, admin: new MemberAdmin(client, clock, explain), close };
}

async function optionsOf(target: ConnectOptions | string | undefined): Promise<ConnectOptions> {
  if (typeof target === 'object') return target;
  const { coordinator, trustDomain, credentials, listener } = await new ContextStore().get(target);
  return { coordinator, trustDomain, credentials, listener };
}
