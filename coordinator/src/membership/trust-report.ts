/**
 * T6 as figures: which bundle each peer reports and which root its leaf chains to, so that whoever changes the authority can
 * tell when all have the new bundle and when nothing of the old root is in use any more. Pure.
 */
import type { PeerTrust, RootConnections, TrustGroup, TrustStatus } from '@collective/protocol/gen/admin';
import { parseSpiffeId } from '@collective/protocol/tls/spiffe-id';
import type { TrustSet } from '@collective/protocol/tls/trust-set';
import type { ShownLeaf } from './node-link.ts';

export const SESSIONS_SHOWN_MAX = 100;
/** What peers report is theirs to say: further kinds of it are counted together. */
export const GROUPS_MAX = 200;

export interface PeerReport {
  /** URI */
  readonly peer: string;
  readonly bundleHash: string;
  /** Of the connection that stands; undefined: none does. */
  readonly leaf: ShownLeaf | undefined;
}

export interface TrustPicture {
  readonly own: TrustSet;
  readonly nodes: readonly PeerReport[];
  readonly sessions: readonly PeerReport[];
  readonly connections: readonly RootConnections[];
}

export function trustStatus({ own, nodes, sessions, connections }: TrustPicture): TrustStatus {
  const alike = sumOfAlike(sessions.map(peerTrust));
  // Who holds a change up is shown first.
  const shown = alike
    .sort((a, b) => Number(hasAll(a, own)) - Number(hasAll(b, own)) || (a.peer < b.peer ? -1 : 1))
    .slice(0, SESSIONS_SHOWN_MAX);
  const count = (peers: readonly PeerTrust[]): number => peers.reduce((sum, peer) => sum + peer.count, 0);
  return {
    bundleHash: own.bundleHash,
    roots: own.roots.map(({ fingerprint256 }) => fingerprint256),
    signingRoot: own.rootFingerprint256,
    groups: groupsOf([...nodes, ...sessions].map(peerTrust)),
    peers: [...nodes.map(peerTrust), ...shown],
    sessionsLeftOut: count(alike) - count(shown),
    connections: [...connections],
  };
}

function hasAll(peer: PeerTrust, own: TrustSet): boolean {
  return peer.bundleHash === own.bundleHash && peer.root === own.rootFingerprint256;
}

function peerTrust({ peer, bundleHash, leaf }: PeerReport): PeerTrust {
  return {
    peer,
    kind: parseSpiffeId(peer).role,
    bundleHash: /^[0-9a-f]{64}$/.test(bundleHash) ? bundleHash : '',
    root: leaf?.rootFingerprint256 ?? '',
    connected: leaf !== undefined,
    notAfter: leaf === undefined ? undefined : { seconds: Math.floor(leaf.notAfterMs / 1000), nanos: 0 },
    count: 1,
  };
}

function sumOfAlike(peers: readonly PeerTrust[]): PeerTrust[] {
  const sums = new Map<string, PeerTrust>();
  for (const peer of peers) {
    const key = [peer.peer, peer.bundleHash, peer.root, peer.connected, peer.notAfter?.seconds].join(' ');
    const sum = sums.get(key);
    sums.set(key, { ...peer, count: (sum?.count ?? 0) + 1 });
  }
  return [...sums.values()];
}

function groupsOf(peers: readonly PeerTrust[]): TrustGroup[] {
  const groups = new Map<string, TrustGroup>();
  for (const { kind, bundleHash, root, connected } of peers) {
    const key = [kind, bundleHash, root, connected].join(' ');
    const isNew = !groups.has(key) && groups.size >= GROUPS_MAX;
    // Beyond the bound nothing is claimed of the bundle, so that nobody takes it for the new one.
    const named = isNew ? { kind, bundleHash: '', root, connected } : { kind, bundleHash, root, connected };
    const under = isNew ? [kind, '', root, connected].join(' ') : key;
    groups.set(under, { ...named, count: (groups.get(under)?.count ?? 0) + 1 });
  }
  return [...groups.values()];
}
