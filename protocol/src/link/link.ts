/**
 * A two-way stream of messages as a port: a gRPC stream in the product (`grpc-link.ts`), a pair of queues with faults
 * in the simulator (`memory-link.ts`). Order is kept; a message arrives whole or the link ends.
 */
export interface Link<Out, In> {
  /** Queues a message. Never blocks; a caller that sends much awaits `drained` between. No effect once closed. */
  send(message: Out): void;
  /** Resolves when the outgoing queue is below its high-water mark, or the link has ended. */
  drained(): Promise<void>;
  /**
   * The next message; undefined when the other side closed in order. Throws a CollectiveError (`unavailable`,
   * `unauthenticated`, ...) when the link broke, or the signal's reason. One reader at a time.
   */
  receive(signal?: AbortSignal): Promise<In | undefined>;
  /** Ends the link for both sides; what was sent before is still delivered if the network allows. */
  close(): void;
}
