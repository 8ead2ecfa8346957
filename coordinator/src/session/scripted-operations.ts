/** For tests: operations as a client says them, with what nobody cares about filled in, and what to make of their results. */
import assert from 'node:assert/strict';
import { CollectiveError } from '@collective/base/errors';
import { chunkIdOf, chunkIdToBytes, type Epoch } from '@collective/base/ids';
import type { ReplicaOutcome } from '@collective/protocol/gen/common';
import {
  type Content,
  Existing,
  InodeType,
  type MakeNode,
  type Operation,
  RenameMode,
  type Reply,
  type SetAttributes,
  type Slice,
} from '@collective/protocol/gen/session';
import { CHUNK_BLOCK } from './chunk-ids.ts';

export const ROOT = 1;
export type Op = NonNullable<Operation['op']>;
export type Result = NonNullable<Reply['result']>;
export type ResultOf<Name extends Result['$case']> = Extract<Result, { $case: Name }>['value'];

export function resultOf<Name extends Result['$case']>(reply: Reply, expected: Name): ResultOf<Name> {
  const { result } = reply;
  if (result?.$case === 'failure') throw new CollectiveError(result.value.code as 'internal', result.value.message);
  assert.equal(result?.$case, expected);
  return (result as Extract<Result, { $case: Name }>).value as ResultOf<Name>;
}

export function makeOp(parent: number, name: string | Buffer, more: Partial<MakeNode> = {}): Op {
  return {
    $case: 'makeNode',
    value: {
      parent,
      name: Buffer.from(name),
      type: InodeType.FILE,
      mode: 0o644,
      umask: 0,
      rdev: 0,
      linkTarget: Buffer.alloc(0),
      existing: Existing.FAIL,
      content: undefined,
      targetHeld: false,
      targetInode: 0,
      ...more,
    },
  };
}

export function setOp(inode: number, change: Partial<SetAttributes>): Op {
  return {
    $case: 'setAttributes',
    value: {
      inode,
      mode: undefined,
      uid: undefined,
      gid: undefined,
      size: undefined,
      mtime: undefined,
      mtimeNow: false,
      birth: undefined,
      clearSetId: false,
      ...change,
    },
  };
}

export function unlinkOp(
  parent: number,
  name: string,
  more: { held?: boolean; directory?: boolean; expectedInode?: number; permanent?: boolean } = {},
): Op {
  return {
    $case: 'unlink',
    value: {
      parent,
      name: Buffer.from(name),
      directory: false,
      held: false,
      expectedInode: 0,
      permanent: false,
      ...more,
    },
  };
}

export function renameOp(
  parent: number,
  name: string,
  newParent: number,
  newName: string,
  mode: RenameMode = RenameMode.RENAME_REPLACE,
): Op {
  return {
    $case: 'rename',
    value: {
      parent,
      name: Buffer.from(name),
      newParent,
      newName: Buffer.from(newName),
      mode,
      targetHeld: false,
      targetInode: 0,
    },
  };
}

export function mkdirOp(parent: number, name: string): Op {
  return makeOp(parent, name, { type: InodeType.DIRECTORY, mode: 0o755 });
}

/** Of the first start of a test's coordinator. */
export const TEST_EPOCH: Epoch = { generation: 7, start: 1 };

/** Chunk ids of tests: each number is another chunk, handed to the first client that attached in the first start. */
export function testChunk(number: number, epoch: Epoch = TEST_EPOCH): Buffer {
  return chunkIdToBytes(chunkIdOf(epoch, number));
}

/** The same for the client that attached as the second, third, ...: its ids come from the block of that number. */
export function chunkOf(client: number, number: number): number {
  return (client - 1) * CHUNK_BLOCK + number;
}

export interface Piece {
  readonly offset: number;
  readonly length: number;
  /** Chunk number; undefined: a hole. */
  readonly chunk?: number;
  readonly chunkOffset?: number;
}

export function sliceOf({ offset, length, chunk, chunkOffset = 0 }: Piece): Slice {
  return { offset, length, chunk: chunk === undefined ? Buffer.alloc(0) : testChunk(chunk), chunkOffset };
}

export function replicaOf(node: string, more: Partial<ReplicaOutcome> = {}): ReplicaOutcome {
  return { node, disk: `disk-${node}`, incarnation: 1, sequence: 1, stable: true, failure: undefined, ...more };
}

/** Content whose chunks lie on n1 and n2, stable unless said otherwise. */
export function contentOf(
  pieces: readonly Piece[],
  more: Partial<Content> & { replicas?: ReplicaOutcome[] } = {},
): Content {
  const { replicas = [replicaOf('n1'), replicaOf('n2')], ...rest } = more;
  const lengths = new Map<number, number>();
  for (const { chunk, chunkOffset = 0, length } of pieces)
    if (chunk !== undefined) lengths.set(chunk, Math.max(lengths.get(chunk) ?? 0, chunkOffset + length));
  return {
    size: 0,
    slices: pieces.map(sliceOf),
    chunks: [...lengths].map(([chunk, length]) => ({
      chunk: testChunk(chunk),
      length,
      storedLength: length,
      digest: Buffer.alloc(4),
      replicas,
    })),
    mtime: undefined,
    xattrs: [],
    ...rest,
  };
}

export function commitOp(
  inode: number,
  pieces: readonly Piece[],
  more: Partial<Extract<Op, { $case: 'commitSlices' }>['value']> & { replicas?: ReplicaOutcome[] } = {},
): Op {
  const { replicas, ...rest } = more;
  const { slices, chunks } = contentOf(pieces, { replicas });
  return {
    $case: 'commitSlices',
    value: {
      inode,
      slices,
      chunks,
      mtime: undefined,
      append: false,
      sizeAtLeast: 0,
      expected: [],
      clearSetId: false,
      ...rest,
    },
  };
}

/** For assert.rejects: the failure has this code. */
export function code(expected: string): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof CollectiveError, String(error));
    assert.equal(error.code, expected, error.message);
    return true;
  };
}
