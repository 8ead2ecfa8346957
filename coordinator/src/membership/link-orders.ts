/** Orders to nodes over their links: shapes of the port to messages of the wire, with the rights that a fetch needs (D7). */
import { assert } from '@collective/base/assert';
import { CollectiveError } from '@collective/base/errors';
import {
  type ChunkId,
  chunkIdFromBytes,
  chunkIdToBytes,
  type Epoch,
  type NodeName,
  type SessionId,
} from '@collective/base/ids';
import type { ChunkOutcome, ChunkSource } from '@collective/protocol/gen/node';
import {
  type ChunkPage,
  type ChunkResult,
  type CompactionState,
  FETCH_CHUNKS_MAX,
  FORGET_CHUNKS_MAX,
  type Fold,
  LIST_CHUNKS_MAX,
  type NodeOrders,
  VERIFY_CHUNKS_MAX,
  type WantedChunk,
} from '../jobs/node-orders.ts';
import type { DataAccess } from '../session/data-access.ts';
import type { NodeLinks } from './node-link.ts';
import type { AnswerBody, OrderBody } from './order-desk.ts';

const LOOK_WITHIN_MS = 30_000;
/** FETCH_CHUNKS_MAX chunks of 4 MiB over a slow line, and their sync. */
const MOVE_WITHIN_MS = 180_000;
/** A compaction takes its time: how often it is told how far it is. */
const COMPACTION_TOLD_WITHIN_MS = 2_000;
/** Orders are given in nobody's session. */
const NO_SESSION = 0 as SessionId;

export interface LinkOrderParts {
  readonly links: Pick<NodeLinks, 'order'>;
  readonly data: Pick<DataAccess, 'issueAccess' | 'ticket'>;
  readonly epoch: Epoch;
  readonly trustDomain: string;
}

export class LinkOrders implements NodeOrders {
  readonly #parts: LinkOrderParts;

  constructor(parts: LinkOrderParts) {
    this.#parts = parts;
  }

  async listChunks(node: NodeName, after: ChunkId | undefined, limit: number, signal: AbortSignal): Promise<ChunkPage> {
    assert(limit <= LIST_CHUNKS_MAX, 'a page fits into a message');
    const value = { after: after === undefined ? Buffer.alloc(0) : chunkIdToBytes(after), limit };
    const answer = await this.#give(node, 'List chunks', { $case: 'list', value }, 'list', LOOK_WITHIN_MS, signal);
    const { chunks, end, sequence, incarnation } = answer.value;
    const ids: ChunkId[] = [];
    for (let at = 0; at + 16 <= chunks.length; at += 16) ids.push(chunkIdFromBytes(chunks.subarray(at, at + 16)));
    return { chunks: ids, end, sequence, incarnation };
  }

  async fetchChunks(node: NodeName, wanted: readonly WantedChunk[], signal: AbortSignal): Promise<ChunkResult[]> {
    assert(wanted.length <= FETCH_CHUNKS_MAX, 'a fetch can end within its time');
    const value = {
      token: this.#readToken(),
      chunks: wanted.map(({ chunk, length, digest, inode, block, sources, replace }) => ({
        chunk: chunkIdToBytes(chunk),
        length,
        digest: Buffer.from(digest),
        inode,
        block,
        sources: this.#sources(chunk, sources),
        replace,
      })),
    };
    const answer = await this.#give(
      node,
      'Fetch chunks',
      { $case: 'fetch', value },
      'outcomes',
      MOVE_WITHIN_MS,
      signal,
    );
    return answer.value.outcomes.map((outcome) => resultOf(node, outcome));
  }

  async forgetChunks(node: NodeName, chunks: readonly ChunkId[], signal: AbortSignal): Promise<void> {
    assert(chunks.length <= FORGET_CHUNKS_MAX, 'an order fits into a message');
    const value = { chunks: chunks.map(chunkIdToBytes) };
    await this.#give(node, 'Forget chunks', { $case: 'forget', value }, 'done', LOOK_WITHIN_MS, signal);
  }

  async verifyChunks(node: NodeName, chunks: readonly ChunkId[], signal: AbortSignal): Promise<ChunkResult[]> {
    assert(chunks.length <= VERIFY_CHUNKS_MAX, 'a check can end within its time');
    const value = { chunks: chunks.map(chunkIdToBytes) };
    const answer = await this.#give(
      node,
      'Verify chunks',
      { $case: 'verify', value },
      'outcomes',
      MOVE_WITHIN_MS,
      signal,
    );
    return answer.value.outcomes.map((outcome) => resultOf(node, outcome));
  }

  async foldBlock(node: NodeName, fold: Fold, signal: AbortSignal): Promise<ChunkResult> {
    const { chunk, inode, block, compress, pieces } = fold;
    const value = {
      token: this.#readToken(),
      chunk: chunkIdToBytes(chunk),
      inode,
      block,
      compress,
      pieces: pieces.map((piece) => ({
        length: piece.length,
        chunk: piece.chunk === undefined ? Buffer.alloc(0) : chunkIdToBytes(piece.chunk),
        chunkOffset: piece.chunkOffset,
        sources: piece.chunk === undefined ? [] : this.#sources(piece.chunk, piece.sources),
      })),
    };
    const answer = await this.#give(node, 'Fold a block', { $case: 'fold', value }, 'folded', MOVE_WITHIN_MS, signal);
    const { outcome } = answer.value;
    if (outcome === undefined)
      throw new CollectiveError('internal', `Fold a block on node ${node}: it answered no outcome`);
    return resultOf(node, outcome);
  }

  async scrub(node: NodeName, signal: AbortSignal): Promise<void> {
    await this.#give(node, 'Begin a scrub', { $case: 'scrub', value: {} }, 'done', LOOK_WITHIN_MS, signal);
  }

  async compact(node: NodeName, run: string, signal: AbortSignal): Promise<CompactionState> {
    const what = 'Compact segments';
    const order: OrderBody = { $case: 'compact', value: { run, withinMs: COMPACTION_TOLD_WITHIN_MS } };
    const answer = await this.#parts.links.order(node, what, order, { withinMs: LOOK_WITHIN_MS, signal });
    // A node of an earlier version knows no runs: it answers when all is done, if that is in time.
    if (answer.$case === 'done')
      return { done: true, deadBytes: 0, copiedBytes: 0, removedSegments: 0, stuckSegments: 0 };
    return expected(node, what, answer, 'compacted').value;
  }

  async #give<Case extends AnswerBody['$case']>(
    node: NodeName,
    what: string,
    order: OrderBody,
    wanted: Case,
    withinMs: number,
    signal: AbortSignal,
  ): Promise<Extract<AnswerBody, { $case: Case }>> {
    return expected(node, what, await this.#parts.links.order(node, what, order, { withinMs, signal }), wanted);
  }

  /** Short-lived, as a session's: whoever holds it still needs a ticket for each chunk. */
  #readToken(): Buffer {
    const { data, epoch, trustDomain } = this.#parts;
    const { token } = data.issueAccess({
      subject: `spiffe://${trustDomain}/coordinator`,
      session: NO_SESSION,
      write: false,
      epoch,
      firstChunk: 0,
      lastChunk: 0,
    });
    return Buffer.from(token);
  }

  #sources(chunk: ChunkId, nodes: readonly NodeName[]): ChunkSource[] {
    return nodes.flatMap((node) => {
      const ticket = this.#parts.data.ticket(node, chunk, NO_SESSION);
      return ticket === undefined ? [] : [{ node, ticket: Buffer.from(ticket.ticket), ticketExpires: ticket.expires }];
    });
  }
}

function expected<Case extends AnswerBody['$case']>(
  node: NodeName,
  what: string,
  answer: AnswerBody,
  wanted: Case,
): Extract<AnswerBody, { $case: Case }> {
  if (answer.$case !== wanted)
    throw new CollectiveError('unavailable', `${what} on node ${node}: it answered '${answer.$case}'`);
  return answer as Extract<AnswerBody, { $case: Case }>;
}

function resultOf(node: NodeName, { chunk, replica, digest, storedLength }: ChunkOutcome): ChunkResult {
  const id = chunkIdFromBytes(chunk);
  if (replica === undefined || replica.failure !== undefined) {
    const { code = 'internal', message = 'it told no outcome' } = replica?.failure ?? {};
    return { chunk: id, failure: { code, message } };
  }
  const { disk, incarnation, sequence } = replica;
  return { chunk: id, replica: { node, disk, incarnation, sequence }, digest, storedLength };
}
