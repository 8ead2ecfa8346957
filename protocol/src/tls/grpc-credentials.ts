/**
 * gRPC over a peer's identity files (T2, T3, T4). grpc-js's own file watcher can pair a new key with an old certificate, so
 * credentials come from a provider over the checked set; a reload reaches new connections, those that stand stay.
 *
 * A server does not demand a certificate in the handshake, because `Enrol` has none (T3); `callPeer` is what every other
 * method demands. Its context is empty for an absent certificate and for one that was not verified. A connection without one is
 * served with the options for strangers: they may cost little before a token has said who they are.
 */
import { X509Certificate } from 'node:crypto';
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { CONTROL_MESSAGE_BYTES_MAX } from '@collective/base/limits';
import {
  type ChannelCredentials,
  type ChannelOptions,
  credentials,
  experimental,
  logVerbosity,
  type ServerCredentials,
  setLogVerbosity,
} from '@grpc/grpc-js';
import { identifyPeer, type PeerIdentity, serverCheck } from './peer-identity.ts';
import { type ExpectedServer, serverDnsName } from './spiffe-id.ts';
import type { Trust } from './trust-files.ts';
import { parseBundle } from './trust-set.ts';

// grpc-js writes its own lines to stderr; what matters of them reaches us as errors.
if (process.env.GRPC_VERBOSITY === undefined) setLogVerbosity(logVerbosity.NONE);

const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
/** Unary callers move to a fresh connection this often, so that renewed certificates and new roots come into use. */
const CONNECTION_AGE_MS_MAX = 3_600_000;
/** The largest request of a stranger: a token and a certificate request of 4 KiB. */
export const STRANGER_MESSAGE_BYTES_MAX = 8 * 1024;
/** One call, then a stranger has an identity or does not get one. */
const STRANGER_CONNECTION_AGE_MS_MAX = 10_000;
const STRANGER_CALL_MS_MAX = 5_000;
const STRANGER_STREAMS_MAX = 4;
const STRANGER_SESSION_MIB_MAX = 1;
/** Streams pipeline many small messages; a larger window saves round trips. */
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;

export function serverCredentials(trust: Trust): ServerCredentials {
  const provider = new TrustProvider(trust);
  return experimental.createCertificateProviderServerCredentials(provider, provider, false);
}

/** For a peer that has an identity. `onSecured` hears which server answered, each time that a connection is made. */
export function channelCredentials(
  trust: Trust,
  expected: ExpectedServer,
  clock: Clock,
  onSecured?: (peer: PeerIdentity) => void,
): ChannelCredentials {
  const provider = new TrustProvider(trust);
  const member = () => ({ trustDomain: expected.trustDomain, roots: trust.current.roots });
  return experimental.createCertificateProviderChannelCredentials(provider, provider, {
    checkServerIdentity: serverCheck(member, expected, clock, onSecured),
    rejectUnauthorized: true,
  });
}

/** For `Enrol`: the server is verified, the caller has no certificate yet. */
export function enrolmentCredentials(
  bundlePem: string,
  expected: ExpectedServer,
  clock: Clock,
  onSecured?: (peer: PeerIdentity) => void,
): ChannelCredentials {
  const member = { trustDomain: expected.trustDomain, roots: parseBundle(bundlePem, 'the trust bundle given') };
  return credentials.createSsl(Buffer.from(bundlePem), null, null, {
    checkServerIdentity: serverCheck(() => member, expected, clock, onSecured),
    rejectUnauthorized: true,
  });
}

/** Options of a channel to a server of a member; every default that matters is written out. */
export function dialOptions(expected: ExpectedServer): ChannelOptions {
  return {
    'grpc.ssl_target_name_override': serverDnsName(expected) ?? '',
    'grpc.default_authority': serverDnsName(expected) ?? '',
    ...sharedOptions(),
    'grpc.keepalive_permit_without_calls': 0,
    // A request is sent again by its own caller, who knows whether that is safe.
    'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 5_000,
    // A connection belongs to one channel, so that closing the channel closes it and a new identity gets a new one.
    'grpc.use_local_subchannel_pool': 1,
    // Members are reached directly; a proxy that happens to be set for the web is not meant.
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.client_idle_timeout_ms': 600_000,
    'grpc.enable_channelz': 0,
  };
}

export function serverOptions(): ChannelOptions {
  return {
    ...sharedOptions(),
    'grpc.max_connection_age_ms': CONNECTION_AGE_MS_MAX,
    'grpc.max_concurrent_streams': 1_000,
    'grpc.enable_channelz': 0,
  };
}

/** For connections without a certificate that we trust: what is too large is refused by its length, before it is read. */
export function strangerOptions(): ChannelOptions {
  return {
    ...serverOptions(),
    'grpc.max_receive_message_length': STRANGER_MESSAGE_BYTES_MAX,
    'grpc.max_connection_age_ms': STRANGER_CONNECTION_AGE_MS_MAX,
    'grpc.max_connection_age_grace_ms': STRANGER_CALL_MS_MAX,
    'grpc.max_concurrent_streams': STRANGER_STREAMS_MAX,
    'grpc-node.max_session_memory': STRANGER_SESSION_MIB_MAX,
  };
}

/** Who calls. Throws `unauthenticated` unless the caller's certificate was verified and names a peer of our member. */
export function callPeer(
  call: { getAuthContext(): { sslPeerCertificate?: { raw: Buffer } } | null; getPath?(): string },
  trust: Trust,
  clock: Clock,
): PeerIdentity {
  const certificate = call.getAuthContext()?.sslPeerCertificate;
  const { id, roots } = trust.current;
  if (certificate === undefined) {
    throw new CollectiveError(
      'unauthenticated',
      `Accept a call${call.getPath === undefined ? '' : ` of ${call.getPath()}`}: the caller has no certificate, or one that ${id.trustDomain} does not accept`,
    );
  }
  return identifyPeer(new X509Certificate(certificate.raw), { trustDomain: id.trustDomain, roots }, clock);
}

function sharedOptions(): ChannelOptions {
  return {
    'grpc.max_receive_message_length': CONTROL_MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': CONTROL_MESSAGE_BYTES_MAX,
    'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
  };
}

type CaListener = (update: { caCertificate: Buffer } | null) => void;
type IdentityListener = (update: { certificate: Buffer; privateKey: Buffer } | null) => void;

/** Gives grpc-js what it asks for from the last good set; subscribes only while somebody listens. */
class TrustProvider {
  readonly #trust: Trust;
  readonly #caListeners = new Set<CaListener>();
  readonly #identityListeners = new Set<IdentityListener>();
  #unsubscribe: (() => void) | undefined;

  constructor(trust: Trust) {
    this.#trust = trust;
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    this.#subscribe();
    // grpc-js expects the first value after it has finished to subscribe.
    process.nextTick(() => listener(this.#ca()));
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
    this.#unsubscribeIfUnused();
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    this.#subscribe();
    process.nextTick(() => listener(this.#identity()));
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
    this.#unsubscribeIfUnused();
  }

  #subscribe(): void {
    this.#unsubscribe ??= this.#trust.onChange(() => {
      // Roots first: a leaf of a new root is then never used with the old roots alone.
      for (const listener of this.#caListeners) listener(this.#ca());
      for (const listener of this.#identityListeners) listener(this.#identity());
    });
  }

  #unsubscribeIfUnused(): void {
    if (this.#caListeners.size > 0 || this.#identityListeners.size > 0) return;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }

  #ca(): { caCertificate: Buffer } {
    return { caCertificate: Buffer.from(this.#trust.current.bundlePem) };
  }

  #identity(): { certificate: Buffer; privateKey: Buffer } {
    const { certificatePem, keyPem } = this.#trust.current;
    return { certificate: Buffer.from(certificatePem), privateKey: Buffer.from(keyPem) };
  }
}
