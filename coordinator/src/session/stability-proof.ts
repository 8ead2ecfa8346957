/**
 * What one operation has learnt about the stability of chunks while it waited (D3): what nodes answered, beside what they last
 * reported. A node that answers has synced: all that this start of its store had written is stable, and so is whatever it
 * has of an earlier start.
 */
import type { ChunkId, InodeNumber } from '@collective/base/ids';
import type { StableKnowledge, UnstableChunk, WrittenReplica } from '../ops/context.ts';
import type { StoreState } from '../ops/replica-stability.ts';

/** How often one operation waits for the same file: what others write meanwhile is not waited for for ever. */
export const STABLE_PASSES_MAX = 4;

export interface StableAnswer {
  readonly store: StoreState;
  /** Of the chunks that were asked for. */
  readonly held: ReadonlySet<ChunkId>;
}

export class StabilityProof implements StableKnowledge {
  readonly #reported: (node: string) => StoreState | undefined;
  readonly #answered = new Map<string, StoreState>();
  /** By disk and chunk: whether the disk had it when it was asked. */
  readonly #held = new Map<string, boolean>();
  readonly #passes = new Map<InodeNumber | 'chunks', number>();

  /** `reported`: the store of a node as it last reported in this start of the coordinator. */
  constructor(reported: (node: string) => StoreState | undefined) {
    this.#reported = reported;
  }

  answered(node: string, { store, held }: StableAnswer, asked: readonly ChunkId[]): void {
    this.#answered.set(node, store);
    for (const chunk of asked) this.#held.set(`${store.disk} ${chunk}`, held.has(chunk));
  }

  passed(content: InodeNumber | 'chunks'): void {
    this.#passes.set(content, (this.#passes.get(content) ?? 0) + 1);
  }

  mayWait(content: InodeNumber | 'chunks'): boolean {
    return (this.#passes.get(content) ?? 0) < STABLE_PASSES_MAX;
  }

  covers(chunk: ChunkId, replica: WrittenReplica): boolean {
    return (
      this.#held.get(`${replica.disk} ${chunk}`) === true ||
      reaches(this.#reported(replica.node), replica) ||
      reaches(this.#answered.get(replica.node), replica)
    );
  }

  /** The node answered that it does not have the chunk on the disk that was named. */
  isLost(chunk: ChunkId, replica: WrittenReplica): boolean {
    return this.#held.get(`${replica.disk} ${chunk}`) === false;
  }

  isFirm({ chunk, needed, replicas }: UnstableChunk): boolean {
    return replicas.filter((replica) => replica.stable || this.covers(chunk, replica)).length >= needed;
  }
}

/**
 * For a change that is made again after the coordinator lost it (M4): its content was stable before it was answered first, and
 * outlived that power loss on its nodes, which may be away just now.
 */
export const REPLAYED: StableKnowledge = { covers: () => false, mayWait: () => false };

/** The same disk, the same start of it, and synced so far. */
function reaches(store: StoreState | undefined, { disk, incarnation, sequence }: WrittenReplica): boolean {
  return (
    store !== undefined && store.disk === disk && store.incarnation === incarnation && sequence <= store.stableSequence
  );
}
