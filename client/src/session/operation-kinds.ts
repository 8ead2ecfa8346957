/**
 * What the session must know about an operation without knowing what it does: whether it may run twice, which inodes it
 * changes (the cache must not answer from before), and how its answers look.
 */
import { CollectiveError } from '@collective/base/errors';
import type { Operation, Reply } from '@collective/protocol/gen/session';

export type OperationBody = NonNullable<Operation['op']>;
export type OperationCase = OperationBody['$case'];
export type Result = NonNullable<Reply['result']>;
export type ResultCase = Result['$case'];
export type ResultValue<C extends ResultCase> = Extract<Result, { $case: C }>['value'];

const READS: ReadonlySet<OperationCase> = new Set<OperationCase>([
  'lookup',
  'resolve',
  'getAttributes',
  'readLink',
  'readDirectory',
  'getXattr',
  'listXattrs',
  'readBlocks',
  'sync',
  'statFileSystem',
  'getLock',
  'usage',
]);

/** Leaves nothing behind, so no answer of it is kept. */
export function isRead(body: OperationBody): boolean {
  return READS.has(body.$case);
}

/** Safe to run once more on a new session, when nobody knows whether it ran on the lost one. */
export function mayRunAgain(body: OperationBody): boolean {
  return isRead(body) || body.$case === 'replenish' || body.$case === 'wantWrite';
}

/** About how many bytes the operation takes in a message. */
export function weightBytes(body: OperationBody): number {
  switch (body.$case) {
    case 'setXattr':
      return 512 + body.value.value.length;
    case 'commitSlices':
      return 512 + 64 * body.value.slices.length + 512 * body.value.chunks.length;
    case 'makeNode': {
      const content = body.value.content;
      const xattrBytes = content?.xattrs.reduce((sum, { value }) => sum + value.length + 256, 0) ?? 0;
      return 1024 + 64 * (content?.slices.length ?? 0) + 512 * (content?.chunks.length ?? 0) + xattrBytes;
    }
    case 'resolve':
      return 64 + 256 * body.value.names.length;
    default:
      return 512;
  }
}

/** Inodes whose attributes, entries or data the operation may change. */
export function changedInodes(body: OperationBody): number[] {
  switch (body.$case) {
    case 'setAttributes':
    case 'setXattr':
    case 'removeXattr':
    case 'commitSlices':
    case 'fallocate':
    case 'setLock':
      return [body.value.inode];
    case 'makeNode':
    case 'unlink':
      return [body.value.parent];
    case 'link':
      return [body.value.parent, body.value.inode];
    case 'rename':
      return [body.value.parent, body.value.newParent];
    default:
      return [];
  }
}

/** The inode that a failed replay of the operation throws doubt on. */
export function subjectInode(body: OperationBody, reply: Reply): number {
  if (reply.result?.$case === 'attributes') return reply.result.value.inode;
  return changedInodes(body)[0] ?? 0;
}

/** The value of the one expected result; anything else breaks the protocol. */
export function expectResult<C extends ResultCase>(reply: Reply, expected: C): ResultValue<C> {
  const result = reply.result;
  if (result?.$case === expected) return result.value as ResultValue<C>;
  throw new CollectiveError(
    'internal',
    `Read the answer to request ${reply.number}: it holds '${result?.$case ?? 'nothing'}' instead of '${expected}'`,
  );
}
