/**
 * A file system as plain values: what the simulated member is compared with. States are never changed; each operation
 * makes a new one. It knows nothing of sessions, time or chunks, and follows POSIX where the product promises it.
 *
 * Names of nodes are symbolic (the id of the operation that made them); the inode number that the product gave is learnt
 * from its first answer and must stay the same and be given to nobody else (M2a, M8).
 */
import { BLOCK_BYTES } from '@collective/base/limits';

export type NodeType = 'file' | 'directory' | 'symlink';

/** A run of bytes; what lies between pieces is zeros. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Buffer;
}

export interface Content {
  readonly size: number;
  /** Sorted, without overlaps. */
  readonly pieces: readonly Piece[];
}

export interface ModelNode {
  readonly id: string;
  readonly type: NodeType;
  readonly mode: number;
  readonly links: number;
  readonly inode?: number;
  readonly entries: ReadonlyMap<string, string>;
  readonly target: string;
  readonly content: Content;
  /** Earlier contents that a power loss of nodes may bring back, for each block by itself (D3). */
  readonly unsynced: readonly Content[];
  /** Nodes lost power while `unsynced` was not empty: each byte may be that of any of them. */
  readonly doubtful: boolean;
  readonly xattrs: ReadonlyMap<string, string>;
}

export interface FileSystem {
  readonly nodes: ReadonlyMap<string, ModelNode>;
  /** Open handles; an unlinked node stays as long as one names it. */
  readonly handles: ReadonlyMap<string, string>;
  /** Operations that may take effect after nodes lost power: what they had put there before, and only written, may be gone. */
  readonly putBeforePowerLoss: ReadonlySet<string>;
}

export interface ExpectedAttributes {
  readonly id: string;
  readonly type: NodeType;
  readonly mode: number;
  readonly size?: number;
  readonly links?: number;
  readonly entries?: number;
}

/** What an operation must have answered. */
export type Expected =
  | { readonly error: string }
  | {
      readonly attributes?: ExpectedAttributes;
      readonly bytes?: { readonly node: ModelNode; readonly offset: number; readonly length: number };
      readonly names?: readonly string[];
      readonly text?: string;
      readonly offset?: number;
    };

export interface Applied {
  readonly fs: FileSystem;
  readonly expected: Expected;
}

export const ROOT_ID = 'root';
const NO_ENTRIES: ReadonlyMap<string, string> = new Map();
const NO_XATTRS: ReadonlyMap<string, string> = new Map();
const EMPTY: Content = { size: 0, pieces: [] };

export function emptyFileSystem(): FileSystem {
  const root = newNode(ROOT_ID, 'directory', 0o755);
  return { nodes: new Map([[ROOT_ID, { ...root, links: 1 }]]), handles: new Map(), putBeforePowerLoss: new Set() };
}

export function fail(fs: FileSystem, error: string): Applied {
  return { fs, expected: { error } };
}

// ---- paths ----

export function splitPath(path: string): string[] {
  return path.split('/').filter((name) => name !== '');
}

/** The node at a path; symbolic links are not followed. */
export function lookup(fs: FileSystem, path: string): ModelNode | string {
  let node = must(fs, ROOT_ID);
  for (const name of splitPath(path)) {
    if (node.type !== 'directory') return 'not_directory';
    const id = node.entries.get(name);
    if (id === undefined) return 'not_found';
    node = must(fs, id);
  }
  return node;
}

interface Place {
  readonly parent: ModelNode;
  readonly name: string;
  readonly node: ModelNode | undefined;
}

function place(fs: FileSystem, path: string): Place | string {
  const names = splitPath(path);
  const name = names.pop() ?? '';
  const parent = lookup(fs, names.join('/'));
  if (typeof parent === 'string') return parent;
  if (parent.type !== 'directory') return 'not_directory';
  const id = parent.entries.get(name);
  return { parent, name, node: id === undefined ? undefined : must(fs, id) };
}

// ---- operations on names ----

export function make(fs: FileSystem, path: string, node: ModelNode): Applied {
  const at = place(fs, path);
  if (typeof at === 'string') return fail(fs, at);
  if (at.node !== undefined) return fail(fs, 'exists');
  const next = addEntry(fs, at.parent, at.name, { ...node, links: 1 });
  return { fs: next, expected: { attributes: attributesOf(next, node.id) } };
}

/** Creates the file or, if it exists, leaves it; `node` is only used for the former. */
export function openOrMake(fs: FileSystem, path: string, node: ModelNode): Applied {
  const at = place(fs, path);
  if (typeof at === 'string') return fail(fs, at);
  if (at.node === undefined) return make(fs, path, node);
  if (at.node.type === 'directory') return fail(fs, 'is_directory');
  return { fs, expected: { attributes: attributesOf(fs, at.node.id) } };
}

export function withHandle(fs: FileSystem, handle: string, id: string): Applied {
  return { fs: { ...fs, handles: new Map([...fs.handles, [handle, id]]) }, expected: {} };
}

/** A whole file takes the name in one step, and is stable before (D3). What had the name keeps its mode for the new one. */
export function replaceFile(fs: FileSystem, path: string, node: ModelNode): Applied {
  const at = place(fs, path);
  if (typeof at === 'string') return fail(fs, at);
  if (at.node === undefined) return make(fs, path, node);
  if (at.node.type === 'directory') return fail(fs, 'is_directory');
  if (at.node.type !== 'file') return fail(fs, 'exists');
  const cleared = dropLink(removeEntry(fs, at.parent.id, at.name), at.node.id);
  const parent = must(cleared, at.parent.id);
  const stable = { ...node, unsynced: [], doubtful: false, mode: at.node.mode, links: 1 };
  const next = addEntry(cleared, parent, at.name, stable);
  return { fs: next, expected: { attributes: attributesOf(next, node.id) } };
}

export function unlink(fs: FileSystem, path: string, directory: boolean): Applied {
  const at = place(fs, path);
  if (typeof at === 'string') return fail(fs, at);
  if (at.node === undefined) return fail(fs, 'not_found');
  if (directory) {
    if (at.node.type !== 'directory') return fail(fs, 'not_directory');
    if (at.node.entries.size > 0) return fail(fs, 'not_empty');
  } else if (at.node.type === 'directory') return fail(fs, 'is_directory');
  return { fs: dropLink(removeEntry(fs, at.parent.id, at.name), at.node.id), expected: {} };
}

export function linkNode(fs: FileSystem, id: string, path: string): Applied {
  const node = fs.nodes.get(id);
  if (node === undefined || node.links === 0) return fail(fs, 'stale');
  if (node.type === 'directory') return fail(fs, 'not_permitted');
  const at = place(fs, path);
  if (typeof at === 'string') return fail(fs, at);
  if (at.node !== undefined) return fail(fs, 'exists');
  const next = addEntry(fs, at.parent, at.name, { ...node, links: node.links + 1 });
  return { fs: next, expected: { attributes: attributesOf(next, id) } };
}

export function rename(fs: FileSystem, from: string, to: string, mode: 'replace' | 'no-replace' | 'exchange'): Applied {
  const source = place(fs, from);
  if (typeof source === 'string') return fail(fs, source);
  const target = place(fs, to);
  if (typeof target === 'string') return fail(fs, target);
  if (source.node === undefined) return fail(fs, 'not_found');
  if (mode === 'exchange') {
    if (target.node === undefined) return fail(fs, 'not_found');
    if (isBelow(fs, target.parent.id, source.node.id) || isBelow(fs, source.parent.id, target.node.id))
      return fail(fs, 'invalid_argument');
    const swapped = setEntry(
      setEntry(fs, source.parent.id, source.name, target.node.id),
      target.parent.id,
      target.name,
      source.node.id,
    );
    return {
      fs: stableInPlaceOf(stableInPlaceOf(swapped, source.node, target.node), target.node, source.node),
      expected: {},
    };
  }
  if (target.node !== undefined && mode === 'no-replace') return fail(fs, 'exists');
  if (isBelow(fs, target.parent.id, source.node.id)) return fail(fs, 'invalid_argument');
  if (target.node === source.node) return { fs, expected: {} };
  if (target.node !== undefined) {
    if (source.node.type === 'directory' && target.node.type !== 'directory') return fail(fs, 'not_directory');
    if (source.node.type !== 'directory' && target.node.type === 'directory') return fail(fs, 'is_directory');
    if (target.node.entries.size > 0) return fail(fs, 'not_empty');
  }
  let next = removeEntry(fs, source.parent.id, source.name);
  if (target.node !== undefined) next = stableInPlaceOf(next, source.node, target.node);
  if (target.node !== undefined) next = dropLink(removeEntry(next, target.parent.id, target.name), target.node.id);
  return { fs: setEntry(next, target.parent.id, target.name, source.node.id), expected: {} };
}

/** D3: what takes the name of a file was made stable first, unless a power loss had come between already. */
function stableInPlaceOf(fs: FileSystem, coming: ModelNode, going: ModelNode): FileSystem {
  return coming.type === 'file' && going.type === 'file' ? synced(fs, coming.id).fs : fs;
}

export function list(fs: FileSystem, path: string): Applied {
  const node = lookup(fs, path);
  if (typeof node === 'string') return fail(fs, node);
  if (node.type !== 'directory') return fail(fs, 'not_directory');
  return { fs, expected: { names: [...node.entries.keys()].sort() } };
}

// ---- operations on nodes ----

/** The node that a lookup or a handle led to; gone when the last name and handle are. */
function living(fs: FileSystem, id: string): ModelNode | undefined {
  return fs.nodes.get(id);
}

export function attributes(fs: FileSystem, id: string): Applied {
  if (living(fs, id) === undefined) return fail(fs, 'stale');
  return { fs, expected: { attributes: attributesOf(fs, id) } };
}

export function read(fs: FileSystem, id: string, offset: number, length: number): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  return {
    fs,
    expected: { bytes: { node, offset, length: Math.max(0, Math.min(length, node.content.size - offset)) } },
  };
}

export function write(
  fs: FileSystem,
  id: string,
  offset: number | 'end',
  bytes: Buffer,
  durability: 'written' | 'stable',
  operation: string,
): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  const at = offset === 'end' ? node.content.size : offset;
  const content = overwrite(node.content, at, bytes);
  const unsynced = durability === 'stable' && node.unsynced.length === 0 ? [] : [...node.unsynced, node.content];
  const doubtful = node.doubtful || (unsynced.length > 0 && fs.putBeforePowerLoss.has(operation));
  return { fs: setNode(fs, { ...node, content, unsynced, doubtful }), expected: { offset: at } };
}

export function resize(fs: FileSystem, id: string, size: number): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  if (node.type !== 'file') return fail(fs, node.type === 'directory' ? 'is_directory' : 'invalid_argument');
  const cut = (content: Content): Content => truncated(content, size);
  const next = setNode(fs, { ...node, content: cut(node.content), unsynced: node.unsynced.map(cut) });
  return { fs: next, expected: { attributes: attributesOf(next, id) } };
}

export function setMode(fs: FileSystem, id: string, mode: number): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  const next = setNode(fs, { ...node, mode });
  return { fs: next, expected: { attributes: attributesOf(next, id) } };
}

export function synced(fs: FileSystem, id: string): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  return {
    fs: node.unsynced.length === 0 || node.doubtful ? fs : setNode(fs, { ...node, unsynced: [] }),
    expected: {},
  };
}

export function readLink(fs: FileSystem, id: string): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  if (node.type !== 'symlink') return fail(fs, 'invalid_argument');
  return { fs, expected: { text: node.target } };
}

export function getXattr(fs: FileSystem, id: string, name: string): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  const value = node.xattrs.get(name);
  return value === undefined ? fail(fs, 'no_attribute') : { fs, expected: { text: value } };
}

export function setXattr(
  fs: FileSystem,
  id: string,
  name: string,
  value: string | undefined,
  mode: 'any' | 'create' | 'replace',
): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  const exists = node.xattrs.has(name);
  if (mode === 'create' && exists) return fail(fs, 'exists');
  if ((mode === 'replace' || value === undefined) && !exists) return fail(fs, 'no_attribute');
  const xattrs = new Map(node.xattrs);
  if (value === undefined) xattrs.delete(name);
  else xattrs.set(name, value);
  return { fs: setNode(fs, { ...node, xattrs }), expected: {} };
}

export function listXattrs(fs: FileSystem, id: string): Applied {
  const node = living(fs, id);
  if (node === undefined) return fail(fs, 'stale');
  return { fs, expected: { names: [...node.xattrs.keys()].sort() } };
}

export function closeHandle(fs: FileSystem, handle: string): FileSystem {
  const id = fs.handles.get(handle);
  if (id === undefined) return fs;
  const handles = new Map(fs.handles);
  handles.delete(handle);
  return dropWhenUnused({ ...fs, handles }, id);
}

// ---- faults ----

/** Nodes lost power: what was only written may show any of its earlier contents, block by block. */
export function nodesLostPower(fs: FileSystem, put: readonly string[]): FileSystem {
  let next: FileSystem = { ...fs, putBeforePowerLoss: new Set([...fs.putBeforePowerLoss, ...put]) };
  for (const node of fs.nodes.values())
    if (node.unsynced.length > 0 && !node.doubtful) next = setNode(next, { ...node, doubtful: true });
  return next;
}

/** Everything that was written is stable by now, as the disks show. */
export function allSynced(fs: FileSystem): FileSystem {
  let next = fs;
  for (const node of fs.nodes.values())
    if (node.unsynced.length > 0 && !node.doubtful) next = setNode(next, { ...node, unsynced: [] });
  return next;
}

// ---- contents ----

export function overwrite(content: Content, offset: number, bytes: Buffer): Content {
  const end = offset + bytes.length;
  const pieces: Piece[] = [];
  for (const piece of content.pieces) {
    const pieceEnd = piece.offset + piece.bytes.length;
    if (piece.offset < offset)
      pieces.push({
        offset: piece.offset,
        bytes: piece.bytes.subarray(0, Math.min(piece.bytes.length, offset - piece.offset)),
      });
    if (pieceEnd > end) {
      const from = Math.max(piece.offset, end);
      pieces.push({ offset: from, bytes: piece.bytes.subarray(from - piece.offset) });
    }
  }
  if (bytes.length > 0) pieces.push({ offset, bytes });
  pieces.sort((a, b) => a.offset - b.offset);
  return { size: Math.max(content.size, end), pieces };
}

export function truncated(content: Content, size: number): Content {
  const pieces: Piece[] = [];
  for (const piece of content.pieces)
    if (piece.offset < size) pieces.push({ offset: piece.offset, bytes: piece.bytes.subarray(0, size - piece.offset) });
  return { size, pieces };
}

export function bytesOf(content: Content, offset: number, length: number): Buffer {
  const out = Buffer.alloc(length);
  for (const piece of content.pieces) {
    const from = Math.max(offset, piece.offset);
    const to = Math.min(offset + length, piece.offset + piece.bytes.length);
    if (from < to) piece.bytes.copy(out, from - offset, from - piece.offset, to - piece.offset);
  }
  return out;
}

/** Whether these bytes may be read: those of the content, or after a power loss block by block those of an earlier one. */
export function mayRead(node: ModelNode, offset: number, bytes: Buffer): boolean {
  if (bytesOf(node.content, offset, bytes.length).equals(bytes)) return true;
  if (!node.doubtful) return false;
  const versions = [node.content, ...node.unsynced].map((content) => bytesOf(content, offset, bytes.length));
  return bytes.every((byte, i) => versions.some((version) => version[i] === byte));
}

export function firstDifference(node: ModelNode, offset: number, bytes: Buffer): string {
  const wanted = bytesOf(node.content, offset, bytes.length);
  const at = wanted.findIndex((byte, i) => byte !== bytes[i]);
  const show = (buffer: Buffer): string => buffer.subarray(at, at + 8).toString('hex');
  const place = `offset ${offset + at} (block ${Math.floor((offset + at) / BLOCK_BYTES)})`;
  return `${place}: wanted ${show(wanted)}, found ${show(bytes)}`;
}

// ---- making and changing nodes ----

export function newNode(id: string, type: NodeType, mode: number, with_: Partial<ModelNode> = {}): ModelNode {
  return {
    id,
    type,
    mode,
    links: 0,
    entries: NO_ENTRIES,
    target: '',
    content: EMPTY,
    unsynced: [],
    doubtful: false,
    xattrs: NO_XATTRS,
    ...with_,
  };
}

export function attributesOf(fs: FileSystem, id: string): ExpectedAttributes {
  const node = must(fs, id);
  const same = { id, type: node.type, mode: node.mode };
  if (node.type === 'directory') return { ...same, entries: node.entries.size };
  if (node.type === 'symlink') return { ...same, links: node.links };
  return { ...same, size: node.content.size, links: node.links };
}

export function setNode(fs: FileSystem, node: ModelNode): FileSystem {
  const nodes = new Map(fs.nodes);
  nodes.set(node.id, node);
  return { ...fs, nodes };
}

export function must(fs: FileSystem, id: string): ModelNode {
  const node = fs.nodes.get(id);
  if (node === undefined) throw new Error(`The model names the node ${id}, which it does not have`);
  return node;
}

function addEntry(fs: FileSystem, parent: ModelNode, name: string, node: ModelNode): FileSystem {
  return setEntry(setNode(fs, node), parent.id, name, node.id);
}

function setEntry(fs: FileSystem, parentId: string, name: string, id: string): FileSystem {
  const parent = must(fs, parentId);
  return setNode(fs, { ...parent, entries: new Map([...parent.entries, [name, id]]) });
}

function removeEntry(fs: FileSystem, parentId: string, name: string): FileSystem {
  const parent = must(fs, parentId);
  const entries = new Map(parent.entries);
  entries.delete(name);
  return setNode(fs, { ...parent, entries });
}

function dropLink(fs: FileSystem, id: string): FileSystem {
  const node = must(fs, id);
  return dropWhenUnused(setNode(fs, { ...node, links: node.links - 1 }), id);
}

function dropWhenUnused(fs: FileSystem, id: string): FileSystem {
  const node = fs.nodes.get(id);
  if (node === undefined || node.links > 0) return fs;
  for (const open of fs.handles.values()) if (open === id) return fs;
  const nodes = new Map(fs.nodes);
  nodes.delete(id);
  return { ...fs, nodes };
}

function isBelow(fs: FileSystem, id: string, ancestor: string): boolean {
  if (id === ancestor) return true;
  const above = must(fs, ancestor);
  return above.type === 'directory' && [...above.entries.values()].some((child) => isBelow(fs, id, child));
}
