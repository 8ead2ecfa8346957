/**
 * The chunk store as a port (D1 to D4): immutable chunks by id, kept as the frames in which they were sent. *Written* means that a
 * chunk survives the death of the process, *stable* that it survives the loss of power.
 *
 * A chunk leaves only by `forget`. What it took is given back by compaction, some time later and by itself.
 *
 * Every put has a sequence number, given in order and never twice; everything up to the stable sequence is stable. Each
 * start of the store is an incarnation: a number from an older one says nothing about what is stable now, except that
 * whatever the store still has of it was made stable at the start.
 */
import type { Timestamp } from '@collective/base/clock';
import type { ChunkId, Epoch, InodeNumber } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import { FRAME_HEADER_BYTES } from '@collective/protocol/bulk/frame';

/** Frames of one read from the disk. */
export const READ_FRAMES_MAX = 8;
export const READ_BYTES_MAX = READ_FRAMES_MAX * (FRAME_HEADER_BYTES + FRAME_BYTES);

export interface ChunkFacts {
  readonly chunk: ChunkId;
  /** Hints (D1). */
  readonly inode: InodeNumber | 0;
  readonly block: number;
  /** Raw bytes: 1 to 4 MiB. */
  readonly rawLength: number;
  /** 8 bytes over the frames (D2). */
  readonly digest: Buffer;
  /** Of the coordinator that gave the id. */
  readonly epoch: Epoch;
}

export interface PutResult {
  readonly sequence: number;
  /** True when this very chunk was here before. */
  readonly alreadyHere: boolean;
}

export interface StoredChunk extends ChunkFacts {
  readonly storedLength: number;
  readonly time: Timestamp;
  readonly incarnation: number;
  readonly sequence: number;
}

export interface StoreStats {
  readonly chunkCount: number;
  /** What the owner gives, or the disk has, whichever is less. */
  readonly capacityBytes: number;
  /** By segments, dead bytes included. */
  readonly usedBytes: number;
  /** Of it what belongs to no chunk any more, and comes back by compaction. */
  readonly deadBytes: number;
  /** May still be written above the reserve. */
  readonly freeBytes: number;
  /** Nothing large can be put any more; reads go on. */
  readonly full: boolean;
  readonly inventoryDigest: number;
  readonly unstableBytes: number;
  /** Chunks found damaged since the disk was first used. */
  readonly damagedFound: number;
  /** Since the store was opened. */
  readonly forgottenChunks: number;
  /** Segments that compaction took away, since the store was opened. */
  readonly compactedSegments: number;
  /** Bytes that it copied for that. */
  readonly compactedBytes: number;
  /** That it could not copy, because a header in them is damaged. */
  readonly stuckSegments: number;
}

export interface ChunkStore extends AsyncDisposable {
  /** Uuid of the disk. */
  readonly disk: string;
  readonly incarnation: number;
  readonly stableSequence: number;
  /** Of the newest chunk that is written. */
  readonly writtenSequence: number;
  /** Found so when they were read; each until it is replaced or forgotten. At most DAMAGED_MAX. */
  readonly damaged: readonly ChunkId[];
  /** Aborted when the store can take no more writes because the disk failed; the reason is the error. The process must end. */
  readonly failed: AbortSignal;

  /**
   * Resolves when the chunk is written. Idempotent by id and digest: the same chunk again gives the same sequence;
   * another digest is `chunk_conflict`. `frames` are whole DATA frames in order, one or several a buffer, not to be changed before
   * this resolves (but for their stream ids, which mean nothing on disk). Their checksums were compared by whoever received
   * them. Throws `no_space`, `disk_failed`.
   */
  put(facts: ChunkFacts, frames: readonly Buffer[]): Promise<PutResult>;
  /**
   * As `put`, but takes the place of a copy that is damaged. A copy that is whole stays, and is `alreadyHere`; of another digest it
   * is a conflict.
   */
  replace(facts: ChunkFacts, frames: readonly Buffer[]): Promise<PutResult>;
  /**
   * Resolves when it is stable that the chunks are gone; those that are not here are so already. Reads of them that are under way
   * end well or with `chunk_missing`. Works on a full disk, into the reserve. Throws `no_space`, `disk_failed`.
   */
  forget(chunks: readonly ChunkId[]): Promise<void>;
  /** Resolves when everything up to `sequence` is stable; asks for it at once. Throws `disk_failed` or the signal's reason. */
  whenStable(sequence: number, signal?: AbortSignal): Promise<void>;
  has(chunk: ChunkId): boolean;
  /** Throws `chunk_missing`, `chunk_corrupt`. */
  describe(chunk: ChunkId): Promise<StoredChunk>;
  /**
   * The whole stored frames that cover the range, in buffers of one or more frames, each checksum compared. `take` gives memory for
   * so many bytes, at most READ_BYTES_MAX. Throws `chunk_missing`, `chunk_corrupt`, `range`.
   */
  read(
    chunk: ChunkId,
    offset: number,
    length: number,
    take?: (bytes: number) => Buffer,
  ): AsyncGenerator<Buffer, void, undefined>;
  /** Reads the whole record from the disk and compares every checksum and the digest. Throws `chunk_missing`, `chunk_corrupt`. */
  verify(chunk: ChunkId): Promise<StoredChunk>;
  /** Gives back the room of all chunks that are forgotten now, at full speed. Throws `no_space`, `disk_failed` or the signal's reason. */
  compact(signal?: AbortSignal): Promise<void>;
  /** Ids above `after` in order, at most `limit`. */
  list(after: ChunkId | undefined, limit: number): ChunkId[];
  stats(): StoreStats;
  /** Makes stable what is written. */
  sync(): Promise<void>;
}
