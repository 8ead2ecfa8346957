/**
 * What the background jobs ask of storage nodes (D8), as a port: jobs decide, nodes do. Each order may be given twice, and each
 * ends: with an answer, with a failure, or after its time. Throws `unavailable` when the node has no link, does not
 * answer in time, or goes away in the middle; what it had done by then stays done.
 */
import type { ChunkId, NodeName } from '@collective/base/ids';

export interface ChunkPage {
  /** In order. */
  readonly chunks: readonly ChunkId[];
  readonly end: boolean;
  /** Everything that was put before the page was made is at or below it, within this start of the store. */
  readonly sequence: number;
  readonly incarnation: number;
}

/** A chunk that a node is to get from others. */
export interface WantedChunk {
  readonly chunk: ChunkId;
  /** Raw bytes. */
  readonly length: number;
  readonly digest: Uint8Array;
  /** Hints (D1). */
  readonly inode: number;
  readonly block: number;
  /** Tried in order. */
  readonly sources: readonly NodeName[];
  /** The copy there is damaged. */
  readonly replace: boolean;
}

export interface NodeReplica {
  readonly node: NodeName;
  readonly disk: string;
  readonly incarnation: number;
  readonly sequence: number;
}

export type ChunkResult =
  | {
      readonly chunk: ChunkId;
      readonly replica: NodeReplica;
      readonly digest: Uint8Array;
      readonly storedLength: number;
      readonly failure?: undefined;
    }
  /** `code` of the catalogue: chunk_missing, chunk_corrupt, no_space, unavailable, ... */
  | { readonly chunk: ChunkId; readonly failure: { readonly code: string; readonly message: string } };

export interface FoldPiece {
  readonly length: number;
  /** Undefined: zeros. */
  readonly chunk: ChunkId | undefined;
  readonly chunkOffset: number;
  /** Nodes that have the chunk. */
  readonly sources: readonly NodeName[];
}

export interface Fold {
  /** The chunk that is to be made. */
  readonly chunk: ChunkId;
  readonly inode: number;
  readonly block: number;
  readonly compress: boolean;
  readonly pieces: readonly FoldPiece[];
}

export interface CompactionState {
  readonly done: boolean;
  /** Left, also of what became dead since. */
  readonly deadBytes: number;
  /** Since the start of its chunk store: they grow while it gets on. */
  readonly copiedBytes: number;
  readonly removedSegments: number;
  /** That cannot be copied as they are. */
  readonly stuckSegments: number;
}

export interface NodeOrders {
  listChunks(node: NodeName, after: ChunkId | undefined, limit: number, signal: AbortSignal): Promise<ChunkPage>;
  /** One result a chunk, in order. A copy that succeeded is stable. At most FETCH_CHUNKS_MAX. */
  fetchChunks(node: NodeName, wanted: readonly WantedChunk[], signal: AbortSignal): Promise<ChunkResult[]>;
  /** Resolves when it is stable that they are gone. At most FORGET_CHUNKS_MAX. */
  forgetChunks(node: NodeName, chunks: readonly ChunkId[], signal: AbortSignal): Promise<void>;
  /** Reads them from the disk. At most VERIFY_CHUNKS_MAX. */
  verifyChunks(node: NodeName, chunks: readonly ChunkId[], signal: AbortSignal): Promise<ChunkResult[]>;
  foldBlock(node: NodeName, fold: Fold, signal: AbortSignal): Promise<ChunkResult>;
  scrub(node: NodeName, signal: AbortSignal): Promise<void>;
  /** Answers soon, done or not; given again with the same run until it is done. */
  compact(node: NodeName, run: string, signal: AbortSignal): Promise<CompactionState>;
}

export const LIST_CHUNKS_MAX = 10_000;
export const FETCH_CHUNKS_MAX = 32;
export const FORGET_CHUNKS_MAX = 2_000;
export const VERIFY_CHUNKS_MAX = 32;
