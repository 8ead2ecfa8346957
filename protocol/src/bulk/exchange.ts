/**
 * The asking side of a bulk connection: many puts, gets and syncs on one connection, told apart by stream id. Used by clients
 * and by a node that forwards.
 *
 * Two rules keep the other side's memory bounded without a window protocol: the frames of one put follow each other without
 * those of another put between (a node that has no room simply stops reading), and a get asks for one chunk at most, so
 * whoever reads bounds what can arrive by what it asked for.
 *
 * Nothing waits for ever: a stream without progress fails, a connection that moves no bytes is given up.
 */
import type { Clock, Timer, Timestamp } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdToBytes } from '@collective/base/ids';
import { WIRE_VERSION } from '@collective/base/limits';
import { fromFailure } from '../errors/grpc-status.ts';
import { Failure, type ReplicaOutcome } from '../gen/common.ts';
import { BulkHello, BulkWelcome, GetBegin, PutBegin, PutEnd, PutOutcome, SyncBegin, SyncDone } from '../gen/node.ts';
import type { BulkConnection } from './connection.ts';
import type { EncodedChunk } from './encode-chunk.ts';
import { encodeControlFrame, FRAME_TYPES, type Frame, type FrameTypeName, frameTypeName, payloadOf } from './frame.ts';
import { RangeReader, type RawPiece } from './range-reader.ts';
import { Turnstile } from './turnstile.ts';

/** Streams of one connection that wait for an answer; further ones wait for their turn. */
export const STREAMS_MAX = 128;
const STREAM_ID_MAX = 0xffff_ffff;
const LOOK_EVERY_MS = 1_000;

export interface PutRequest {
  /** The session's signed access (D7). */
  readonly token: Uint8Array;
  readonly chunk: ChunkId;
  /** Raw bytes. */
  readonly length: number;
  /** Hints (D1). */
  readonly inode: number;
  readonly block: number;
  /** Names of further replicas. */
  readonly forwardTo: readonly string[];
  /** Answer when stable, not when written (D3). */
  readonly stable: boolean;
}

/** A chunk that is still arriving from somewhere: buffers of whole DATA frames, in order; `digest` is asked after the last. */
export interface ArrivingChunk {
  readonly arriving: AsyncIterable<Buffer>;
  digest(): Buffer;
}

export interface GetRequest {
  readonly token: Uint8Array;
  readonly ticket: Uint8Array;
  readonly ticketExpires: Timestamp;
  readonly chunk: ChunkId;
  /** Raw bytes; `offset + length` lies within the chunk. */
  readonly offset: number;
  readonly length: number;
}

export interface ExchangeOptions {
  readonly clock: Clock;
  /** Name and version, for the other side's log. */
  readonly program: string;
  /** A stream that hears nothing for so long fails. Default 15 s. */
  readonly progressWithinMs?: number;
}

interface Stream {
  readonly what: string;
  progressAtMs: number;
  /** The last frame of the other side was seen. */
  done: boolean;
  failed: boolean;
  frame(frame: Frame): void;
  fail(error: unknown): void;
}

export class BulkExchange {
  readonly #connection: BulkConnection;
  readonly #clock: Clock;
  readonly #progressWithinMs: number;
  readonly #streams = new Map<number, Stream>();
  readonly #putTurn = new Turnstile(1);
  readonly #streamTurn = new Turnstile(STREAMS_MAX);
  readonly #closed = Promise.withResolvers<CollectiveError | undefined>();
  #welcome: ((frame: Frame) => void) | undefined;
  #facts: BulkWelcome | undefined;
  #ended: CollectiveError | undefined;
  #outdated = false;
  #nextStream = 1;
  #timer: Timer | undefined;
  #idleSinceMs: number;
  #lastQueuedBytes = 0;
  #lastMovedAtMs: number;

  /** Says hello and waits for the welcome. Closes the connection if that fails. */
  static async open(connection: BulkConnection, options: ExchangeOptions, signal: AbortSignal): Promise<BulkExchange> {
    const exchange = new BulkExchange(connection, options);
    try {
      await exchange.#greet(options.program, signal);
      return exchange;
    } catch (error) {
      connection.destroy(toCollectiveError(error, `Greet ${connection.peer}`, 'unavailable'));
      throw error;
    }
  }

  private constructor(connection: BulkConnection, options: ExchangeOptions) {
    this.#connection = connection;
    this.#clock = options.clock;
    this.#progressWithinMs = options.progressWithinMs ?? 15_000;
    this.#idleSinceMs = this.#clock.bootMs();
    this.#lastMovedAtMs = this.#idleSinceMs;
    connection.listen({
      frame: (frame) => this.#receive(frame),
      closed: (error) => this.#end(error),
      outdated: () => this.#outdate(),
    });
  }

  get node(): string {
    return this.#facts?.node ?? this.#connection.peer;
  }

  /** The uuid of the node's disk. */
  get disk(): string {
    return this.#facts?.disk ?? '';
  }

  /** Whether something may be begun on it. */
  get isOpen(): boolean {
    return this.#ended === undefined && !this.#outdated;
  }

  /** Streams that are not answered yet. */
  get activeStreams(): number {
    return this.#streams.size;
  }

  /** Since when nothing is under way, on boot time; undefined while something is. */
  get idleSinceMs(): number | undefined {
    return this.#streams.size === 0 ? this.#idleSinceMs : undefined;
  }

  /** Resolves when the connection has ended, with what broke it. */
  get closed(): Promise<CollectiveError | undefined> {
    return this.#closed.promise;
  }

  /** One outcome a replica: this node's first. Throws when there is none at all. */
  async put(
    request: PutRequest,
    source: EncodedChunk | ArrivingChunk,
    options: { signal: AbortSignal },
  ): Promise<ReplicaOutcome[]> {
    const { signal } = options;
    const what = `Put chunk ${request.chunk} to ${this.node}`;
    const leaveStreams = await this.#streamTurn.enter(signal);
    try {
      const leavePuts = await this.#putTurn.enter(signal);
      let sending = false;
      try {
        return await this.#ask(what, signal, FRAME_TYPES.PUT_OUTCOME, async (id, stream, answer) => {
          sending = true;
          // A put that failed early stops sending at its next step; only then may another begin.
          await this.#sendPut(id, stream, request, source).finally(leavePuts);
          return PutOutcome.decode(payloadOf(await answer)).replicas;
        });
      } finally {
        if (!sending) leavePuts();
      }
    } finally {
      leaveStreams();
    }
  }

  /** Pieces in order, raw, verified and trimmed to the range. */
  get(request: GetRequest, options: { signal: AbortSignal }): AsyncGenerator<RawPiece, void, undefined> {
    return this.#get(request, options.signal, (reader) => reader.next());
  }

  /** The stored frames that cover the range, in order and verified, as whoever stores them too wants them. */
  getFrames(request: GetRequest, options: { signal: AbortSignal }): AsyncGenerator<Frame, void, undefined> {
    return this.#get(request, options.signal, (reader) => reader.nextFrame());
  }

  async *#get<T>(
    request: GetRequest,
    signal: AbortSignal,
    next: (reader: RangeReader) => Promise<T | undefined>,
  ): AsyncGenerator<T, void, undefined> {
    if (request.length === 0) return;
    const what = `Get chunk ${request.chunk} from ${this.node}`;
    const leave = await this.#streamTurn.enter(signal);
    try {
      yield* this.#getNow(request, what, signal, next);
    } finally {
      leave();
    }
  }

  async *#getNow<T>(
    request: GetRequest,
    what: string,
    signal: AbortSignal,
    next: (reader: RangeReader) => Promise<T | undefined>,
  ): AsyncGenerator<T, void, undefined> {
    const reader = new RangeReader(request.offset, request.length, what);
    const { id, stream, stopListening } = this.#openStream(
      what,
      signal,
      (error) => reader.fail(error),
      (frame) => {
        if (reader.accept(frame)) stream.done = true;
      },
    );
    try {
      const { token, ticket, ticketExpires, chunk, offset, length } = request;
      this.#sendControl(
        'GET_BEGIN',
        id,
        GetBegin.encode({
          token: Buffer.from(token),
          ticket: Buffer.from(ticket),
          ticketExpires,
          chunk: chunkIdToBytes(chunk),
          offset,
          length,
        }).finish(),
      );
      for (let piece = await next(reader); piece !== undefined; piece = await next(reader)) yield piece;
    } finally {
      stopListening();
      reader.releaseAll();
      this.#closeStream(id, stream);
    }
  }

  /** Resolves when everything that the node wrote up to `sequence` is stable. */
  async sync(
    request: { token: Uint8Array; sequence: number; incarnation: number },
    options: { signal: AbortSignal },
  ): Promise<SyncDone> {
    const what = `Sync node ${this.node}`;
    const leave = await this.#streamTurn.enter(options.signal);
    try {
      return await this.#ask(what, options.signal, FRAME_TYPES.SYNC_DONE, async (id, _stream, answer) => {
        this.#sendControl(
          'SYNC_BEGIN',
          id,
          SyncBegin.encode({ ...request, token: Buffer.from(request.token) }).finish(),
        );
        return SyncDone.decode(payloadOf(await answer));
      });
    } finally {
      leave();
    }
  }

  /** Ends in order; with something under way at once: it fails, and nobody waits for what a stuck peer does not take. */
  close(): void {
    if (this.#streams.size === 0 && this.#connection.queuedBytes === 0) this.#connection.close();
    else
      this.#connection.destroy(
        new CollectiveError('unavailable', `Talk to ${this.node}: the connection was given up with work under way`),
      );
    this.#end(undefined);
  }

  async #greet(program: string, signal: AbortSignal): Promise<void> {
    const welcome = Promise.withResolvers<void>();
    // The connection may end when nobody waits any more.
    welcome.promise.catch(ignoreLate);
    const onAbort = (): void => welcome.reject(signal.reason);
    const timer = this.#clock.setTimer(this.#progressWithinMs, () =>
      welcome.reject(
        new CollectiveError(
          'unavailable',
          `Greet ${this.#connection.peer}: no answer within ${this.#progressWithinMs} ms`,
        ),
      ),
    );
    signal.addEventListener('abort', onAbort, { once: true });
    this.#welcome = (frame) => {
      if (frame.type === FRAME_TYPES.FAILURE) welcome.reject(fromFailure(Failure.decode(payloadOf(frame))));
      else if (frame.type !== FRAME_TYPES.WELCOME) welcome.reject(unexpected(frame, this.#connection.peer));
      else {
        this.#facts = BulkWelcome.decode(payloadOf(frame));
        welcome.resolve();
      }
    };
    void this.#closed.promise.then((error) =>
      welcome.reject(
        error ?? new CollectiveError('unavailable', `Greet ${this.#connection.peer}: it closed the connection`),
      ),
    );
    try {
      if (signal.aborted) throw signal.reason;
      this.#sendControl('HELLO', 0, BulkHello.encode({ wireVersion: WIRE_VERSION, features: [], program }).finish());
      await welcome.promise;
    } finally {
      this.#welcome = undefined;
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Runs `act` with a stream whose one answer is of type `answerType`. What fails the stream ends the wait at once; `act` finds out at its next step. */
  async #ask<T>(
    what: string,
    signal: AbortSignal,
    answerType: number,
    act: (id: number, stream: Stream, answer: Promise<Frame>) => Promise<T>,
  ): Promise<T> {
    const answer = Promise.withResolvers<Frame>();
    const failure = Promise.withResolvers<never>();
    const { id, stream, stopListening } = this.#openStream(what, signal, failure.reject, (frame) => {
      if (frame.type !== answerType) {
        this.#connection.destroy(unexpected(frame, this.node));
        return;
      }
      stream.done = true;
      answer.resolve(frame);
    });
    try {
      return await Promise.race([act(id, stream, answer.promise), failure.promise]);
    } finally {
      stopListening();
      this.#closeStream(id, stream);
    }
  }

  #openStream(
    what: string,
    signal: AbortSignal,
    fail: (error: unknown) => void,
    frame: (frame: Frame) => void,
  ): { id: number; stream: Stream; stopListening: () => void } {
    signal.throwIfAborted();
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#nextStream > STREAM_ID_MAX)
      throw new CollectiveError('unavailable', `${what}: the connection has used all its stream ids`);
    const id = this.#nextStream++;
    const stream: Stream = {
      what,
      progressAtMs: this.#clock.bootMs(),
      done: false,
      failed: false,
      frame,
      fail: (error) => {
        stream.failed = true;
        fail(error);
      },
    };
    this.#streams.set(id, stream);
    this.#watch();
    const onAbort = (): void => stream.fail(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    return { id, stream, stopListening: () => signal.removeEventListener('abort', onAbort) };
  }

  #closeStream(id: number, stream: Stream): void {
    if (!stream.done && this.#ended === undefined) this.#sendControl('CANCEL', id, new Uint8Array(0));
    this.#streams.delete(id);
    this.#idleSinceMs = this.#clock.bootMs();
    if (this.#outdated) this.#closeWhenIdle();
  }

  #outdate(): void {
    this.#outdated = true;
    this.#closeWhenIdle();
  }

  #closeWhenIdle(): void {
    if (this.#streams.size === 0 && this.#welcome === undefined) this.close();
  }

  async #sendPut(id: number, stream: Stream, request: PutRequest, source: EncodedChunk | ArrivingChunk): Promise<void> {
    const { token, chunk, length, inode, block, forwardTo, stable } = request;
    const begin = {
      token: Buffer.from(token),
      chunk: chunkIdToBytes(chunk),
      length,
      inode,
      block,
      forwardTo: [...forwardTo],
      stable,
    };
    this.#sendControl('PUT_BEGIN', id, PutBegin.encode(begin).finish());
    const digest =
      'arriving' in source ? await this.#sendArriving(id, stream, source) : await this.#sendEncoded(id, stream, source);
    if (this.#wantsMore(stream)) this.#sendControl('PUT_END', id, PutEnd.encode({ digest }).finish());
  }

  async #sendEncoded(id: number, stream: Stream, source: EncodedChunk): Promise<Buffer> {
    for (const frame of source.frames) {
      if (!this.#wantsMore(stream)) break;
      if (!this.#connection.send([frame], { stream: id })) await this.#drained(stream);
    }
    return source.digest;
  }

  async #sendArriving(id: number, stream: Stream, source: ArrivingChunk): Promise<Buffer> {
    for await (const frames of source.arriving) {
      if (!this.#wantsMore(stream)) break;
      stream.progressAtMs = this.#clock.bootMs();
      if (!this.#connection.send([frames], { stream: id })) await this.#drained(stream);
    }
    return this.#wantsMore(stream) ? source.digest() : Buffer.alloc(0);
  }

  #wantsMore(stream: Stream): boolean {
    return !stream.done && !stream.failed && this.#ended === undefined;
  }

  async #drained(stream: Stream): Promise<void> {
    await this.#connection.drained();
    stream.progressAtMs = this.#clock.bootMs();
  }

  #sendControl(type: Exclude<FrameTypeName, 'DATA'>, stream: number, payload: Uint8Array): void {
    this.#connection.send([encodeControlFrame(type, stream, payload)]);
  }

  #receive(frame: Frame): void {
    this.#lastMovedAtMs = this.#clock.bootMs();
    if (this.#welcome !== undefined) {
      this.#welcome(frame);
      return;
    }
    if (frame.type === FRAME_TYPES.PING) {
      this.#sendControl('PONG', 0, new Uint8Array(0));
      return;
    }
    if (frame.type === FRAME_TYPES.PONG) return;
    if (frame.stream === 0) {
      this.#connection.destroy(
        frame.type === FRAME_TYPES.FAILURE
          ? fromFailure(Failure.decode(payloadOf(frame)))
          : unexpected(frame, this.node),
      );
      return;
    }
    const stream = this.#streams.get(frame.stream);
    if (stream === undefined) {
      // What was under way when a stream was cancelled still comes.
      if (frame.stream >= this.#nextStream) this.#connection.destroy(unexpected(frame, this.node));
      else frame.release();
      return;
    }
    stream.progressAtMs = this.#lastMovedAtMs;
    if (frame.type === FRAME_TYPES.FAILURE) {
      stream.done = true;
      stream.fail(fromFailure(Failure.decode(payloadOf(frame))));
      return;
    }
    stream.frame(frame);
  }

  /** One timer looks after all streams; it runs only while there are any, or bytes that the other side does not take. */
  #watch(): void {
    this.#timer ??= this.#clock.setTimer(
      LOOK_EVERY_MS,
      () => {
        this.#timer = undefined;
        this.#look();
        const busy = this.#streams.size > 0 || this.#connection.queuedBytes > 0;
        if (busy && this.#ended === undefined) this.#watch();
      },
      { background: true },
    );
  }

  #look(): void {
    const nowMs = this.#clock.bootMs();
    const queued = this.#connection.queuedBytes;
    if (queued === 0 || queued !== this.#lastQueuedBytes) this.#lastMovedAtMs = nowMs;
    this.#lastQueuedBytes = queued;
    if (nowMs - this.#lastMovedAtMs > this.#progressWithinMs) {
      this.#connection.destroy(
        new CollectiveError('unavailable', `Send to ${this.node}: it took no bytes for ${this.#progressWithinMs} ms`),
      );
      return;
    }
    for (const stream of this.#streams.values()) {
      if (nowMs - stream.progressAtMs > this.#progressWithinMs)
        stream.fail(
          new CollectiveError('deadline_exceeded', `${stream.what}: no progress for ${this.#progressWithinMs} ms`),
        );
    }
  }

  #end(error: CollectiveError | undefined): void {
    if (this.#ended !== undefined) return;
    this.#ended = error ?? new CollectiveError('unavailable', `Talk to ${this.node}: the connection is closed`);
    this.#timer?.cancel();
    for (const stream of this.#streams.values()) stream.fail(this.#ended);
    this.#closed.resolve(error);
  }
}

function ignoreLate(): void {
  // Whoever greets was told in another way.
}

function unexpected(frame: Frame, peer: string): CollectiveError {
  return new CollectiveError(
    'frame_invalid',
    `Read a bulk frame from ${peer}: ${frameTypeName(frame.type)} is not expected on stream ${frame.stream}`,
  );
}
