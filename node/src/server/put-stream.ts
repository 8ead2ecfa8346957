/**
 * One put as it arrives (D2, D3): frames are checked for order and laid one after the other into the chunk's memory, as they will
 * lie on the disk; the forwards send from the same memory as it fills. The answer has one outcome a replica, this node's first.
 *
 * Copies per byte: one, into memory that is used again. Without it each socket read of 16 KiB would live until the chunk is on
 * the disk, and the garbage collector would cost more than the copy (measured: half of the main thread's time).
 */
import { assert } from '@collective/base/assert';
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdEpoch, chunkIdFromBytes, type InodeNumber } from '@collective/base/ids';
import { BLOCK_BYTES, FRAME_BYTES, REPLICAS_MAX } from '@collective/base/limits';
import { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import { ChunkDigest, DIGEST_BYTES } from '@collective/protocol/bulk/encode-chunk';
import { copyFrame, FRAME_HEADER_BYTES, type Frame } from '@collective/protocol/bulk/frame';
import { toFailure } from '@collective/protocol/errors/grpc-status';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import type { PutBegin } from '@collective/protocol/gen/node';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';
import { ArrivingFrames } from './arriving-frames.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { Forwarder } from './forwarder.ts';
import type { NodeMetrics } from './node-metrics.ts';

/** What has arrived is sent on in parts of about this size. */
const FORWARD_BYTES = 256 * 1024;

export interface PutStreamOptions {
  readonly store: ChunkStore;
  readonly node: string;
  readonly forwarder: Forwarder;
  readonly budget: ByteBudget;
  readonly buffers: ChunkBuffers;
  readonly metrics: NodeMetrics;
  readonly clock: Clock;
  /** Ends with the connection. */
  readonly signal: AbortSignal;
}

interface Forward {
  readonly frames: ArrivingFrames;
  readonly outcome: Promise<ReplicaOutcome>;
}

export class PutStream {
  readonly chunk: ChunkId;
  readonly #begin: PutBegin;
  readonly #options: PutStreamOptions;
  readonly #digest = new ChunkDigest();
  readonly #forwards: readonly Forward[];
  readonly #room: Promise<void>;
  readonly #giveUp = new AbortController();
  readonly #signal: AbortSignal;
  /** Bytes of memory that the chunk may need, and what the budget is asked for. */
  readonly #storedMax: number;
  readonly #share: number;
  /** Frames that came before there was memory: at most one socket read. */
  #early: Frame[] = [];
  #memory: Buffer | undefined;
  #stored = 0;
  #forwarded = 0;
  #rawLength = 0;
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
    this.#storedMax = begin.length + Math.ceil(begin.length / FRAME_BYTES) * FRAME_HEADER_BYTES;
    this.#share = ChunkBuffers.bytesFor(this.#storedMax);
    this.#room = this.#takeRoom();
    // Whoever ends the stream early does not wait for room.
    this.#room.catch(ignoreAbandoned);
    this.#forwards = begin.forwardTo.map((node) => this.#forward(node));
  }

  /** Undefined when there is room already; else the connection should not be read until it resolves. */
  get waitForRoom(): Promise<void> | undefined {
    return this.#memory === undefined ? this.#room : undefined;
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
    if (this.#memory === undefined) this.#early.push(frame);
    else this.#lay(frame, this.#memory);
  }

  /** The client has sent all. Throws when that is not the announced chunk; else resolves with the outcomes. */
  end(digest: Buffer): Promise<ReplicaOutcome[]> {
    if (this.#rawLength !== this.#begin.length)
      throw refusedFrame(this.chunk, `${this.#rawLength} of ${this.#begin.length} bytes came`);
    if (digest.length !== DIGEST_BYTES || !digest.equals(this.#digest.finish(this.#rawLength)))
      throw refusedFrame(this.chunk, 'its frames do not give its digest');
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
      this.#signal.throwIfAborted();
      assert(this.#memory !== undefined, 'with room there is memory');
      this.#sendOn(this.#memory);
      for (const forward of this.#forwards) forward.frames.end(digest);
      this.#local = this.#putHere(digest, this.#memory.subarray(0, this.#stored));
      return await Promise.all([this.#local, ...this.#forwards.map((forward) => forward.outcome)]);
    } finally {
      await this.#settle();
    }
  }

  async #putHere(digest: Buffer, frames: Buffer): Promise<ReplicaOutcome> {
    const { store, node, metrics } = this.#options;
    const { inode, block, stable } = this.#begin;
    const { chunk } = this;
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
      const { sequence } = await store.put(facts, [frames]);
      if (stable) await this.#untilStable(sequence);
      metrics.puts.inc({ result: 'ok' });
      metrics.putBytes.inc(frames.length);
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

  #lay(frame: Frame, memory: Buffer): void {
    this.#stored = copyFrame(frame, memory, this.#stored);
    if (this.#stored - this.#forwarded >= FORWARD_BYTES) this.#sendOn(memory);
  }

  #sendOn(memory: Buffer): void {
    const part = memory.subarray(this.#forwarded, this.#stored);
    this.#forwarded = this.#stored;
    if (part.length > 0) for (const forward of this.#forwards) forward.frames.push(part);
  }

  #forward(node: string): Forward {
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

  /** Takes memory at once if there is room. */
  #takeRoom(): Promise<void> {
    const { budget } = this.#options;
    if (budget.tryTake(this.#share)) {
      this.#takeMemory();
      return Promise.resolve();
    }
    return budget.take(this.#share, this.#signal).then(() => this.#takeMemory());
  }

  #takeMemory(): void {
    const memory = this.#options.buffers.take(this.#storedMax);
    this.#memory = memory;
    for (const frame of this.#early) this.#lay(frame, memory);
    this.#early = [];
  }

  /** Gives the memory back once neither the disk nor a forward uses it. */
  async #settle(): Promise<void> {
    const outcomes = await Promise.all([this.#local, ...this.#forwards.map((forward) => forward.outcome)]);
    const memory = this.#memory;
    if (memory === undefined) return;
    this.#memory = undefined;
    const { budget, buffers } = this.#options;
    // A replica that failed may leave bytes in the queue of its connection: then the memory is left to the garbage collector.
    if (outcomes.every((outcome) => outcome !== undefined && outcome.failure === undefined)) buffers.giveBack(memory);
    budget.giveBack(this.#share);
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
