/** What the coordinator says of its peers' roots (T6), as the planner of certificates reads it: itself among them. */
import type { TrustStatus } from '@collective/protocol/gen/admin';
import type { PeerReport } from './certificate-picture.ts';

/** Undefined when the coordinator says nothing of it: older ones do not. */
export function peerReports(trust: TrustStatus | undefined, trustDomain: string): readonly PeerReport[] | undefined {
  if (trust === undefined) return undefined;
  return [
    {
      peer: `spiffe://${trustDomain}/coordinator`,
      bundleHash: trust.bundleHash,
      rootFingerprint: trust.signingRoot,
      connected: true,
    },
    ...trust.peers.map(({ peer, bundleHash, root, connected }) => ({
      peer,
      bundleHash,
      rootFingerprint: root,
      connected,
    })),
  ];
}
