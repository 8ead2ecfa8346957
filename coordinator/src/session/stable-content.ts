/**
 * Makes content stable before an operation may rest on it (D3). The nodes that have it are asked to sync; as soon as enough of
 * them have answered, the operation goes on. A node that is away is waited for until it reports again, but not for ever:
 * then the operation is refused, and nothing has changed. Waiting happens around the operation, as for recalls (M3).
 *
 * A node of an earlier version knows no such question; it syncs by itself within a second and says so with its next report.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId, SessionId } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import type { FileAtVersion, StableFirst, StableKnowledge, UnstableChunk } from '../ops/context.ts';
import type { StoreState } from '../ops/replica-stability.ts';
import { type StableStep, stableStep } from '../ops/stable-content.ts';
import { StabilityProof, type StableAnswer } from './stability-proof.ts';

const NOBODY = { session: 0 as SessionId };
/** Some heartbeats: a node that was only started again is back by then. */
export const STABLE_WITHIN_MS = 10_000;

/** The nodes, as far as they are asked here. */
export interface StableNodes {
  /** The chunk store of a node as it last reported; undefined: not heard of in this start. */
  store(node: string): StoreState | undefined;
  /** The node syncs what it has written, then says which of these chunks it has. Rejects when it cannot be asked now. */
  makeStable(node: string, chunks: readonly ChunkId[]): Promise<StableAnswer>;
}

export class StableContent {
  readonly #clock: Clock;
  readonly #engine: Engine;
  readonly #nodes: StableNodes;
  /** Resolved by the next report of any node. */
  #news = Promise.withResolvers<void>();
  /** For operations that have not waited yet. */
  readonly reported: StableKnowledge;
  readonly counters = { waits: 0, refused: 0 };

  constructor({ clock, engine, nodes }: { clock: Clock; engine: Engine; nodes: StableNodes }) {
    this.#clock = clock;
    this.#engine = engine;
    this.#nodes = nodes;
    this.reported = this.beginProof();
  }

  beginProof(): StabilityProof {
    return new StabilityProof((node) => this.#nodes.store(node));
  }

  /** A node registered or sent a heartbeat: whoever waits looks again. */
  nodeReported(): void {
    const told = this.#news;
    this.#news = Promise.withResolvers();
    told.resolve();
  }

  /** Resolves when the content is stable, as `proof` then knows. Throws `unavailable`, `chunk_missing` or the signal's reason. */
  async makeStable({ content }: StableFirst, proof: StabilityProof, signal: AbortSignal): Promise<void> {
    this.counters.waits += 1;
    try {
      if ('inode' in content) await this.#file(content, proof, signal);
      else await this.#chunks(content, proof, signal);
    } catch (error) {
      this.counters.refused += 1;
      throw error;
    }
    proof.passed('inode' in content ? content.inode : 'chunks');
  }

  async #file(file: FileAtVersion, proof: StabilityProof, signal: AbortSignal): Promise<void> {
    let step: StableStep = { unstable: [], next: undefined };
    let page: string | undefined;
    do {
      signal.throwIfAborted();
      step = await this.#step(file, page, proof, step.unstable);
      if (step.unstable.length > 0) await this.#chunks(step.unstable, proof, signal);
      else page = step.next;
    } while (step.unstable.length > 0 || page !== undefined);
  }

  /** Nothing leaves on these grounds: the operation itself reads what the step has noted, and rests on it (M4). */
  async #step(
    file: FileAtVersion,
    page: string | undefined,
    proof: StabilityProof,
    waited: readonly UnstableChunk[],
  ): Promise<StableStep> {
    const { value } = await this.#engine.execute((tx) => stableStep(tx, file, page, proof, waited), NOBODY);
    return value;
  }

  async #chunks(chunks: readonly UnstableChunk[], proof: StabilityProof, signal: AbortSignal): Promise<void> {
    const end = Promise.withResolvers<never>();
    end.promise.catch(() => undefined);
    const timer = this.#clock.setTimer(STABLE_WITHIN_MS, () => end.reject(tooLate(chunks, proof)));
    const onAbort = (): void => end.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const asking = new Map<string, Promise<void>>();
    try {
      for (let heard: Promise<void> | undefined; ; ) {
        const news = this.#news.promise;
        const missing = chunks.filter((chunk) => !proof.isFirm(chunk));
        if (missing.length === 0) return;
        requireHope(missing, proof);
        // Each node once, and again when there is news: one that cannot be asked now says so at once.
        if (news !== heard) for (const [node, ids] of whomToAsk(missing, proof)) this.#ask(node, ids, proof, asking);
        heard = news;
        await Promise.race([end.promise, news, ...asking.values()]);
      }
    } finally {
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  #ask(node: string, chunks: readonly ChunkId[], proof: StabilityProof, asking: Map<string, Promise<void>>): void {
    if (asking.has(node)) return;
    const answer = this.#nodes.makeStable(node, chunks).then(
      (answered) => proof.answered(node, answered, chunks),
      // It is away: its next report is waited for, or that of another.
      () => undefined,
    );
    asking.set(
      node,
      answer.finally(() => asking.delete(node)),
    );
  }
}

function whomToAsk(missing: readonly UnstableChunk[], proof: StabilityProof): Map<string, ChunkId[]> {
  const byNode = new Map<string, ChunkId[]>();
  for (const { chunk, replicas } of missing)
    for (const replica of replicas) {
      if (replica.stable || proof.covers(chunk, replica) || proof.isLost(chunk, replica)) continue;
      const ids = byNode.get(replica.node);
      if (ids === undefined) byNode.set(replica.node, [chunk]);
      else ids.push(chunk);
    }
  return byNode;
}

/** What too few nodes have left is not waited for. */
function requireHope(missing: readonly UnstableChunk[], proof: StabilityProof): void {
  for (const { chunk, needed, replicas } of missing) {
    const left = replicas.filter((replica) => !proof.isLost(chunk, replica));
    if (left.length >= needed) continue;
    throw new CollectiveError(
      left.length < replicas.length ? 'chunk_missing' : 'unavailable',
      `Make chunk ${chunk} stable: of its nodes ${left.length} have it, its realm needs ${needed} (${replicas.map(({ node }) => node).join(', ')})`,
    );
  }
}

function tooLate(chunks: readonly UnstableChunk[], proof: StabilityProof): CollectiveError {
  const missing = chunks.filter((chunk) => !proof.isFirm(chunk));
  const nodes = [...new Set(missing.flatMap(({ replicas }) => replicas.map(({ node }) => node)))];
  return new CollectiveError(
    'unavailable',
    `Make ${missing.length} chunks stable before content takes its place: the nodes that have them did not answer within ${STABLE_WITHIN_MS} ms (${nodes.join(', ')})`,
  );
}
