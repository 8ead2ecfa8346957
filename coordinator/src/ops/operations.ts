/**
 * The table of operations: for each kind of request, whether it changes anything, which inodes it touches (operations of
 * one session on one inode keep their order, M3), which keys it will surely need (fetched ahead), and the function.
 */
import { chunkIdFromBytes, type InodeNumber } from '@collective/base/ids';
import type { ChunkCommit, Operation, Reply } from '@collective/protocol/gen/session';
import { CHUNKS, DENTRIES, GARBAGE, INODES, LOCKS, nameKey } from '../tables/tables.ts';
import type { OperationContext } from './context.ts';
import { fallocate } from './fallocate.ts';
import { link } from './link.ts';
import { getLock } from './locks.ts';
import { getAttributes, lookup, readLink, resolve } from './lookup.ts';
import { makeNode } from './make-node.ts';
import { readDirectory, usage } from './read-directory.ts';
import { rename } from './rename.ts';
import { setAttributes } from './set-attributes.ts';
import { release, unlink } from './unlink.ts';
import { commit } from './write-file.ts';
import { getXattr, listXattrs, removeXattr, setXattr } from './xattrs.ts';

type Case = NonNullable<Operation['op']>;
export type OperationName = Case['$case'];
type RequestOf<Name extends OperationName> = Extract<Case, { $case: Name }>['value'];
export type Result = NonNullable<Reply['result']>;

/** Operations that need more than the view (locks that wait, space, sessions); `session/` runs them. */
export type SessionOperationName =
  | 'readBlocks'
  | 'setLock'
  | 'replenish'
  | 'cancel'
  | 'sync'
  | 'statFileSystem'
  | 'wantWrite'
  | 'forget';
export type PlainOperationName = Exclude<OperationName, SessionOperationName>;

export interface OperationKind<Request> {
  readonly mutates: boolean;
  inodes(request: Request): readonly number[];
  hints(request: Request): readonly string[];
}

export interface PlainOperation<Request> extends OperationKind<Request> {
  run(context: OperationContext, request: Request): Result;
}

const inodeKey = (inode: number): string => INODES.key(inode as InodeNumber);
const entryKeys = (parent: number, name: Uint8Array): string[] => [
  inodeKey(parent),
  DENTRIES.key(parent as InodeNumber, nameKey(name)),
];

/** Whether a chunk is known, and whether it is garbage, is asked for each that a commit describes. */
const chunkKeys = (chunks: readonly ChunkCommit[]): string[] =>
  chunks.flatMap(({ chunk }) => {
    const id = chunkIdFromBytes(chunk);
    return [CHUNKS.key(id), GARBAGE.key(id)];
  });

function reads<R extends { inode: number }>(run: PlainOperation<R>['run']): PlainOperation<R> {
  return { mutates: false, inodes: (request) => [request.inode], hints: (request) => [inodeKey(request.inode)], run };
}

function changes<R extends { inode: number }>(run: PlainOperation<R>['run']): PlainOperation<R> {
  return { ...reads(run), mutates: true };
}

export const PLAIN_OPERATIONS: { readonly [Name in PlainOperationName]: PlainOperation<RequestOf<Name>> } = {
  lookup: {
    mutates: false,
    inodes: ({ parent }) => [parent],
    hints: ({ parent, name }) => entryKeys(parent, name),
    run: (context, request) => ({ $case: 'attributes', value: lookup(context, request) }),
  },
  resolve: {
    mutates: false,
    inodes: ({ start }) => [start],
    hints: ({ start, names }) => (names[0] === undefined ? [inodeKey(start)] : entryKeys(start, names[0])),
    run: (context, request) => ({ $case: 'resolved', value: resolve(context, request) }),
  },
  getAttributes: reads((context, request) => ({ $case: 'attributes', value: getAttributes(context, request) })),
  readLink: reads((context, request) => ({ $case: 'linkTarget', value: readLink(context, request) })),
  readDirectory: reads((context, request) => ({ $case: 'directory', value: readDirectory(context, request) })),
  usage: reads((context, request) => ({ $case: 'usage', value: usage(context, request) })),
  getXattr: reads((context, request) => ({ $case: 'xattrValue', value: getXattr(context, request) })),
  listXattrs: reads((context, request) => ({ $case: 'xattrNames', value: listXattrs(context, request) })),
  getLock: {
    ...reads((context, request) => ({ $case: 'lock', value: getLock(context, request) })),
    hints: ({ inode }) => [inodeKey(inode), LOCKS.key(inode as InodeNumber)],
  },
  setAttributes: changes((context, request) => ({ $case: 'attributes', value: setAttributes(context, request) })),
  setXattr: changes((context, request) => ({ $case: 'attributes', value: setXattr(context, request) })),
  removeXattr: changes((context, request) => ({ $case: 'attributes', value: removeXattr(context, request) })),
  commitSlices: {
    ...changes((context, request) => ({ $case: 'committed', value: commit(context, request) })),
    hints: ({ inode, chunks }) => [inodeKey(inode), ...chunkKeys(chunks)],
  },
  fallocate: changes((context, request) => ({ $case: 'committed', value: fallocate(context, request) })),
  release: changes((context, request) => ({ $case: 'empty', value: release(context, request) })),
  makeNode: {
    mutates: true,
    inodes: ({ parent }) => [parent],
    hints: ({ parent, name, content }) => [...entryKeys(parent, name), ...chunkKeys(content?.chunks ?? [])],
    run: (context, request) => ({ $case: 'attributes', value: makeNode(context, request) }),
  },
  link: {
    mutates: true,
    inodes: ({ inode, parent }) => [inode, parent],
    hints: ({ inode, parent, name }) => [inodeKey(inode), ...entryKeys(parent, name)],
    run: (context, request) => ({ $case: 'attributes', value: link(context, request) }),
  },
  unlink: {
    mutates: true,
    inodes: ({ parent }) => [parent],
    hints: ({ parent, name }) => entryKeys(parent, name),
    run: (context, request) => ({ $case: 'unlinked', value: unlink(context, request) }),
  },
  rename: {
    mutates: true,
    inodes: ({ parent, newParent }) => [parent, newParent],
    hints: ({ parent, name, newParent, newName }) => [...entryKeys(parent, name), ...entryKeys(newParent, newName)],
    run: (context, request) => ({ $case: 'empty', value: rename(context, request) }),
  },
};

const onInode = (mutates: boolean): OperationKind<{ inode: number }> => ({
  mutates,
  inodes: ({ inode }) => [inode],
  hints: ({ inode }) => [inodeKey(inode)],
});
const onNothing: OperationKind<unknown> = { mutates: false, inodes: () => [], hints: () => [] };

export const SESSION_OPERATIONS: { readonly [Name in SessionOperationName]: OperationKind<RequestOf<Name>> } = {
  readBlocks: onInode(false),
  setLock: onInode(true),
  sync: onInode(false),
  statFileSystem: onInode(false),
  wantWrite: onInode(false),
  replenish: onNothing,
  cancel: onNothing,
  forget: onNothing,
};

export function isPlain(name: OperationName): name is PlainOperationName {
  return Object.hasOwn(PLAIN_OPERATIONS, name);
}

export function kindOf(op: Case): OperationKind<never> {
  return isPlain(op.$case) ? PLAIN_OPERATIONS[op.$case] : SESSION_OPERATIONS[op.$case];
}

/** Runs a plain operation. The table pairs each name with its own request, which the type checker cannot follow through the union. */
export function runPlain(context: OperationContext, op: Extract<Case, { $case: PlainOperationName }>): Result {
  const operation = PLAIN_OPERATIONS[op.$case] as PlainOperation<typeof op.value>;
  return operation.run(context, op.value);
}
