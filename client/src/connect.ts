/** Composition of a real member: identity files, gRPC to the coordinator, TLS to the nodes. */
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import type { TrustBundle } from '@collective/protocol/gen/common';
import type { RenewalLoop } from '@collective/protocol/tls/keep-renewed';
import { type ExpectedServer, parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { takeBundle } from '@collective/protocol/tls/trust-bundle';
import { TrustFiles } from '@collective/protocol/tls/trust-files';
import { MemberAdmin } from './admin.ts';
import { AdminClients } from './admin-clients.ts';
import type { AdminConnection, AdminTarget } from './admin-target.ts';
import type { CallOptions, ConnectOptions, Member } from './api.ts';
import { ContextStore } from './context/context-store.ts';
import { renewWhenDue } from './context/renew-certificate.ts';
import { parseCoordinatorAddress } from './coordinator-address.ts';
import { explained } from './explain-unavailable.ts';
import { GrpcSessionConnector } from './grpc-session-connector.ts';
import { ConnectedMember } from './member.ts';
import { ReroutedConnector } from './rerouted-connector.ts';

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

/**
 * For callers that need unary calls only: no session is opened, so nothing of the files can be seen. Nothing is dialled
 * before the first call. An identity comes from a folder, or from a `trust` that the caller holds and disposes.
 */
export async function connectAdmin(target?: ConnectOptions | AdminTarget | string): Promise<AdminConnection> {
  const parts =
    typeof target === 'object' && 'trust' in target ? dial(target) : await openParts(await optionsOf(target));
  return { admin: parts.admin, [Symbol.dispose]: parts.close };
}

async function connectWith(options: ConnectOptions, { signal }: CallOptions): Promise<Member> {
  const parts = await openParts(options);
  const { clock, trust, expected, address } = parts;
  const bulk = new TlsBulkConnector({ trust, clock });
  let renewal: RenewalLoop | undefined;
  let signingRoot = '';
  let taken = Promise.resolve();
  const told = async (bundle: TrustBundle): Promise<void> => {
    // One that cannot be used yet (the own leaf is of a root that it lacks) comes again with the next renewal.
    await takeBundle(trust, bundle).catch(() => false);
    signingRoot = bundle.signingRoot;
    renewal?.lookNow();
  };
  try {
    const member = await ConnectedMember.open(
      {
        clock,
        random: new SystemRandom(),
        connector: new GrpcSessionConnector({ address, expected, trust, clock }),
        bulk: options.reachNode === undefined ? bulk : new ReroutedConnector(bulk, options.reachNode),
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
          if (event.kind === 'trust') taken = told(event.told);
          if (event.kind === 'attach-failed') options.onConnectFailed?.(event.error);
        },
        uploadBytesMax: options.uploadBytesMax,
        downloadBytesMax: options.downloadBytesMax,
        onClosed: async () => {
          // Who only ever connects for a moment would otherwise never get to the end of a renewal (T3), or miss a root (T6).
          const ended = new AbortController();
          const tooLate = sleep(clock, RENEWAL_ENDS_WITHIN_MS, ended.signal).catch(() => undefined);
          await Promise.race([taken.then(() => renewal?.stop()), tooLate]);
          ended.abort();
          parts.close();
        },
      },
      signal,
    );
    trust.watch();
    renewal = renewWhenDue({ trust, admin: parts.admin, clock, signingRoot: () => signingRoot });
    return member;
  } catch (error) {
    parts.close();
    throw error;
  }
}

async function openParts(options: ConnectOptions) {
  const { coordinator, trustDomain, credentials } = options;
  parseCoordinatorAddress(coordinator);
  parseTrustDomain(trustDomain);
  const trust = await TrustFiles.load(credentials, { clock: new SystemClock() });
  try {
    const parts = dial({ coordinator, trustDomain, trust }, ` in ${credentials}`);
    const close = (): void => {
      parts.close();
      trust[Symbol.dispose]();
    };
    return { ...parts, trust, close };
  } catch (error) {
    trust[Symbol.dispose]();
    throw error;
  }
}

/** `where` the certificate lies, for messages. */
function dial({ coordinator, trustDomain: text, trust, callWithinMs }: AdminTarget, where = '') {
  const clock = new SystemClock();
  const address = parseCoordinatorAddress(coordinator);
  const trustDomain = parseTrustDomain(text);
  const { id } = trust.current;
  if (id.trustDomain !== trustDomain)
    throw new CollectiveError(
      'wrong_member',
      `Connect to ${trustDomain}: the certificate${where} is of ${id.trustDomain}`,
    );
  const expected: ExpectedServer = { trustDomain, role: 'coordinator' };
  const clients = new AdminClients({ address, expected, trust, clock });
  const explain = <T>(attempt: Promise<T>): Promise<T> =>
    explained(attempt, { address, expected, bundlePem: trust.current.bundlePem, clock, own: trust.current });
  const admin = new MemberAdmin({ clock, client: () => clients.current, explain, callWithinMs });
  return { clock, address, expected, admin, close: () => clients[Symbol.dispose]() };
}

async function optionsOf(target: ConnectOptions | string | undefined): Promise<ConnectOptions> {
  if (typeof target === 'object') return target;
  const { name, coordinator, trustDomain, credentials, listener, via } = await new ContextStore().get(target);
  if (via !== undefined)
    throw new CollectiveError('unsupported', `Connect by context '${name}': it leads through ${via.kind}`, {
      todo: "'collective' knows the way; a program gives 'coordinator' and 'reachNode' itself.",
    });
  return { coordinator, trustDomain, credentials, listener };
}
