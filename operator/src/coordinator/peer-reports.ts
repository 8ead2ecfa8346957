/** How far the peers of a member are with its authority, as its coordinator says (T6): what the planner of certificates waits for. */
import type { PeerReport } from '../ca/certificate-picture.ts';
import type { CoordinatorAnswer } from './coordinator-answer.ts';

export function peerReports(answer: CoordinatorAnswer, trustDomain: string): readonly PeerReport[] | undefined {
  if (answer.state !== 'answered') return undefined;
  const { trust } = answer.status;
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
      ...(root === '' ? {} : { rootFingerprint: root }),
      connected,
    })),
  ];
}
