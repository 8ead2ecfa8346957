/**
 * Chunk ids, placements and space handed out ahead (D2, M10), so that storing a chunk costs no round trip to the
 * coordinator. One stock per realm; refilled in the background below half, in steps that follow the demand.
 */
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdOf, type Epoch } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import type { NodeRoute } from '@collective/protocol/gen/common';
import type { Replenished } from '@collective/protocol/gen/session';
import { expectResult } from '../session/operation-kinds.ts';
import type { Session } from '../session/session.ts';
import type { AccessTokens } from './access-tokens.ts';

const STEP_FIRST = 16;
const STEP_MAX = 512;
const BYTES_PER_CHUNK_MIN = 64 * 1024;

/** The right to store one chunk, and where to. */
export interface ChunkTicket {
  readonly id: ChunkId;
  /** First the one to send to, then those that it forwards to. */
  readonly nodes: readonly string[];
  /** Replicas that the realm wants. */
  readonly wanted: number;
  /** Replicas below which a write waits (D8). */
  readonly needed: number;
  /** The chunk will never be committed: its room may serve another (M10). Safe to call twice. */
  giveBack(): void;
}

interface Batch {
  readonly epoch: Epoch;
  next: number;
  readonly end: number;
  readonly placements: readonly (readonly string[])[];
  turn: number;
  readonly wanted: number;
  readonly needed: number;
}

export class ChunkStock {
  readonly #session: Session;
  readonly #tokens: AccessTokens;
  readonly #realm: number;
  readonly #onRoutes: (nodes: readonly NodeRoute[]) => void;
  #batches: Batch[] = [];
  #bytes = 0;
  #step = STEP_FIRST;
  #usualBytes = 0;
  #refill: Promise<void> | undefined;
  #generation = 0;
  /** Grows when the granted space is lost with its session. */
  #spaceGeneration = 0;
  /** Grows with each refill that brought something. */
  #given = 0;

  constructor(options: {
    session: Session;
    tokens: AccessTokens;
    realm: number;
    onRoutes: (nodes: readonly NodeRoute[]) => void;
  }) {
    this.#session = options.session;
    this.#tokens = options.tokens;
    this.#realm = options.realm;
    this.#onRoutes = options.onRoutes;
  }

  /** Throws `no_space` or `quota_exceeded` when the coordinator has nothing to give. */
  async take(bytes: number, signal: AbortSignal): Promise<ChunkTicket> {
    this.#usualBytes = Math.max(bytes, Math.floor((this.#usualBytes * 7 + bytes) / 8));
    for (;;) {
      signal.throwIfAborted();
      const ticket = this.#takeNow(bytes);
      if (ticket !== undefined) {
        if (this.#chunksLeft() < this.#step / 2) this.#refillSoon(bytes).catch(() => undefined);
        return ticket;
      }
      if (this.#refill === undefined) this.#step = Math.min(this.#step * 2, STEP_MAX);
      const before = this.#given;
      await this.#refillSoon(bytes);
      if (this.#given === before)
        throw new CollectiveError('no_space', `Ask for room for ${bytes} bytes: the coordinator has none to give`);
    }
  }

  /** Ids of an earlier epoch are worth nothing; the space stays granted if the session does (M10). */
  clear(options: { readonly keepSpace: boolean }): void {
    this.#batches = [];
    if (!options.keepSpace) {
      this.#bytes = 0;
      this.#spaceGeneration++;
    }
    this.#generation++;
  }

  /** Others find no room (M10): answers how much was granted and not taken, which is not this session's any more. */
  giveSpaceBack(): number {
    const bytes = this.#bytes;
    this.#bytes = 0;
    // Who needs some again asks for little.
    this.#step = STEP_FIRST;
    return bytes;
  }

  get realm(): number {
    return this.#realm;
  }

  /** Granted and not yet taken. */
  get spaceBytes(): number {
    return this.#bytes;
  }

  #takeNow(bytes: number): ChunkTicket | undefined {
    const batch = this.#batches[0];
    if (batch === undefined || this.#bytes < bytes) return undefined;
    const id = chunkIdOf(batch.epoch, batch.next++);
    const nodes = batch.placements[batch.turn++ % batch.placements.length] ?? [];
    if (batch.next >= batch.end) this.#batches.shift();
    this.#bytes -= bytes;
    return { id, nodes, wanted: batch.wanted, needed: batch.needed, giveBack: this.#giverBack(bytes) };
  }

  #giverBack(bytes: number): () => void {
    const spaceGeneration = this.#spaceGeneration;
    let given = false;
    return () => {
      if (!given && spaceGeneration === this.#spaceGeneration) this.#bytes += bytes;
      given = true;
    };
  }

  #chunksLeft(): number {
    return this.#batches.reduce((sum, { next, end }) => sum + end - next, 0);
  }

  #refillSoon(bytes: number): Promise<void> {
    this.#refill ??= this.#ask(bytes).finally(() => {
      this.#refill = undefined;
    });
    return this.#refill;
  }

  async #ask(atLeastBytes: number): Promise<void> {
    const generation = this.#generation;
    const spaceGeneration = this.#spaceGeneration;
    const perChunk = Math.min(Math.max(this.#usualBytes, BYTES_PER_CHUNK_MIN), BLOCK_BYTES);
    const wantedBytes = Math.max(this.#step * perChunk, atLeastBytes);
    const reply = await this.#session.call(
      {
        $case: 'replenish',
        value: { realm: this.#realm, bytes: Math.max(0, wantedBytes - this.#bytes), chunks: this.#step },
      },
      { durability: 'written' },
    );
    const given = expectResult(reply, 'replenished');
    if (spaceGeneration === this.#spaceGeneration) this.#bytes += given.bytes;
    if (generation === this.#generation) this.#fill(given);
    else this.#given++;
  }

  #fill(given: Replenished): void {
    if (given.access !== undefined) this.#tokens.add(given.access);
    this.#onRoutes(given.nodes);
    if (given.bytes > 0 || given.chunks > 0) this.#given++;
    if (given.chunks === 0 || given.epoch === undefined) return;
    this.#batches.push({
      epoch: given.epoch,
      next: given.firstChunk,
      end: given.firstChunk + given.chunks,
      placements: given.placements.map(({ nodes }) => nodes),
      turn: 0,
      wanted: given.wanted,
      needed: given.needed,
    });
  }
}
