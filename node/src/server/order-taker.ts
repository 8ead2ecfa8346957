/**
 * Does what the coordinator orders for the care of chunks (D8): lists, fetches, forgets, verifies, folds. Every order may come
 * twice and is answered once; orders of one link end with it, and what they had done stays done.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, chunkIdToBytes } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import type { Log } from '@collective/base/log';
import { toFailure } from '@collective/protocol/errors/grpc-status';
import type {
  Answer,
  ChunkOutcome,
  ChunkSource,
  Compact,
  FetchChunks,
  FoldBlock,
  ListChunks,
  Order,
} from '@collective/protocol/gen/node';
import type { ChunkStore, StoredChunk } from '../chunk-store/chunk-store.ts';
import type { BlockFolder } from './block-folder.ts';
import type { ChunkFetcher, FetchSource } from './chunk-fetcher.ts';
import { OrderedCompaction } from './ordered-compaction.ts';

/** Ids in one answer: 16 bytes each. */
const LIST_MAX = 10_000;
/** Orders under way; a coordinator keeps to fewer. */
const ORDERS_MAX = 256;

type AnswerBody = NonNullable<Answer['answer']>;

export interface OrderTakerOptions {
  readonly clock: Clock;
  readonly store: ChunkStore;
  readonly fetcher: ChunkFetcher;
  readonly folder: BlockFolder;
  /** The node's own name. */
  readonly node: string;
  readonly log: Log;
  /** Begins to read and verify everything that is here. */
  scrubNow(): void;
}

export class OrderTaker {
  readonly #options: OrderTakerOptions;
  readonly #compaction: OrderedCompaction;

  constructor(options: OrderTakerOptions) {
    this.#options = options;
    this.#compaction = new OrderedCompaction(options.store, options.clock);
  }

  /** Orders of one link. */
  desk(send: (answer: Answer) => void): OrderDesk {
    return new OrderDesk((order, signal) => this.#do(order, signal), send, this.#options.log);
  }

  async #do(order: NonNullable<Order['order']>, signal: AbortSignal): Promise<AnswerBody | undefined> {
    const { store, scrubNow } = this.#options;
    switch (order.$case) {
      case 'list':
        return { $case: 'list', value: this.#list(order.value) };
      case 'fetch':
        return { $case: 'outcomes', value: { outcomes: await this.#fetch(order.value, signal) } };
      case 'verify':
        return { $case: 'outcomes', value: { outcomes: await this.#verify(order.value.chunks, signal) } };
      case 'forget':
        await store.forget(order.value.chunks.map((chunk) => chunkIdFromBytes(chunk)));
        return { $case: 'done', value: {} };
      case 'fold':
        return { $case: 'folded', value: await this.#fold(order.value, signal) };
      case 'scrub':
        scrubNow();
        return { $case: 'done', value: {} };
      case 'compact':
        return await this.#compact(order.value, signal);
      case 'cancel':
        return undefined;
    }
  }

  async #compact({ run, withinMs }: Compact, signal: AbortSignal): Promise<AnswerBody> {
    if (run !== '') return { $case: 'compacted', value: await this.#compaction.work(run, withinMs, signal) };
    await this.#options.store.compact(signal);
    return { $case: 'done', value: {} };
  }

  #list({ after, limit }: ListChunks): { chunks: Buffer; end: boolean; sequence: number; incarnation: number } {
    const { store } = this.#options;
    const most = Math.min(Math.max(1, limit), LIST_MAX);
    const ids = store.list(after.length === 0 ? undefined : chunkIdFromBytes(after), most);
    return {
      chunks: Buffer.concat(ids.map((id) => chunkIdToBytes(id))),
      end: ids.length < most,
      sequence: store.writtenSequence,
      incarnation: store.incarnation,
    };
  }

  /** Each on its own: one that fails does not keep the others from being kept. Stable before it is answered. */
  async #fetch({ token, chunks }: FetchChunks, signal: AbortSignal): Promise<ChunkOutcome[]> {
    const { fetcher, store } = this.#options;
    const fetched = await Promise.allSettled(
      chunks.map(async ({ chunk, length, digest, inode, block, sources, replace }) => {
        if (length < 1 || length > BLOCK_BYTES)
          throw new CollectiveError('invalid_argument', `Fetch a chunk of ${length} bytes`);
        const request = { chunk: chunkIdFromBytes(chunk), length, digest, inode, block, replace, token };
        return await fetcher.fetch({ ...request, sources: sourcesOf(sources) }, signal);
      }),
    );
    const highest = Math.max(0, ...fetched.map((each) => (each.status === 'fulfilled' ? each.value.sequence : 0)));
    if (highest > store.stableSequence) await store.whenStable(highest, signal);
    return fetched.map((each, i) => {
      const { chunk = Buffer.alloc(16), digest = Buffer.alloc(0) } = chunks[i] ?? {};
      if (each.status === 'rejected') return this.#failed(chunk, each.reason, 'Fetch');
      return this.#outcome(chunk, each.value.sequence, digest, each.value.storedLength);
    });
  }

  async #verify(chunks: readonly Uint8Array[], signal: AbortSignal): Promise<ChunkOutcome[]> {
    const { store } = this.#options;
    const outcomes: ChunkOutcome[] = [];
    for (const bytes of chunks) {
      signal.throwIfAborted();
      const chunk = Buffer.from(bytes);
      try {
        const { sequence, digest, storedLength }: StoredChunk = await store.verify(chunkIdFromBytes(chunk));
        outcomes.push(this.#outcome(chunk, sequence, digest, storedLength));
      } catch (error) {
        outcomes.push(this.#failed(chunk, error, 'Verify'));
      }
    }
    return outcomes;
  }

  async #fold(order: FoldBlock, signal: AbortSignal): Promise<{ outcome: ChunkOutcome; length: number }> {
    const { folder, store } = this.#options;
    const { chunk, inode, block, compress, pieces, token } = order;
    const { sequence, storedLength, digest, length } = await folder.fold(
      {
        chunk: chunkIdFromBytes(chunk),
        inode,
        block,
        compress,
        token,
        pieces: pieces.map((piece) => ({
          length: piece.length,
          chunk: piece.chunk.length === 0 ? undefined : chunkIdFromBytes(piece.chunk),
          chunkOffset: piece.chunkOffset,
          sources: sourcesOf(piece.sources),
        })),
      },
      signal,
    );
    if (sequence > store.stableSequence) await store.whenStable(sequence, signal);
    return { outcome: this.#outcome(chunk, sequence, digest, storedLength), length };
  }

  #outcome(chunk: Buffer, sequence: number, digest: Buffer, storedLength: number): ChunkOutcome {
    const { store, node } = this.#options;
    const replica = { node, disk: store.disk, incarnation: store.incarnation, sequence, stable: true };
    return { chunk, replica: { ...replica, failure: undefined }, digest, storedLength };
  }

  #failed(chunk: Buffer, error: unknown, what: string): ChunkOutcome {
    const { store, node } = this.#options;
    const failure = toFailure(error, `${what} chunk ${nameOf(chunk)} on ${node}`);
    const replica = { node, disk: store.disk, incarnation: store.incarnation, sequence: 0, stable: false, failure };
    return { chunk, replica, digest: Buffer.alloc(0), storedLength: 0 };
  }
}

/** The orders of one link: begun as they come, given up when they are cancelled or the link ends. */
export class OrderDesk {
  readonly #act: (order: NonNullable<Order['order']>, signal: AbortSignal) => Promise<AnswerBody | undefined>;
  readonly #send: (answer: Answer) => void;
  readonly #log: Log;
  readonly #open = new Map<number, AbortController>();

  constructor(
    act: (order: NonNullable<Order['order']>, signal: AbortSignal) => Promise<AnswerBody | undefined>,
    send: (answer: Answer) => void,
    log: Log,
  ) {
    this.#act = act;
    this.#send = send;
    this.#log = log;
  }

  take({ number, order }: Order): void {
    // A newer coordinator orders something that this version does not know.
    if (order === undefined) this.#send({ number, answer: undefined });
    else if (order.$case === 'cancel') this.#cancel(order.value.number);
    else if (this.#open.size >= ORDERS_MAX)
      this.#fail(number, new CollectiveError('overloaded', `Take an order: ${ORDERS_MAX} are under way`));
    else void this.#run(number, order);
  }

  linkEnded(): void {
    for (const number of [...this.#open.keys()]) this.#cancel(number);
  }

  async #run(number: number, order: NonNullable<Order['order']>): Promise<void> {
    const giveUp = new AbortController();
    this.#open.set(number, giveUp);
    try {
      const answer = await this.#act(order, giveUp.signal);
      if (!giveUp.signal.aborted) this.#send({ number, answer });
    } catch (thrown) {
      if (giveUp.signal.aborted) return;
      const error = toCollectiveError(thrown, `Do the order '${order.$case}'`);
      this.#log.warn({ order: order.$case, err: error }, 'order failed');
      this.#fail(number, error);
    } finally {
      this.#open.delete(number);
    }
  }

  #cancel(number: number): void {
    this.#open.get(number)?.abort(new CollectiveError('interrupted', 'Do an order: it was called off'));
  }

  #fail(number: number, error: CollectiveError): void {
    this.#send({ number, answer: { $case: 'failure', value: toFailure(error, 'Do an order') } });
  }
}

function sourcesOf(sources: readonly ChunkSource[]): FetchSource[] {
  return sources.flatMap(({ node, ticket, ticketExpires }) =>
    ticketExpires === undefined ? [] : [{ node, ticket, ticketExpires }],
  );
}

function nameOf(chunk: Buffer): ChunkId | string {
  return chunk.length === 16 ? chunkIdFromBytes(chunk) : `of ${chunk.length} bytes`;
}
