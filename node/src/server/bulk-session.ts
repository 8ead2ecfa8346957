/**
 * The answering side of one bulk connection: takes frames, starts puts, gets and syncs, and answers. Access is checked when a
 * stream begins (D7). Frames of one put follow each other; when there is no memory for a put the connection is not read
 * until there is. Nothing here waits without a bound: a peer that stops in the middle of a put, or does not take what it
 * asked for, loses the connection.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { chunkIdFromBytes } from '@collective/base/ids';
import { FRAME_BYTES, WIRE_VERSION } from '@collective/base/limits';
import type { Log } from '@collective/base/log';
import type { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import type { BulkConnection } from '@collective/protocol/bulk/connection';
import {
  encodeControlFrame,
  FRAME_TYPES,
  type Frame,
  type FrameTypeName,
  frameHeaders,
  frameTypeName,
  payloadOf,
} from '@collective/protocol/bulk/frame';
import { toFailure } from '@collective/protocol/errors/grpc-status';
import { Failure } from '@collective/protocol/gen/common';
import {
  BulkHello,
  BulkWelcome,
  GetBegin,
  GetEnd,
  PutBegin,
  PutEnd,
  PutOutcome,
  SyncBegin,
  SyncDone,
} from '@collective/protocol/gen/node';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';
import type { AccessControl, BulkPeer } from './access-control.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { Forwarder } from './forwarder.ts';
import type { NodeMetrics } from './node-metrics.ts';
import { PutStream } from './put-stream.ts';
import { ReadBuffers } from './read-buffers.ts';

/** Streams of one connection that are not answered. */
export const SESSION_STREAMS_MAX = 512;
const PROGRESS_WITHIN_MS = 15_000;
const IDLE_WITHIN_MS = 600_000;
const LOOK_EVERY_MS = 1_000;

export interface BulkSessionOptions {
  readonly connection: BulkConnection;
  readonly peer: BulkPeer;
  readonly store: ChunkStore;
  readonly access: AccessControl;
  readonly forwarder: Forwarder;
  /** The node's own name. */
  readonly node: string;
  /** For puts of this kind of peer. */
  readonly putBudget: ByteBudget;
  /** Memory of puts, used again. */
  readonly putBuffers: ChunkBuffers;
  /** Shared by all connections. */
  readonly readBudget: ByteBudget;
  /** Of this connection. */
  readonly ownReadBudget: ByteBudget;
  readonly readBuffers: ReadBuffers;
  readonly metrics: NodeMetrics;
  readonly clock: Clock;
  readonly log: Log;
  onClosed(): void;
}

export class BulkSession {
  readonly #options: BulkSessionOptions;
  readonly #connection: BulkConnection;
  readonly #ending = new AbortController();
  /** Streams that are not answered, with what ends them early. */
  readonly #streams = new Map<number, (error: CollectiveError) => void>();
  #greeted = false;
  #receiving: { readonly id: number; readonly put: PutStream } | undefined;
  #highestStream = 0;
  #waitsForRoom = false;
  #draining = false;
  #movedAtMs: number;
  #queuedBytes = 0;
  #timer: Timer | undefined;
  #whenIdle: (() => void) | undefined;

  constructor(options: BulkSessionOptions) {
    this.#options = options;
    this.#connection = options.connection;
    this.#movedAtMs = options.clock.bootMs();
    this.#connection.listen({ frame: (frame) => this.#receive(frame), closed: (error) => this.#closed(error) });
    this.#watch();
  }

  /** Takes no new streams; resolves when those under way are answered or the signal is aborted, and closes. */
  async drain(signal: AbortSignal): Promise<void> {
    this.#draining = true;
    if (this.#streams.size > 0 && !signal.aborted)
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    this.#connection.close();
    if (signal.aborted)
      this.#connection.destroy(
        new CollectiveError('shutting_down', `Serve ${this.#options.peer.uri}: the node is stopping`),
      );
  }

  #receive(frame: Frame): void {
    this.#movedAtMs = this.#options.clock.bootMs();
    try {
      if (!this.#greeted) this.#greet(frame);
      else if (frame.type === FRAME_TYPES.DATA) this.#data(frame);
      else this.#control(frame);
    } catch (error) {
      // What a stream does wrong fails that stream; what is thrown to here breaks the rules of the connection.
      this.#refuseConnection(toCollectiveError(error, `Serve ${this.#options.peer.uri}`));
    }
  }

  #greet(frame: Frame): void {
    if (frame.type !== FRAME_TYPES.HELLO) throw this.#invalid(frame, 'before HELLO');
    const hello = decode(BulkHello, frame);
    if (hello.wireVersion < 1) throw this.#invalid(frame, `with wire version ${hello.wireVersion}`);
    this.#greeted = true;
    const { node, store } = this.#options;
    const welcome = { wireVersion: Math.min(WIRE_VERSION, hello.wireVersion), features: [], node, disk: store.disk };
    this.#send('WELCOME', 0, BulkWelcome.encode(welcome).finish());
  }

  #control(frame: Frame): void {
    switch (frame.type) {
      case FRAME_TYPES.PUT_BEGIN:
        this.#beginPut(frame);
        break;
      case FRAME_TYPES.PUT_END:
        this.#endPut(frame);
        break;
      case FRAME_TYPES.GET_BEGIN:
        this.#begin(frame, (signal) => this.#get(frame.stream, decode(GetBegin, frame), signal));
        break;
      case FRAME_TYPES.SYNC_BEGIN:
        this.#begin(frame, (signal) => this.#sync(frame.stream, decode(SyncBegin, frame), signal));
        break;
      case FRAME_TYPES.CANCEL:
        this.#cancel(frame.stream);
        break;
      case FRAME_TYPES.PING:
        this.#send('PONG', 0, new Uint8Array(0));
        break;
      case FRAME_TYPES.PONG:
        break;
      default:
        throw this.#invalid(frame, 'from a client');
    }
  }

  #beginPut(frame: Frame): void {
    if (this.#receiving !== undefined) throw this.#invalid(frame, `within the put of stream ${this.#receiving.id}`);
    const {
      access,
      peer,
      store,
      node,
      forwarder,
      putBudget: budget,
      putBuffers: buffers,
      metrics,
      clock,
    } = this.#options;
    this.#open(frame, () => {
      const begin = decode(PutBegin, frame);
      if (peer.role === 'node' && begin.forwardTo.length > 0)
        throw new CollectiveError('permission_denied', 'Put a chunk: what a node forwards is not forwarded again');
      access.checkPut(access.check(begin.token, peer), chunkIdFromBytes(begin.chunk));
      const put = new PutStream(begin, {
        store,
        node,
        forwarder,
        budget,
        buffers,
        metrics,
        clock,
        signal: this.#ending.signal,
      });
      this.#receiving = { id: frame.stream, put };
      this.#pauseUntilRoom(put);
      return (error) => {
        if (this.#receiving?.put === put) this.#receiving = undefined;
        put.abandon(error);
      };
    });
  }

  /** Stops reading; what was read already is kept, at most one socket read. */
  #pauseUntilRoom(put: PutStream): void {
    const { waitForRoom } = put;
    if (waitForRoom === undefined) return;
    this.#waitsForRoom = true;
    this.#connection.pause();
    const go = (): void => {
      this.#waitsForRoom = false;
      this.#movedAtMs = this.#options.clock.bootMs();
      this.#connection.resume();
    };
    waitForRoom.then(go, go);
  }

  #data(frame: Frame): void {
    const receiving = this.#receiving;
    if (receiving === undefined || receiving.id !== frame.stream) {
      if (frame.stream > this.#highestStream || frame.stream === 0) throw this.#invalid(frame, 'outside a put');
      return; // Of a put that was refused or cancelled.
    }
    try {
      receiving.put.data(frame);
    } catch (error) {
      this.#failStream(frame.stream, error);
    }
  }

  #endPut(frame: Frame): void {
    const receiving = this.#receiving;
    if (receiving === undefined || receiving.id !== frame.stream) {
      if (frame.stream > this.#highestStream) throw this.#invalid(frame, 'outside a put');
      return;
    }
    this.#receiving = undefined;
    const { id, put } = receiving;
    try {
      put.end(decode(PutEnd, frame).digest).then(
        (replicas) => {
          this.#answer(id, 'PUT_OUTCOME', PutOutcome.encode({ replicas }).finish());
        },
        (error: unknown) => this.#failStream(id, error),
      );
    } catch (error) {
      this.#failStream(id, error);
    }
  }

  /** Starts a stream that needs nothing more from the other side. */
  #begin(frame: Frame, run: (signal: AbortSignal) => Promise<void>): void {
    this.#open(frame, () => {
      const cancel = new AbortController();
      run(AbortSignal.any([cancel.signal, this.#ending.signal])).catch((error: unknown) =>
        this.#failStream(frame.stream, error),
      );
      return (error) => cancel.abort(error);
    });
  }

  #open(frame: Frame, start: () => (error: CollectiveError) => void): void {
    if (frame.stream <= this.#highestStream) throw this.#invalid(frame, 'for a stream id that was used');
    this.#highestStream = frame.stream;
    try {
      if (this.#draining)
        throw new CollectiveError('shutting_down', `Begin ${frameTypeName(frame.type)}: the node is stopping`);
      if (this.#streams.size >= SESSION_STREAMS_MAX)
        throw new CollectiveError(
          'overloaded',
          `Begin ${frameTypeName(frame.type)}: ${SESSION_STREAMS_MAX} streams are under way`,
        );
      // Entered first: what starts may fail before it returns.
      this.#streams.set(frame.stream, nothingToEnd);
      const end = start();
      if (this.#streams.has(frame.stream)) this.#streams.set(frame.stream, end);
    } catch (error) {
      this.#failStream(frame.stream, error);
    }
  }

  async #get(stream: number, begin: GetBegin, signal: AbortSignal): Promise<void> {
    const { access, peer, store, metrics } = this.#options;
    const chunk = chunkIdFromBytes(begin.chunk);
    access.checkGet(access.check(begin.token, peer), chunk, begin.ticket, begin.ticketExpires);
    const { readBuffers } = this.#options;
    let memory: Buffer | undefined;
    const pieces = store.read(chunk, begin.offset, begin.length, (bytes) => {
      memory = readBuffers.take(bytes);
      return memory;
    });
    const share = ReadBuffers.bytesFor(begin.length + FRAME_BYTES);
    let frames = 0;
    try {
      for (;;) {
        const giveShareBack = await this.#takeReadShare(share, signal);
        const piece = await nextPiece(pieces, giveShareBack);
        if (piece === undefined) break;
        const used = memory;
        const giveBack = (): void => {
          if (used !== undefined) readBuffers.giveBack(used);
          giveShareBack();
        };
        if (signal.aborted) {
          giveBack();
          throw signal.reason;
        }
        for (const _header of frameHeaders(piece)) frames++;
        metrics.getBytes.inc(piece.length);
        this.#connection.send([piece], { stream, onSent: giveBack });
      }
      metrics.gets.inc({ result: 'ok' });
      this.#answer(stream, 'GET_END', GetEnd.encode({ frames }).finish());
    } catch (error) {
      metrics.gets.inc({ result: 'failed' });
      throw error;
    } finally {
      await pieces.return();
    }
  }

  /** Room for one read, of this connection's share first, so that a peer that takes nothing waits only for itself. */
  async #takeReadShare(bytes: number, signal: AbortSignal): Promise<() => void> {
    const { readBudget, ownReadBudget } = this.#options;
    await ownReadBudget.take(bytes, signal);
    try {
      await readBudget.take(bytes, signal);
    } catch (error) {
      ownReadBudget.giveBack(bytes);
      throw error;
    }
    return () => {
      readBudget.giveBack(bytes);
      ownReadBudget.giveBack(bytes);
    };
  }

  async #sync(stream: number, begin: SyncBegin, signal: AbortSignal): Promise<void> {
    const { access, peer, store } = this.#options;
    access.check(begin.token, peer);
    if (begin.incarnation === store.incarnation && begin.sequence > store.stableSequence) await store.sync();
    signal.throwIfAborted();
    this.#answer(
      stream,
      'SYNC_DONE',
      SyncDone.encode({ stableSequence: store.stableSequence, incarnation: store.incarnation }).finish(),
    );
  }

  #cancel(stream: number): void {
    const end = this.#streams.get(stream);
    if (end === undefined) return;
    this.#failStream(stream, new CollectiveError('interrupted', `Serve stream ${stream}: it was cancelled`));
  }

  #answer(stream: number, type: 'PUT_OUTCOME' | 'GET_END' | 'SYNC_DONE', payload: Uint8Array): void {
    if (!this.#streams.delete(stream)) return;
    this.#send(type, stream, payload);
    this.#becameIdle();
  }

  #failStream(stream: number, thrown: unknown): void {
    const error = toCollectiveError(thrown, `Serve stream ${stream}`);
    const end = this.#streams.get(stream);
    this.#streams.delete(stream);
    end?.(error);
    if (this.#ending.signal.aborted) return;
    if (error.code === 'internal')
      this.#options.log.error({ peer: this.#options.peer.uri, err: error }, 'bulk stream failed');
    this.#send('FAILURE', stream, Failure.encode(toFailure(error, `Serve stream ${stream}`)).finish());
    this.#becameIdle();
  }

  #refuseConnection(error: CollectiveError): void {
    this.#options.log.warn({ peer: this.#options.peer.uri, err: error }, 'bulk connection refused');
    this.#send('FAILURE', 0, Failure.encode(toFailure(error, 'Serve a bulk connection')).finish());
    this.#connection.close();
    this.#finish(error);
  }

  #send(type: Exclude<FrameTypeName, 'DATA'>, stream: number, payload: Uint8Array): void {
    this.#connection.send([encodeControlFrame(type, stream, payload)]);
  }

  #becameIdle(): void {
    if (this.#streams.size === 0) this.#whenIdle?.();
  }

  #closed(error: CollectiveError | undefined): void {
    this.#finish(
      error ?? new CollectiveError('unavailable', `Serve ${this.#options.peer.uri}: it closed the connection`),
    );
  }

  #finish(error: CollectiveError): void {
    if (this.#ending.signal.aborted) return;
    this.#timer?.cancel();
    this.#ending.abort(error);
    const ends = [...this.#streams.values()];
    this.#streams.clear();
    for (const end of ends) end(error);
    this.#whenIdle?.();
    this.#options.onClosed();
  }

  #watch(): void {
    this.#timer = this.#options.clock.setTimer(
      LOOK_EVERY_MS,
      () => {
        this.#look();
        if (!this.#ending.signal.aborted) this.#watch();
      },
      { background: true },
    );
  }

  #look(): void {
    const nowMs = this.#options.clock.bootMs();
    const queued = this.#connection.queuedBytes;
    if (queued !== this.#queuedBytes) this.#movedAtMs = nowMs;
    this.#queuedBytes = queued;
    const waitsForPeer = (this.#receiving !== undefined && !this.#waitsForRoom) || queued > 0 || !this.#greeted;
    const stillMs = nowMs - this.#movedAtMs;
    if (waitsForPeer && stillMs > PROGRESS_WITHIN_MS) {
      const error = new CollectiveError(
        'deadline_exceeded',
        `Serve ${this.#options.peer.uri}: it moved no byte for ${PROGRESS_WITHIN_MS} ms`,
      );
      this.#connection.destroy(error);
      this.#finish(error);
    } else if (this.#streams.size === 0 && stillMs > IDLE_WITHIN_MS) this.#connection.close();
  }

  #invalid(frame: Frame, where: string): CollectiveError {
    return new CollectiveError(
      'frame_invalid',
      `Serve ${this.#options.peer.uri}: ${frameTypeName(frame.type)} came ${where}`,
    );
  }
}

function nothingToEnd(): void {
  // The stream has not begun.
}

function decode<T>(type: { decode(bytes: Uint8Array): T }, frame: Frame): T {
  try {
    return type.decode(payloadOf(frame));
  } catch (cause) {
    throw new CollectiveError('frame_invalid', `Read the payload of ${frameTypeName(frame.type)}`, { cause });
  }
}

/** Calls `unused` when there is no further piece. */
async function nextPiece(
  pieces: AsyncGenerator<Buffer, void, undefined>,
  unused: () => void,
): Promise<Buffer | undefined> {
  try {
    const result = await pieces.next();
    if (!result.done) return result.value;
  } catch (error) {
    unused();
    throw error;
  }
  unused();
  return undefined;
}
