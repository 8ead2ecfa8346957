/**
 * Sends chunks on to the other replicas that the client named (D6). The first node sends to all others itself: a put that
 * was forwarded is never forwarded again, so nodes that wait for each other's memory cannot form a circle, and one bad
 * replica does not cost the next one.
 *
 * A replica that cannot be reached is an outcome, not an error: the local put counts all the same.
 */
import { CollectiveError } from '@collective/base/errors';
import type { PutRequest } from '@collective/protocol/bulk/exchange';
import { toFailure } from '@collective/protocol/errors/grpc-status';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import type { ArrivingFrames } from './arriving-frames.ts';
import type { PeerConnections } from './peer-connections.ts';

/** To one node. A chunk keeps a connection to itself while its frames arrive. */
export const FORWARD_CONNECTIONS_MAX = 8;

export class Forwarder {
  readonly #peers: PeerConnections;

  constructor(peers: PeerConnections) {
    this.#peers = peers;
  }

  /** Never throws: what went wrong is in the outcome. */
  async put(node: string, request: PutRequest, source: ArrivingFrames, signal: AbortSignal): Promise<ReplicaOutcome> {
    try {
      const [outcome] = await this.#peers.use(node, signal, (exchange) =>
        exchange.put({ ...request, forwardTo: [] }, source, { signal }),
      );
      if (outcome === undefined)
        throw new CollectiveError('frame_invalid', `Forward chunk ${request.chunk} to ${node}: it answered no outcome`);
      return { ...outcome, node };
    } catch (error) {
      return {
        node,
        disk: '',
        incarnation: 0,
        sequence: 0,
        stable: false,
        failure: toFailure(error, `Forward chunk ${request.chunk} to ${node}`),
      };
    }
  }
}
