/**
 * Who is at the other end of a TLS connection. The handshake has verified chain and name constraints against our own
 * roots; here everything is checked once more and by name: the one URI, the trust domain, the anchoring root, the dates
 * (a resumed TLS session does not look at them again), and for servers both the DNS name and the URI path (T2: a user's
 * leaf with a server's DNS name must not pass).
 */
import { X509Certificate } from 'node:crypto';
import { checkServerIdentity, type PeerCertificate, type TLSSocket } from 'node:tls';
import { type Clock, wallMs } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import { type ExpectedServer, type PeerRole, parseSpiffeId, serverDnsName } from './spiffe-id.ts';
import { subjectNamesOf } from './subject-names.ts';
import { isIssuedBy } from './trust-set.ts';

export interface PeerIdentity {
  /** The URI name: the subject of all rights. */
  readonly uri: string;
  readonly trustDomain: TrustDomain;
  readonly role: PeerRole;
  /** Empty for the coordinator and the operator. */
  readonly name: string;
  readonly fingerprint256: string;
  /** Of the root that signed the leaf (T6). */
  readonly rootFingerprint256: string;
  readonly notAfterMs: number;
}

/** One member as seen by a peer of it: the domain and the roots that alone may speak for it. */
export interface PinnedMember {
  readonly trustDomain: TrustDomain;
  readonly roots: readonly X509Certificate[];
}

/** Throws `unauthenticated` unless the leaf names a peer of this member and one of the member's roots signed it. */
export function identifyPeer(leaf: X509Certificate, member: PinnedMember, clock: Clock): PeerIdentity {
  const names = subjectNamesOf(leaf);
  const id = readId(names.uri);
  const refuse = (why: string): never => {
    throw new CollectiveError('unauthenticated', `Accept the certificate of ${id.uri}: ${why}`);
  };
  if (id.trustDomain !== member.trustDomain) refuse(`it belongs to ${id.trustDomain}, not to ${member.trustDomain}`);
  if (leaf.ca) refuse('it is an authority, not a leaf');
  const root = member.roots.find((candidate) => isIssuedBy(leaf, candidate));
  if (root === undefined) return refuse(`no root of ${member.trustDomain} signed it`);
  const nowMs = wallMs(clock);
  if (nowMs < leaf.validFromDate.getTime()) refuse(`it is not valid before ${leaf.validFrom}`);
  if (nowMs >= leaf.validToDate.getTime()) refuse(`it expired on ${leaf.validTo}`);
  if (names.dnsName !== undefined && names.dnsName !== serverDnsName(id))
    refuse(`its DNS name ${names.dnsName} is not its own`);
  return {
    ...id,
    fingerprint256: leaf.fingerprint256,
    rootFingerprint256: root.fingerprint256,
    notAfterMs: leaf.validToDate.getTime(),
  };
}

/** The identity of a connected socket's peer; throws `unauthenticated` when there is none or it was not verified. */
export function identifySocketPeer(socket: TLSSocket, member: PinnedMember, clock: Clock): PeerIdentity {
  const leaf = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  if (leaf === undefined) {
    throw new CollectiveError(
      'unauthenticated',
      `Accept a connection from ${socket.remoteAddress ?? 'an unknown address'}: it has no certificate of ${member.trustDomain}`,
    );
  }
  return identifyPeer(leaf, member, clock);
}

/** Throws `unauthenticated` unless this is the server that was meant: DNS name and URI path (T2). */
export function checkServerPeer(peer: PeerIdentity, expected: ExpectedServer): PeerIdentity {
  if (peer.role !== expected.role || peer.name !== (expected.name ?? '')) {
    throw new CollectiveError(
      'unauthenticated',
      `Expect ${expectedText(expected)} at the other end: ${peer.uri} answered`,
    );
  }
  return peer;
}

/**
 * For the option `checkServerIdentity` of `tls.connect` and of gRPC channels. The host name that TLS passes is not used:
 * it is the address that was dialled, and a server's name is what its role says. `onSecured` hears of each server that passed.
 */
export function serverCheck(
  member: () => PinnedMember,
  expected: ExpectedServer,
  clock: Clock,
  onSecured: (peer: PeerIdentity) => void = () => undefined,
): (host: string, certificate: PeerCertificate) => Error | undefined {
  const dnsName = serverDnsName(expected) ?? '';
  return (_host, certificate) => {
    const wrongName = checkServerIdentity(dnsName, certificate);
    if (wrongName !== undefined) {
      return new CollectiveError('unauthenticated', `Expect ${expectedText(expected)} at the other end`, {
        cause: wrongName,
      });
    }
    try {
      onSecured(checkServerPeer(identifyPeer(new X509Certificate(certificate.raw), member(), clock), expected));
      return undefined;
    } catch (thrown) {
      return toCollectiveError(thrown, `Expect ${expectedText(expected)} at the other end`, 'unauthenticated');
    }
  };
}

function expectedText({ trustDomain, role, name }: ExpectedServer): string {
  return `the ${role}${name === undefined ? '' : ` ${name}`} of ${trustDomain}`;
}

function readId(uri: string): ReturnType<typeof parseSpiffeId> {
  try {
    return parseSpiffeId(uri);
  } catch (cause) {
    throw new CollectiveError('unauthenticated', 'Accept a certificate: its URI is not a peer of any member', {
      cause,
    });
  }
}
