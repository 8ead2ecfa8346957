/**
 * Requests for certificates that the coordinator has approved and kept (T5): the token was right, the subject is allowed. Here
 * each is checked once more as a whole, since who holds the coordinator must not be able to have anything signed but what a peer
 * of this member may have: no coordinator and no operator, whose leaves come from the operator alone.
 */
import { toCollectiveError } from '@collective/base/errors';
import { checkCsr } from '@collective/protocol/tls/check-csr';
import { parseSpiffeId, type SpiffeId } from '@collective/protocol/tls/spiffe-id';

export interface KeptRequest {
  readonly id: string;
  readonly uri: string;
  /** PKCS#10, DER. */
  readonly csr: Uint8Array;
}

export type CheckedKeptRequest =
  | {
      readonly id: string;
      readonly uri: string;
      readonly state: 'fit';
      readonly peer: SpiffeId;
      readonly csr: Uint8Array;
      readonly publicKey: Buffer;
    }
  | { readonly id: string; readonly uri: string; readonly state: 'refused'; readonly why: string };

const ENROLLING_ROLES: readonly string[] = ['node', 'client', 'user'];

export async function checkKeptRequest(
  { id, uri, csr }: KeptRequest,
  trustDomain: string,
): Promise<CheckedKeptRequest> {
  const refused = (why: string): CheckedKeptRequest => ({ id, uri, state: 'refused', why });
  try {
    const peer = parseSpiffeId(uri);
    if (peer.trustDomain !== trustDomain) return refused(`${uri} is of another trust domain than ${trustDomain}`);
    if (!ENROLLING_ROLES.includes(peer.role))
      return refused(`the certificate of a ${peer.role} is not given on request`);
    const { publicKey } = await checkCsr(csr, peer);
    return { id, uri, state: 'fit', peer, csr, publicKey };
  } catch (thrown) {
    return refused(toCollectiveError(thrown, `Check the request ${id}`).message);
  }
}
