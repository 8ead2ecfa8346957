/** What sessions need to know of storage nodes, as a port: `membership/` implements it, tests may too. */
import type { ChunkId, Epoch, SessionId } from '@collective/base/ids';
import type { AccessToken, NodeRoute } from '@collective/protocol/gen/common';
import type { Placement, ReplicaTicket } from '@collective/protocol/gen/session';
import type { ReplicaPlace } from '../tables/gen/tables.ts';
import type { StableNodes } from './stable-content.ts';

export interface AccessRequest {
  /** URI of the session's certificate. */
  readonly subject: string;
  readonly session: SessionId;
  readonly write: boolean;
  readonly epoch: Epoch;
  readonly firstChunk: number;
  readonly lastChunk: number;
}

export interface DataAccess extends StableNodes {
  /** Addresses of all known nodes for the listener through which the session came (D10). */
  routes(listener: string): NodeRoute[];
  /** Replica sets for new chunks, to be used in turn; fewer than `wanted` nodes when there are no more, none when all are full. */
  place(wanted: number, sets: number): Placement[];
  /** Bytes that ready nodes can still take above their reserve, over all of them. */
  freeBytes(): { capacityBytes: number; freeBytes: number };
  issueAccess(request: AccessRequest): AccessToken;
  /** Of a chunk's places those that a reader should be sent to. */
  readable(places: readonly ReplicaPlace[]): readonly ReplicaPlace[];
  /** Undefined for a node that is not known. */
  ticket(node: string, chunk: ChunkId, session: SessionId): ReplicaTicket | undefined;
}
