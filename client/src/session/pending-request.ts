/** One operation on its way: from the call to its answer, through broken streams. */
import type { Operation, Reply } from '@collective/protocol/gen/session';

export interface PendingRequest {
  /** Its number is drawn when it is first sent, so that numbers grow on the stream. */
  readonly operation: Operation;
  /**
   * - `queued`: not sent; giving it up leaves no trace.
   * - `sent`: unanswered; sent again after a broken stream.
   * - `given-up`: the caller has gone; a `Cancel` is under way and the answer is only kept for replay.
   * - `replay`: was answered before, and is made again for a coordinator that lost it.
   */
  state: 'queued' | 'sent' | 'given-up' | 'replay';
  /** Of the cache, at sending. */
  stamp: number;
  /** On boot time; undefined: waits for as long as the caller likes (locks). */
  readonly deadlineMs: number | undefined;
  /** Gives up when the coordinator is out of reach at this time; undefined with the session's own messages. */
  readonly startedMs: number;
  readonly settle: (outcome: { reply: Reply } | { error: unknown }) => void;
}
