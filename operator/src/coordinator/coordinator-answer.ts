/** What a coordinator was asked in one reconcile, and said: plain data for planners. */

import type { Identity, MemberStatus, NodeHolding, NodeStatus } from '@collective/client';
import type { KeptRequest } from '../csr/checked-requests.ts';

export type CoordinatorStatus = MemberStatus;

export type CoordinatorAnswer =
  | {
      readonly state: 'answered';
      readonly status: CoordinatorStatus;
      /** Of nodes that are to go and on which nothing seemed to lie: counted over all chunks just now. */
      readonly holdings: ReadonlyMap<string, NodeHolding>;
      /** Who may do what (T3a). */
      readonly subjects: readonly Identity[];
      /** Approved, and to be signed by us (T5). */
      readonly requests: readonly KeptRequest[];
    }
  /** It should answer and does not. */
  | { readonly state: 'silent'; readonly why: string }
  /** It does not run yet, or there is no identity to ask with. */
  | { readonly state: 'unasked'; readonly why: string };

export function reportedNode(answer: CoordinatorAnswer, name: string): NodeStatus | undefined {
  return answer.state === 'answered' ? answer.status.nodes.find((node) => node.name === name) : undefined;
}
