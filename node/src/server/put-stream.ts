/**
 * One put as it arrives (D2, D3): frames are checked for order, kept until the chunk is whole, and handed to the forwards as
 * they come. The answer has one outcome a replica, this node's first. The chunk holds its share of the put budget
 * until the disk and every forward are done with it.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdEpoch, chunkIdFromBytes, type InodeNumber } from '@collective/base/ids';
import { BLOCK_BYTES, FRAME_BYTES, REPLICAS_MAX } from '@collective/base/limits';
import { ChunkDigest, DIGEST_BYTES } from '@collective/protocol/bulk/encode-chunk';
import type { Frame } from '@collective/protocol/bulk/frame';
import { toFailure } from '@collective/protocol/errors/grpc-status';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import type { PutBegin } from '@collective/protocol/gen/node';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';
import { ArrivingFrames } from './arriving-frames.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { Forwarder } from './forwarder.ts';
import type { NodeMetrics } from './node-metrics.ts';

export interface PutStreamOptions {
  readonly store: ChunkStore;
  readonly node: string;
  readonly forwarder: Forwarder;
  readonly budget: ByteBudget;
  readonly metrics: NodeMetrics;
  readonly clock: Clock;
  /** Ends with the connection. */
  readonly signal: AbortSignal;
}

export class PutStream {
  readonly chunk: ChunkId;
  readonly #begin: PutBegin;
  readonly #options: PutStreamOptions;
  readonly #frames: Frame[] = [];
  readonly #digest = new ChunkDigest();
  readonly #forwards: { readonly frames: ArrivingFrames; readonly outcome: Promise<ReplicaOutcome> }[];
  readonly #room: Promise<void>;
  readonly #giveUp = new AbortController();
  readonly #signal: AbortSignal;
  #rawLength = 0;
  #hasRoom = false;
  #local: Promise<ReplicaOutcome> | undefined;

  /** Throws `invalid_argument` for a request that makes no sense; rights were checked before. */
  constructor(begin: PutBegin, options: PutStreamOptions) {
    this.chunk = chunkIdFromBytes(begin.chunk);
    if (begin.length < 1 || begin.length > BLOCK_BYTES)
      throw refused(this.chunk, `it cannot have ${begin.length} bytes`);
    const others = new Set(begin.forwardTo);
    if (others.size !== begin.forwardTo.length || others.has(options.node) || others.size >= REPLICAS_MAX)
      throw refused(this.chunk, `it cannot be forwarded to ${begin.forwardTo.join(', ')}`);
    this.#begin = begin;
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#giveUp.signal]);
    this.#room = this.#takeRoom();
    // Whoever ends the stream early does not wait for room.
    this.#room.catch(ignoreAbandoned);
    this.#forwards = begin.forwardTo.map((node) => this.#forward(node));
  }

  /** Undefined when there is room already; else the connection should not be read until it resolves. */
  get waitForRoom(): Promise<void> | undefined {
    return this.#hasRoom ? undefined : this.#room;
  }

  data(frame: Frame): void {
    if (frame.rawOffset !== this.#rawLength || this.#rawLength % FRAME_BYTES !== 0)
      throw refusedFrame(this.chunk, `a frame lies at ${frame.rawOffset}, not at ${this.#rawLength}`);
    if (frame.rawOffset + frame.rawLength > this.#begin.length)
      throw refusedFrame(
        this.chunk,
        `a frame ends at ${frame.rawOffset + frame.rawLength}, announced were ${this.#begin.length} bytes`,
      );
    this.#rawLength += frame.rawLength;
    this.#digest.add(frame.crc);
    this.#frames.push(frame);
    for (const forward of this.#forwards) forward.frames.push(frame);
  }

  /** The client has sent all. Throws when that is not the announced chunk; else resolves with the outcomes. */
  end(digest: Buffer): Promise<ReplicaOutcome[]> {
    if (this.#rawLength !== this.#begin.length)
      throw refusedFrame(this.chunk, `${this.#rawLength} of ${this.#begin.length} bytes came`);
    if (digest.length !== DIGEST_BYTES || !digest.equals(this.#digest.finish(this.#rawLength)))
      throw refusedFrame(this.chunk, 'its frames do not give its digest');
    for (const forward of this.#forwards) forward.frames.end(digest);
    return this.#finish(digest);
  }

  /** The put will not be completed: cancelled, refused, or the connection broke. */
  abandon(error: CollectiveError): void {
    for (const forward of this.#forwards) forward.frames.fail(error);
    this.#giveUp.abort(error);
    void this.#settle();
  }

  async #finish(digest: Buffer): Promise<ReplicaOutcome[]> {
    try {
      await this.#room;
      this.#local = this.#putHere(digest);
      return await Promise.all([this.#local, ...this.#forwards.map((forward) => forward.outcome)]);
    } finally {
      await this.#settle();
    }
  }

  async #putHere(digest: Buffer): Promise<ReplicaOutcome> {
    const { store, node, metrics } = this.#options;
    const { chunk, inode, block, stable } = { ...this.#begin, chunk: this.chunk };
    const facts = {
      chunk,
      inode: inode as InodeNumber,
      block,
      rawLength: this.#rawLength,
      digest,
      epoch: chunkIdEpoch(chunk),
    };
    const where = { node, disk: store.disk, incarnation: store.incarnation };
    try {
      const { sequence } = await store.put(facts, this.#frames);
      if (stable) await this.#untilStable(sequence);
      metrics.puts.inc({ result: 'ok' });
      metrics.putBytes.inc(this.#rawLength);
      return { ...where, sequence, stable: sequence <= store.stableSequence, failure: undefined };
    } catch (error) {
      metrics.puts.inc({ result: 'failed' });
      return { ...where, sequence: 0, stable: false, failure: toFailure(error, `Put chunk ${chunk} on ${node}`) };
    }
  }

  async #untilStable(sequence: number): Promise<void> {
    const { store, metrics, clock } = this.#options;
    const beganMs = clock.bootMs();
    await store.whenStable(sequence);
    metrics.syncSeconds.observe((clock.bootMs() - beganMs) / 1000);
  }

  #forward(node: string): { frames: ArrivingFrames; outcome: Promise<ReplicaOutcome> } {
    const frames = new ArrivingFrames();
    const { token, length, inode, block, stable } = this.#begin;
    const outcome = this.#options.forwarder
      .put(node, { token, chunk: this.chunk, length, inode, block, forwardTo: [], stable }, frames, this.#signal)
      .then((result) => {
        this.#options.metrics.forwards.inc({ result: result.failure === undefined ? 'ok' : 'failed' });
        return result;
      });
    return { frames, outcome };
  }

  async #takeRoom(): Promise<void> {
    const { budget } = this.#options;
    if (!budget.tryTake(this.#begin.length)) await budget.take(this.#begin.length, this.#signal);
    this.#hasRoom = true;
  }

  /** Gives the share back once neither the disk nor a forward uses the frames. */
  async #settle(): Promise<void> {
    await Promise.all([this.#local, ...this.#forwards.map((forward) => forward.outcome)]);
    if (!this.#hasRoom) return;
    this.#hasRoom = false;
    this.#options.budget.giveBack(this.#begin.length);
  }
}

function ignoreAbandoned(): void {
  // The stream that wanted the room is gone.
}

function refused(chunk: ChunkId, what: string): CollectiveError {
  return new CollectiveError('invalid_argument', `Put chunk ${chunk}: ${what}`);
}

function refusedFrame(chunk: ChunkId, what: string): CollectiveError {
  return new CollectiveError('frame_invalid', `Put chunk ${chunk}: ${what}`);
}
