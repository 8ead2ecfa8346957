/**
 * Two bulk connections that are each other's other end, in one process: for tests and the simulator. Bytes are copied and
 * decoded as they would be behind a socket, so a frame that is wrong is found here too.
 *
 * A link stands for one TCP stream: it may be late or cut, it never loses or reorders within. Who simulates a network gives a
 * `transmit`: it is called for every batch of bytes and delivers it now, later or never.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type BulkConnection, type BulkHandler, SEND_QUEUE_BYTES_HIGH, SEND_QUEUE_BYTES_LOW } from './connection.ts';
import { type Frame, stampStream } from './frame.ts';
import { FrameDecoder } from './frame-decoder.ts';

export type Direction = 'to-acceptor' | 'to-connector';

export interface MemoryNetwork {
  /** Calls `deliver` once, after whatever delay; order within a direction is its duty. May change `bytes`, as a bad network would. */
  transmit(direction: Direction, bytes: Buffer, deliver: () => void): void;
}

export interface MemoryPair {
  readonly connector: BulkConnection;
  readonly acceptor: BulkConnection;
  /** Both ends see the connection break; what is under way is lost. */
  cut(): void;
}

export function memoryConnectionPair(options: {
  clock: Clock;
  connectorName: string;
  acceptorName: string;
  network?: MemoryNetwork;
}): MemoryPair {
  const network = options.network ?? { transmit: (_direction, _bytes, deliver) => options.clock.defer(deliver) };
  const connector = new MemoryBulkConnection(options.acceptorName, (bytes, deliver) =>
    network.transmit('to-acceptor', bytes, deliver),
  );
  const acceptor = new MemoryBulkConnection(options.connectorName, (bytes, deliver) =>
    network.transmit('to-connector', bytes, deliver),
  );
  connector.join(acceptor);
  acceptor.join(connector);
  const cut = (): void => {
    connector.destroy(cutError(connector.peer));
    acceptor.destroy(cutError(acceptor.peer));
  };
  return { connector, acceptor, cut };
}

type Transmit = (bytes: Buffer, deliver: () => void) => void;

class MemoryBulkConnection implements BulkConnection {
  readonly peer: string;
  readonly #transmit: Transmit;
  readonly #decoder = new FrameDecoder((frame) => this.#deliver(frame));
  #other: MemoryBulkConnection | undefined;
  #handler: BulkHandler | undefined;
  #kept: Frame[] = [];
  /** `bytes` undefined: the other side closed. */
  readonly #arrivals: { readonly bytes: Buffer | undefined; readonly accepted: () => void }[] = [];
  #paused = false;
  #closing = false;
  #ended: { error: CollectiveError | undefined } | undefined;
  #told = false;
  #queuedBytes = 0;
  #drainWaiters: (() => void)[] = [];

  constructor(peer: string, transmit: Transmit) {
    this.peer = peer;
    this.#transmit = transmit;
  }

  join(other: MemoryBulkConnection): void {
    this.#other = other;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  listen(handler: BulkHandler): void {
    this.#handler = handler;
    this.#deliverKept();
  }

  send(parts: readonly Uint8Array[], options: { stream?: number; onSent?: () => void } = {}): boolean {
    if (this.#ended !== undefined || this.#closing) {
      options.onSent?.();
      return true;
    }
    const bytes = Buffer.concat(parts);
    if (options.stream !== undefined) stampStream(bytes, options.stream);
    this.#queuedBytes += bytes.length;
    const accepted = (): void => {
      this.#queuedBytes -= bytes.length;
      if (this.#queuedBytes <= SEND_QUEUE_BYTES_LOW) this.#releaseDrainWaiters();
      options.onSent?.();
    };
    this.#transmit(bytes, () => {
      if (this.#ended?.error !== undefined || this.#other === undefined) accepted();
      else this.#other.arrive(bytes, accepted);
    });
    return this.#queuedBytes < SEND_QUEUE_BYTES_HIGH;
  }

  drained(): Promise<void> {
    if (this.#ended !== undefined || this.#queuedBytes <= SEND_QUEUE_BYTES_LOW) return Promise.resolve();
    return new Promise((resolve) => this.#drainWaiters.push(resolve));
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#takeArrivals();
    this.#deliverKept();
  }

  close(): void {
    if (this.#closing || this.#ended !== undefined) return;
    this.#closing = true;
    this.#transmit(Buffer.alloc(0), () => {
      this.#other?.arrive(undefined, () => this.end(undefined));
    });
  }

  destroy(error: CollectiveError): void {
    if (this.#ended !== undefined) return;
    this.end(error);
    this.#transmit(Buffer.alloc(0), () => this.#other?.end(cutError(this.#other.peer)));
  }

  /** While this end is paused the bytes stay the sender's, as they would in a socket's buffers. */
  arrive(bytes: Buffer | undefined, accepted: () => void): void {
    this.#arrivals.push({ bytes, accepted });
    this.#takeArrivals();
  }

  #takeArrivals(): void {
    while (!this.#paused || this.#ended !== undefined) {
      const arrival = this.#arrivals.shift();
      if (arrival === undefined) return;
      arrival.accepted();
      if (arrival.bytes === undefined) this.end(undefined);
      else if (this.#ended === undefined) this.#decode(arrival.bytes);
    }
  }

  #decode(bytes: Buffer): void {
    try {
      this.#decoder.push(bytes);
    } catch (error) {
      if (!(error instanceof CollectiveError) || error.code !== 'frame_invalid') throw error;
      this.destroy(error);
    }
  }

  end(error: CollectiveError | undefined): void {
    if (this.#ended !== undefined) return;
    this.#ended = { error };
    this.#releaseDrainWaiters();
    this.#takeArrivals();
    this.#deliverKept();
  }

  #deliver(frame: Frame): void {
    this.#kept.push(frame);
    this.#deliverKept();
  }

  #deliverKept(): void {
    const handler = this.#handler;
    if (handler === undefined) return;
    while (!this.#paused || this.#ended?.error !== undefined) {
      const frame = this.#kept.shift();
      if (frame === undefined) break;
      if (this.#ended?.error === undefined) handler.frame(frame);
    }
    if (this.#ended === undefined || this.#told || this.#kept.length > 0) return;
    this.#told = true;
    handler.closed(this.#ended.error);
  }

  #releaseDrainWaiters(): void {
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const wake of waiters) wake();
  }
}

function cutError(peer: string): CollectiveError {
  return new CollectiveError('unavailable', `Exchange bulk frames with ${peer}: the connection broke`);
}
