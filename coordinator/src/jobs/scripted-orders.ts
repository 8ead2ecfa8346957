/**
 * For tests of background jobs: storage nodes in memory that do what they are ordered to, go away when a test says so, and
 * keep a record of all orders. A copy is its digest: what two nodes hold of one chunk is the same unless a test damages it.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { ChunkPage, ChunkResult, CompactionState, Fold, NodeOrders, WantedChunk } from './node-orders.ts';

export interface ScriptedCopy {
  readonly sequence: number;
  readonly digest: Uint8Array;
  readonly storedLength: number;
  damaged: boolean;
}

export interface ScriptedNode {
  disk: string;
  incarnation: number;
  sequence: number;
  isUp: boolean;
  /** What orders are refused with. */
  refuses: ErrorCode | undefined;
  /** What it answers to orders to compact, one after the other; then that it is done. */
  readonly compactions: Partial<CompactionState>[];
  readonly copies: Map<ChunkId, ScriptedCopy>;
}

export class ScriptedOrders implements NodeOrders {
  readonly nodes = new Map<string, ScriptedNode>();
  /** As "forget n1 3": which order, to whom, over how many chunks. */
  readonly record: string[] = [];
  /** The same with the chunks. */
  readonly given: { readonly order: string; readonly node: string; readonly chunks: readonly ChunkId[] }[] = [];
  /** How long an order takes. */
  takesMs = 5;
  /** Called when an order has reached its node, before it acts. */
  onOrder: ((order: string, node: string) => Promise<void> | void) | undefined;
  /** Called when a node has made its list, which is on its way then. */
  onListed: ((node: string) => Promise<void> | void) | undefined;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(name: string, more: Partial<ScriptedNode> = {}): ScriptedNode {
    const node: ScriptedNode = {
      disk: `disk-${name}`,
      incarnation: 1,
      sequence: 1,
      isUp: true,
      refuses: undefined,
      compactions: [],
      copies: new Map(),
      ...more,
    };
    this.nodes.set(name, node);
    return node;
  }

  node(name: string): ScriptedNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new RangeError(`There is no node ${name}`);
    return node;
  }

  put(name: string, chunk: ChunkId, digest: Uint8Array = Buffer.alloc(4), storedLength = 10): void {
    const node = this.node(name);
    node.sequence += 1;
    node.copies.set(chunk, { sequence: node.sequence, digest, storedLength, damaged: false });
  }

  async listChunks(name: NodeName, after: ChunkId | undefined, limit: number): Promise<ChunkPage> {
    const node = await this.#reach('list', name, [], limit);
    const all = [...node.copies.keys()].sort().filter((chunk) => after === undefined || chunk > after);
    const { sequence, incarnation } = node;
    await this.onListed?.(name);
    return { chunks: all.slice(0, limit), end: all.length <= limit, sequence, incarnation };
  }

  async fetchChunks(name: NodeName, wanted: readonly WantedChunk[]): Promise<ChunkResult[]> {
    const node = await this.#reach('fetch', name, wanted);
    return wanted.map(({ chunk, digest, sources, replace }) => {
      const copies = sources.flatMap((each) => {
        const source = this.nodes.get(each);
        return (source?.isUp && source.copies.get(chunk)) || [];
      });
      const held = copies.find(({ damaged }) => !damaged);
      if (held === undefined) return copies.length === 0 ? missing(chunk) : corrupt(chunk);
      if (!node.copies.has(chunk) || replace) this.put(name, chunk, digest, held.storedLength);
      return this.#result(name, node, chunk);
    });
  }

  async forgetChunks(name: NodeName, chunks: readonly ChunkId[]): Promise<void> {
    const node = await this.#reach('forget', name, asChunks(chunks));
    for (const chunk of chunks) node.copies.delete(chunk);
  }

  async verifyChunks(name: NodeName, chunks: readonly ChunkId[]): Promise<ChunkResult[]> {
    const node = await this.#reach('verify', name, asChunks(chunks));
    return chunks.map((chunk) => this.#result(name, node, chunk));
  }

  async foldBlock(name: NodeName, { chunk, pieces }: Fold): Promise<ChunkResult> {
    const node = await this.#reach('fold', name, [], pieces.length);
    for (const piece of pieces) {
      if (piece.chunk === undefined) continue;
      const id = piece.chunk;
      if (!node.copies.has(id) && !piece.sources.some((source) => this.nodes.get(source)?.copies.has(id)))
        return missing(id);
    }
    this.put(
      name,
      chunk,
      Buffer.from(chunk.slice(-8), 'hex'),
      pieces.reduce((sum, { length }) => sum + length, 0),
    );
    return this.#result(name, node, chunk);
  }

  async scrub(name: NodeName): Promise<void> {
    await this.#reach('scrub', name);
  }

  async compact(name: NodeName): Promise<CompactionState> {
    const node = await this.#reach('compact', name);
    const done = { done: true, deadBytes: 0, copiedBytes: 0, removedSegments: 0, stuckSegments: 0 };
    return { ...done, ...node.compactions.shift() };
  }

  async #reach(
    order: string,
    name: string,
    chunks: readonly { readonly chunk: ChunkId }[] = [],
    count = chunks.length,
  ): Promise<ScriptedNode> {
    this.record.push(`${order} ${name} ${count}`);
    this.given.push({ order, node: name, chunks: chunks.map(({ chunk }) => chunk) });
    await new Promise<void>((resolve) => this.#clock.setTimer(this.takesMs, resolve));
    const node = this.nodes.get(name);
    if (node?.isUp !== true) throw new CollectiveError('unavailable', `${order} on node ${name}: it is not connected`);
    if (node.refuses !== undefined) throw new CollectiveError(node.refuses, `${order} on node ${name}`);
    await this.onOrder?.(order, name);
    return node;
  }

  #result(name: NodeName, node: ScriptedNode, chunk: ChunkId): ChunkResult {
    const copy = node.copies.get(chunk);
    if (copy === undefined) return missing(chunk);
    if (copy.damaged) return corrupt(chunk);
    const { disk, incarnation } = node;
    const { sequence, digest, storedLength } = copy;
    return { chunk, replica: { node: name, disk, incarnation, sequence }, digest, storedLength };
  }
}

function asChunks(chunks: readonly ChunkId[]): { readonly chunk: ChunkId }[] {
  return chunks.map((chunk) => ({ chunk }));
}

function corrupt(chunk: ChunkId): ChunkResult {
  return { chunk, failure: { code: 'chunk_corrupt', message: 'damaged' } };
}

function missing(chunk: ChunkId): ChunkResult {
  return { chunk, failure: { code: 'chunk_missing', message: 'missing' } };
}
