/**
 * What lies on each node by the rows of named chunks: as the last whole walk over them has counted, less what has moved away
 * since. It costs nothing to ask, so it is what a drain shows while it goes on; that nothing is left it does not prove, since chunks
 * may have come, or gone in another way, after the walk had passed them.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';

export interface NodeLoad {
  readonly chunks: number;
  /** As stored. */
  readonly bytes: number;
}

const NOTHING: NodeLoad = { chunks: 0, bytes: 0 };

export class MovingLoads {
  #counted: ReadonlyMap<NodeName, NodeLoad> | undefined;
  #away = new Map<NodeName, NodeLoad>();
  /** Of what a walk that is under way has counted already. */
  #awayFromWalk = new Map<NodeName, NodeLoad>();
  #passed: ChunkId | undefined;

  walkBegan(): void {
    this.#awayFromWalk = new Map();
    this.#passed = undefined;
  }

  /** Everything up to this chunk is counted. */
  walkPassed(chunk: ChunkId): void {
    this.#passed = chunk;
  }

  walkEnded(counted: ReadonlyMap<NodeName, NodeLoad>): void {
    this.#counted = counted;
    this.#away = this.#awayFromWalk;
    this.walkBegan();
  }

  movedAway(node: NodeName, chunk: ChunkId, bytes: number): void {
    add(this.#away, node, bytes);
    if (this.#passed !== undefined && chunk <= this.#passed) add(this.#awayFromWalk, node, bytes);
  }

  /** Undefined: nothing is known before the first whole walk. */
  of(node: NodeName): NodeLoad | undefined {
    if (this.#counted === undefined) return undefined;
    const { chunks, bytes } = this.#counted.get(node) ?? NOTHING;
    const away = this.#away.get(node) ?? NOTHING;
    return { chunks: Math.max(0, chunks - away.chunks), bytes: Math.max(0, bytes - away.bytes) };
  }
}

function add(to: Map<NodeName, NodeLoad>, node: NodeName, bytes: number): void {
  const before = to.get(node) ?? NOTHING;
  to.set(node, { chunks: before.chunks + 1, bytes: before.bytes + bytes });
}
