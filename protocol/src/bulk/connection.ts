/**
 * A bulk connection as a port: frames go both ways in order, and bytes that arrive are verified. `tls-connection.ts` is the
 * real one, `memory-connection.ts` the pair of queues that the simulator uses.
 *
 * Frames are handed over by call-back, not by promise: at 8000 frames a GiB a promise each would be felt. What is sent is
 * bounded by the sender: `send` tells when to wait for `drained`. What is received is bounded by `pause`.
 */
import type { CollectiveError } from '@collective/base/errors';
import type { Frame } from './frame.ts';

/** Above this `send` asks the caller to wait. */
export const SEND_QUEUE_BYTES_HIGH = 4 * 1024 * 1024;
/** `drained` resolves below this. */
export const SEND_QUEUE_BYTES_LOW = 1024 * 1024;

export interface BulkHandler {
  frame(frame: Frame): void;
  /** Called once, last: undefined when the other side closed between two frames. */
  closed(error: CollectiveError | undefined): void;
  /** T6: nothing more is to be begun on this connection; it ends when nothing is under way any more. */
  outdated?(): void;
}

export interface BulkConnection {
  /** Who is at the other end, for messages and logs: a node's name or an address. */
  readonly peer: string;
  /** Begins to deliver; called once. Frames that came before are kept until then. */
  listen(handler: BulkHandler): void;
  /**
   * Queues one or more whole frames that lie in `parts`, one after the other. With `stream` the connection writes that
   * id into the headers at the moment it sends: then each part must hold whole frames, its bytes 0..4 of each frame belong to
   * the connection, and the same buffer may be queued on several connections. Returns false when the queue is above its
   * mark. `onSent` is called when the bytes are no longer needed, also when the connection breaks.
   */
  send(parts: readonly Uint8Array[], options?: { stream?: number; onSent?: () => void }): boolean;
  /** Resolves below the low mark, or when the connection has ended. */
  drained(): Promise<void>;
  readonly queuedBytes: number;
  /** Stops reading until `resume`; frames of bytes that were already read may still come. */
  pause(): void;
  resume(): void;
  /** Ends in order: what is queued is still sent. */
  close(): void;
  /** Ends now; the handler is told `error`. */
  destroy(error: CollectiveError): void;
}

export interface BulkTarget {
  /** The node's name: its certificate must carry it. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

export interface BulkConnector {
  /** Throws `unavailable` or `unauthenticated`, or the signal's reason. */
  connect(target: BulkTarget, signal: AbortSignal): Promise<BulkConnection>;
}
