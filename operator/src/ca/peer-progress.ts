/** How far connected peers have come with a change of the authority (T6), in words: empty when all have. */
import { formatDurationMs } from '@collective/base/duration';
import type { CertificatePicture } from './certificate-picture.ts';
import { bareFingerprint } from './secret-data.ts';
import { someOf } from './some-of.ts';

/** kubelet shows a changed ConfigMap within two minutes; a server that is away for longer will begin with the new one. */
const ABSENT_SERVER_WAIT_MS = 5 * 60_000;

/** Connected peers that report another bundle, and servers that are away for a moment and may come back with another. */
export function peersBehind({ peers, leaves, nowMs }: CertificatePicture, hash: string, sinceMs: number): string {
  if (peers === undefined) return 'the coordinator cannot be asked';
  const connected = peers.filter((peer) => peer.connected);
  const behind = connected.filter(({ bundleHash }) => bundleHash !== hash).map(({ peer }) => peer);
  const away =
    nowMs >= sinceMs + ABSENT_SERVER_WAIT_MS
      ? []
      : leaves
          .filter(({ usages, uri }) => usages === 'server' && !connected.some(({ peer }) => peer === uri))
          .map(({ uri }) => `${uri} (away; for ${formatDurationMs(ABSENT_SERVER_WAIT_MS)} at most)`);
  return someOf([...behind, ...away]);
}

/** Connected peers whose leaf is of another root: the servers, whose leaves are mounted, or all. */
export function peersOnOtherRoots(
  { peers, leaves }: CertificatePicture,
  fingerprint: string,
  which: 'servers' | 'all',
): string {
  if (peers === undefined) return 'the coordinator cannot be asked';
  const servers = new Set(leaves.filter(({ usages }) => usages === 'server').map(({ uri }) => uri));
  return someOf(
    peers
      .filter(({ connected, peer }) => connected && (which === 'all' || servers.has(peer)))
      .filter(({ rootFingerprint = '' }) => bareFingerprint(rootFingerprint) !== fingerprint)
      .map(({ peer }) => peer),
  );
}
