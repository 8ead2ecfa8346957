/**
 * Names of peers (T1, T2). A member is a trust domain; what a peer may do follows from the path of its URI. The host name
 * of a server lies inside the trust domain and is derived from its URI, never from the address that was dialled: name
 * constraints of the member's authority would refuse any other.
 */
import { CollectiveError } from '@collective/base/errors';
import { type NodeName, parseMemberName, parseNodeName, type TrustDomain, trustDomainOf } from '@collective/base/ids';

export const PEER_ROLES = ['coordinator', 'node', 'client', 'user', 'operator'] as const;
export type PeerRole = (typeof PEER_ROLES)[number];

export interface SpiffeId {
  readonly uri: string;
  readonly trustDomain: TrustDomain;
  readonly role: PeerRole;
  /** Empty for the coordinator and the operator, of which there is one each. */
  readonly name: string;
}

/** Which server a client means to talk to. */
export interface ExpectedServer {
  readonly trustDomain: TrustDomain;
  readonly role: 'coordinator' | 'node';
  /** Of a node. */
  readonly name?: string;
}

const NAMED_ROLES: readonly PeerRole[] = ['node', 'client', 'user'];
/** People and programs: one path segment of a SPIFFE id, lower case so that no two names look alike. */
const SUBJECT_NAME = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;

export function spiffeId(trustDomain: TrustDomain, role: PeerRole, name = ''): SpiffeId {
  checkName(role, name);
  const path = name === '' ? role : `${role}/${name}`;
  return { uri: `spiffe://${trustDomain}/${path}`, trustDomain, role, name };
}

export function parseSpiffeId(uri: string): SpiffeId {
  const match = /^spiffe:\/\/([^/]+)\/([^/]+)(?:\/([^/]+))?$/.exec(uri);
  const [, host = '', role = '', name = ''] = match ?? [];
  if (!isPeerRole(role)) {
    throw new CollectiveError(
      'invalid_argument',
      `Read '${uri}' as a peer's URI: it has the form spiffe://MEMBER.COLLECTIVE/ROLE[/NAME] with one of the roles ${PEER_ROLES.join(', ')}`,
    );
  }
  return spiffeId(parseTrustDomain(host), role, name);
}

/** `<member>.<collective>`. */
export function parseTrustDomain(text: string): TrustDomain {
  const dot = text.indexOf('.');
  if (dot < 0)
    throw new CollectiveError(
      'invalid_argument',
      `Read '${text}' as a trust domain: it has the form MEMBER.COLLECTIVE`,
    );
  return trustDomainOf(parseMemberName(text.slice(0, dot)), text.slice(dot + 1));
}

export function memberOf(trustDomain: TrustDomain): string {
  return trustDomain.slice(0, trustDomain.indexOf('.'));
}

/** The one DNS name of a server's leaf (T2); undefined for peers that do not serve. */
export function serverDnsName({
  trustDomain,
  role,
  name = '',
}: {
  trustDomain: TrustDomain;
  role: PeerRole;
  name?: string;
}): string | undefined {
  if (role === 'coordinator') return `coordinator.${trustDomain}`;
  if (role === 'node') return `${name}.node.${trustDomain}`;
  return undefined;
}

export function nodeNameOf(id: { readonly role: PeerRole; readonly name: string; readonly uri: string }): NodeName {
  if (id.role !== 'node')
    throw new CollectiveError('permission_denied', `Treat ${id.uri} as a storage node: its role is ${id.role}`);
  return parseNodeName(id.name);
}

function isPeerRole(text: string): text is PeerRole {
  return (PEER_ROLES as readonly string[]).includes(text);
}

function checkName(role: PeerRole, name: string): void {
  if (!NAMED_ROLES.includes(role)) {
    if (name !== '')
      throw new CollectiveError(
        'invalid_argument',
        `Use '${name}' as the name of a peer of role ${role}: this role has no name`,
      );
    return;
  }
  if (role === 'node') parseNodeName(name);
  else if (!SUBJECT_NAME.test(name)) {
    throw new CollectiveError(
      'invalid_argument',
      `Use '${name}' as the name of a ${role}: 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends`,
    );
  }
}
