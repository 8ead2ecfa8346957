/**
 * A bulk connection over a TLS socket. Identity is settled before: `tls-connector.ts` and the node's server check
 * certificates and hand over a socket that is trusted.
 *
 * Copies per byte: none on a client's way in (the socket reads into the frame), none on a server's way in (frames are views
 * of what the socket emits), none on the way out for parts of 64 KiB and more.
 */
import type { TLSSocket } from 'node:tls';
import { CollectiveError } from '@collective/base/errors';
import { type BulkConnection, type BulkHandler, SEND_QUEUE_BYTES_HIGH, SEND_QUEUE_BYTES_LOW } from './connection.ts';
import type { Frame } from './frame.ts';
import { FrameDecoder } from './frame-decoder.ts';
import { SendQueue } from './send-queue.ts';

const DISCARD_BYTES = 4 * 1024;

export class TlsBulkConnection implements BulkConnection {
  readonly peer: string;
  readonly #queue = new SendQueue();
  readonly #decoder = new FrameDecoder((frame) => this.#deliver(frame));
  #socket: TLSSocket | undefined;
  #handler: BulkHandler | undefined;
  #early: Frame[] = [];
  #writing = false;
  #flushPlanned = false;
  #closing = false;
  #outdated = false;
  #paused = false;
  #ended: { error: CollectiveError | undefined } | undefined;
  #drainWaiters: (() => void)[] = [];

  constructor(peer: string) {
    this.peer = peer;
  }

  /** For `tls.connect({ onread })`: must be given before the socket exists. */
  readonly onread = {
    // What the socket had read already when the connection ended goes nowhere.
    buffer: (): Uint8Array => (this.#ended === undefined ? this.#decoder.space() : Buffer.allocUnsafe(DISCARD_BYTES)),
    callback: (bytesWritten: number): boolean => {
      this.#decode(() => this.#decoder.filled(bytesWritten));
      return !this.#paused && this.#ended === undefined;
    },
  };

  /** Takes over a connected and checked socket. `emitsData`: it was not made with `onread`. */
  attach(socket: TLSSocket, options: { emitsData: boolean }): void {
    this.#socket = socket;
    socket.setNoDelay(true);
    if (options.emitsData) socket.on('data', (piece: Buffer) => this.#decode(() => this.#decoder.push(piece)));
    // With onread there is no 'data' listener that makes the socket flow, and without flow no 'end'.
    else socket.resume();
    socket.on('end', () => this.#otherSideEnded());
    socket.on('error', (error) => this.#end(broken(this.peer, error)));
    socket.on('close', () => this.#end(broken(this.peer)));
    this.#planFlush();
  }

  get queuedBytes(): number {
    return this.#queue.bytes;
  }

  listen(handler: BulkHandler): void {
    this.#handler = handler;
    const early = this.#early;
    this.#early = [];
    for (const frame of early) handler.frame(frame);
    if (this.#ended !== undefined) handler.closed(this.#ended.error);
    else if (this.#outdated) handler.outdated?.();
  }

  send(parts: readonly Uint8Array[], options: { stream?: number; onSent?: () => void } = {}): boolean {
    if (this.#ended !== undefined || this.#closing) {
      options.onSent?.();
      return true;
    }
    this.#queue.push(parts, options.stream, options.onSent);
    this.#planFlush();
    return this.#queue.bytes < SEND_QUEUE_BYTES_HIGH;
  }

  drained(): Promise<void> {
    if (this.#ended !== undefined || this.#queue.bytes <= SEND_QUEUE_BYTES_LOW) return Promise.resolve();
    return new Promise((resolve) => this.#drainWaiters.push(resolve));
  }

  pause(): void {
    this.#paused = true;
    this.#socket?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#socket?.resume();
  }

  /** Certificates have changed: the user of the connection is asked to move on to a new one. */
  outdate(): void {
    this.#outdated = true;
    this.#handler?.outdated?.();
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#flush();
  }

  destroy(error: CollectiveError): void {
    this.#end(error);
  }

  #decode(step: () => void): void {
    if (this.#ended !== undefined) return;
    try {
      step();
    } catch (error) {
      if (!(error instanceof CollectiveError) || error.code !== 'frame_invalid') throw error;
      this.#end(error);
    }
  }

  #deliver(frame: Frame): void {
    if (this.#ended !== undefined) return;
    if (this.#handler === undefined) this.#early.push(frame);
    else this.#handler.frame(frame);
  }

  /** Gathers what one turn sends into one write. */
  #planFlush(): void {
    if (this.#flushPlanned || this.#writing) return;
    this.#flushPlanned = true;
    queueMicrotask(() => {
      this.#flushPlanned = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#writing || this.#ended !== undefined || this.#socket === undefined) return;
    const write = this.#queue.next();
    if (write === undefined) {
      if (this.#closing) this.#socket.end();
      return;
    }
    this.#writing = true;
    this.#socket.write(write.bytes, (error) => {
      this.#writing = false;
      this.#queue.sent(write);
      if (error !== undefined && error !== null) {
        this.#end(broken(this.peer, error));
        return;
      }
      if (this.#queue.bytes <= SEND_QUEUE_BYTES_LOW) this.#releaseDrainWaiters();
      this.#flush();
    });
  }

  #releaseDrainWaiters(): void {
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const wake of waiters) wake();
  }

  #otherSideEnded(): void {
    if (this.#decoder.pendingBytes > 0) {
      this.#end(
        new CollectiveError('unavailable', `Read a bulk frame from ${this.peer}: the connection ended within it`),
      );
      return;
    }
    this.#end(undefined);
  }

  #end(error: CollectiveError | undefined): void {
    if (this.#ended !== undefined) return;
    this.#ended = { error: this.#closing && error?.code === 'unavailable' ? undefined : error };
    if (error === undefined) this.#socket?.end();
    else this.#socket?.destroy();
    this.#queue.clear();
    this.#releaseDrainWaiters();
    this.#handler?.closed(this.#ended.error);
  }
}

function broken(peer: string, cause?: unknown): CollectiveError {
  return new CollectiveError('unavailable', `Exchange bulk frames with ${peer}: the connection broke`, { cause });
}
