/**
 * Puts one chunk on its replicas (D2): to the first node, which forwards. A replica that failed is replaced by a put to
 * another node. With fewer nodes than the realm wants it waits until the coordinator has given the missing ones up, and
 * then accepts what there is, down to what the realm needs (D8). Ids are never used twice: a put that was refused for its
 * id or token starts again with fresh ones.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError, type ErrorCode, toCollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdToBytes } from '@collective/base/ids';
import type { EncodedChunk } from '@collective/protocol/bulk/encode-chunk';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import type { ChunkCommit } from '@collective/protocol/gen/session';
import type { Session } from '../session/session.ts';
import type { AccessTokens } from './access-tokens.ts';
import type { BulkPool } from './bulk-pool.ts';
import type { ChunkStock, ChunkTicket } from './chunk-stock.ts';

/** From the first try; NODE_AWAY_AFTER_MS and a restart of a node lie well within. */
const STORE_WITHIN_MS = 60_000;
const RETRY_AFTER_MS = 300;
/** Refusals of the id of one chunk. */
const FRESH_STARTS_MAX = 4;

export interface ChunkPlace {
  readonly realm: number;
  /** Hints (D1); 0 when the file does not exist yet. */
  readonly inode: number;
  readonly block: number;
  readonly stable: boolean;
}

export class ChunkWriter {
  readonly #clock: Clock;
  readonly #session: Session;
  readonly #pool: BulkPool;
  readonly #tokens: AccessTokens;
  readonly #stockOf: (realm: number) => ChunkStock;
  /** Chunks of which a put failed or was given up: their bytes may still wait on some connection. */
  readonly #stillSending = new WeakSet<EncodedChunk>();
  /** Of chunks that lie on their replicas and are not committed yet. */
  readonly #uncommitted = new WeakMap<ChunkCommit, ChunkTicket>();

  constructor(options: {
    clock: Clock;
    session: Session;
    pool: BulkPool;
    tokens: AccessTokens;
    stockOf: (realm: number) => ChunkStock;
  }) {
    this.#clock = options.clock;
    this.#session = options.session;
    this.#pool = options.pool;
    this.#tokens = options.tokens;
    this.#stockOf = options.stockOf;
  }

  async store(chunk: EncodedChunk, place: ChunkPlace, signal: AbortSignal): Promise<ChunkCommit> {
    const deadlineMs = this.#clock.bootMs() + STORE_WITHIN_MS;
    for (let start = 1; ; start++) {
      const ticket = await this.#ticket(chunk.rawLength, place.realm, deadlineMs, signal);
      const put = new ReplicaSet(ticket);
      let refusal: CollectiveError | undefined;
      try {
        refusal = await this.#fill(put, chunk, place, deadlineMs, signal);
      } catch (error) {
        ticket.giveBack();
        throw error;
      }
      if (refusal === undefined) {
        const commit = {
          chunk: chunkIdToBytes(ticket.id),
          length: chunk.rawLength,
          storedLength: chunk.storedLength,
          digest: chunk.digest,
          replicas: put.outcomes(),
        };
        this.#uncommitted.set(commit, ticket);
        return commit;
      }
      ticket.giveBack();
      // A restarted coordinator and its nodes agree on rights only after some heartbeats; a refused id stays refused.
      const mayPass = refusal.code === 'token_invalid' && this.#clock.bootMs() <= deadlineMs;
      if (start >= FRESH_STARTS_MAX && !mayPass) throw refusal;
      if (start > 1) await sleep(this.#clock, RETRY_AFTER_MS, signal);
      // The rights that it came with are of an earlier session or epoch.
      this.#stockOf(place.realm).clear({ keepSpace: true });
      await this.#session.renew(signal);
    }
  }

  /** No connection has anything of it left to send, so its memory may be used again. */
  isSent(chunk: EncodedChunk): boolean {
    return !this.#stillSending.has(chunk);
  }

  /** The commit was answered: the room that it took is used. */
  committed(commit: ChunkCommit): void {
    this.#uncommitted.delete(commit);
  }

  /** The chunk will not be committed: its room is free for others. No effect on one that was. */
  giveUp(commit: ChunkCommit): void {
    this.#uncommitted.get(commit)?.giveBack();
    this.#uncommitted.delete(commit);
  }

  /** While nodes are only away, that there is no room for a chunk is not the last word. */
  async #ticket(bytes: number, realm: number, deadlineMs: number, signal: AbortSignal): Promise<ChunkTicket> {
    for (;;) {
      try {
        return await this.#stockOf(realm).take(bytes, signal);
      } catch (error) {
        const isFull = error instanceof CollectiveError && error.code === 'no_space';
        if (!isFull) throw error;
        // The coordinator may have known for a moment that nodes are away, and we not yet.
        await this.#session.renew(signal);
        if (!this.#pool.someAway()) throw error;
        if (this.#clock.bootMs() > deadlineMs)
          throw new CollectiveError(
            'unavailable',
            `Store ${bytes} bytes: no node was there within ${STORE_WITHIN_MS} ms`,
            { cause: error },
          );
      }
      await sleep(this.#clock, RETRY_AFTER_MS, signal);
    }
  }

  /** Resolves when there are enough replicas; with an error when this chunk id will never have them. */
  async #fill(
    put: ReplicaSet,
    chunk: EncodedChunk,
    place: ChunkPlace,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<CollectiveError | undefined> {
    for (;;) {
      for (let targets = this.#targets(put); targets.length > 0; targets = this.#targets(put)) {
        const refusal = await this.#putTo(targets, put, chunk, place, signal);
        if (refusal !== undefined) return refusal;
      }
      if (put.count >= put.ticket.wanted) return undefined;
      const others = this.#pool.ready().filter((node) => !put.has(node));
      if (others.length === 0 && put.count >= Math.max(1, put.ticket.needed)) return undefined;
      const full = put.failures.length > 0 && put.failures.every((error) => error.code === 'no_space');
      if (full && others.every((node) => put.failed(node)) && put.count < put.ticket.needed)
        throw new CollectiveError('no_space', `Store chunk ${put.ticket.id}`, { cause: put.failures[0] });
      if (this.#clock.bootMs() > deadlineMs) {
        const what = `Store chunk ${put.ticket.id}: ${put.count} of ${put.ticket.wanted} replicas within ${STORE_WITHIN_MS} ms`;
        throw new CollectiveError('unavailable', what, { cause: put.failures[0] });
      }
      await sleep(this.#clock, RETRY_AFTER_MS, signal);
      await this.#session.renew(signal);
      put.forgetFailures();
    }
  }

  /** Whom to put to next: as handed out, then whoever takes chunks, in another zone first (D8); those that just failed elsewhere only if nobody else is left. */
  #targets(put: ReplicaSet): string[] {
    const missing = put.ticket.wanted - put.count;
    if (missing <= 0) return [];
    const pool = this.#pool;
    // Placements are handed out ahead: a node may have been closed since.
    const open = (node: string): boolean =>
      !put.has(node) && !put.failed(node) && !pool.isAvoided(node) && !pool.isClosed(node);
    const handedOut = put.ticket.nodes.filter(open);
    // As handed out, they forward among themselves.
    if (handedOut.length > 0) return handedOut.slice(0, missing);
    const zones = new Set(put.nodes().map((node) => pool.zone(node)));
    const rank = (node: string): number => (zones.has(pool.zone(node)) ? 1_000_000 : 0) + pool.load(node);
    const [replacement] = pool
      .ready()
      .filter(open)
      .sort((a, b) => rank(a) - rank(b));
    return replacement === undefined ? [] : [replacement];
  }

  async #putTo(
    targets: readonly string[],
    put: ReplicaSet,
    chunk: EncodedChunk,
    place: ChunkPlace,
    signal: AbortSignal,
  ): Promise<CollectiveError | undefined> {
    const [first, ...forwardTo] = targets;
    if (first === undefined) return undefined;
    const { id } = put.ticket;
    try {
      const token = this.#tokens.forPut(id) ?? (await this.#freshToken(id, signal));
      if (token === undefined)
        return new CollectiveError('token_invalid', `Put chunk ${id}: no right to this id any more`);
      const exchange = await this.#pool.exchange(first, signal);
      const { inode, block, stable } = place;
      const request = { token, chunk: id, length: chunk.rawLength, inode, block, forwardTo, stable };
      const outcomes = await exchange.put(request, chunk, { signal });
      // A node that refuses answers before it has heard all.
      if (outcomes.some(({ failure }) => failure !== undefined)) this.#stillSending.add(chunk);
      this.#pool.succeeded(first);
      let refusal: CollectiveError | undefined;
      for (const outcome of outcomes) refusal ??= this.#note(outcome, put);
      for (const node of targets)
        if (!outcomes.some((outcome) => outcome.node === node)) put.fail(node, silent(node, id));
      return refusal;
    } catch (thrown) {
      this.#stillSending.add(chunk);
      signal.throwIfAborted();
      const error = toCollectiveError(thrown, `Put chunk ${id} to node ${first}`, 'unavailable');
      if (isOfTheId(error.code)) return error;
      this.#pool.failed(first);
      put.fail(first, error);
      return undefined;
    }
  }

  #note(outcome: ReplicaOutcome, put: ReplicaSet): CollectiveError | undefined {
    if (outcome.failure === undefined) {
      put.add(outcome);
      return undefined;
    }
    const error = fromFailure(outcome.failure);
    if (isOfTheId(error.code)) return error;
    if (error.code !== 'no_space') this.#pool.failed(outcome.node);
    put.fail(outcome.node, error);
    return undefined;
  }

  async #freshToken(id: ChunkId, signal: AbortSignal): Promise<Buffer | undefined> {
    await this.#session.renew(signal);
    return this.#tokens.forPut(id);
  }
}

/** What became of one chunk's replicas so far. */
class ReplicaSet {
  readonly ticket: ChunkTicket;
  readonly #good = new Map<string, ReplicaOutcome>();
  readonly #bad = new Map<string, CollectiveError>();

  constructor(ticket: ChunkTicket) {
    this.ticket = ticket;
  }

  get count(): number {
    return this.#good.size;
  }

  get failures(): CollectiveError[] {
    return [...this.#bad.values()];
  }

  has(node: string): boolean {
    return this.#good.has(node);
  }

  failed(node: string): boolean {
    return this.#bad.has(node);
  }

  add(outcome: ReplicaOutcome): void {
    this.#good.set(outcome.node, outcome);
    this.#bad.delete(outcome.node);
  }

  fail(node: string, error: CollectiveError): void {
    if (!this.#good.has(node)) this.#bad.set(node, error);
  }

  forgetFailures(): void {
    this.#bad.clear();
  }

  nodes(): string[] {
    return [...this.#good.keys()];
  }

  outcomes(): ReplicaOutcome[] {
    return [...this.#good.values()];
  }
}

/** The node is well; it is the id or the right to it that is not. */
function isOfTheId(code: ErrorCode): boolean {
  return code === 'token_invalid' || code === 'chunk_conflict' || code === 'chunk_condemned';
}

function silent(node: string, id: ChunkId): CollectiveError {
  return new CollectiveError('unavailable', `Put chunk ${id}: no outcome came from node ${node}`);
}
