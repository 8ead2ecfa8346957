/** How a session reaches its coordinator, as a port: gRPC over mutual TLS in the product, memory links in the simulator. */
import type { ClientMessage, ServerMessage } from '@collective/protocol/gen/session';
import type { Link } from '@collective/protocol/link/link';

export type SessionLink = Link<ClientMessage, ServerMessage>;

export interface SessionConnector {
  /** For messages: the address of the coordinator. */
  readonly address: string;
  /** Opens one stream. Throws a CollectiveError; `unauthenticated` and its like are not tried again at the first attach. */
  open(signal: AbortSignal): Promise<SessionLink>;
}
