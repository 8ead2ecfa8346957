/**
 * Tickets (D7): 16 bytes that say "this session may read this chunk here until then", made with a key that only the
 * coordinator and that one node have. Nodes know no realms, and clones share chunks between them, so the coordinator says
 * it chunk by chunk, cheaply: the first half of an HMAC-SHA-256.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { type ChunkId, chunkIdToBytes } from '@collective/base/ids';

export const TICKET_BYTES = 16;
export const TICKET_KEY_BYTES = 32;

export interface TicketFacts {
  readonly chunk: ChunkId;
  readonly session: number;
  readonly expiresSeconds: number;
}

export function makeTicket(key: Uint8Array, { chunk, session, expiresSeconds }: TicketFacts): Buffer {
  const message = Buffer.alloc(32);
  chunkIdToBytes(chunk).copy(message, 0);
  message.writeBigUInt64BE(BigInt(session), 16);
  message.writeBigUInt64BE(BigInt(expiresSeconds), 24);
  return createHmac('sha256', key).update(message).digest().subarray(0, TICKET_BYTES);
}

/** True when one of the keys (new and old overlap) made it. Expiry is the caller's to look at. */
export function isGenuineTicket(keys: readonly Uint8Array[], facts: TicketFacts, ticket: Uint8Array): boolean {
  if (ticket.length !== TICKET_BYTES) return false;
  return keys.some((key) => key.length === TICKET_KEY_BYTES && timingSafeEqual(makeTicket(key, facts), ticket));
}
