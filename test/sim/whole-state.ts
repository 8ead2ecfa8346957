/**
 * Reads the whole tree through a fresh session, and compares it with a state of the model: names, types, modes, link counts,
 * identity of inodes, contents, link targets, attributes. What a power loss left open is settled by what is found.
 */
import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import { answered } from './actions.ts';
import { type AnsweredAttributes, learnInode } from './model-answers.ts';
import { bytesOf, type FileSystem, firstDifference, mayRead, must, ROOT_ID, setNode } from './model-files.ts';

export interface FoundNode {
  readonly attributes: AnsweredAttributes;
  readonly entries: ReadonlyMap<string, FoundNode>;
  /** Unset for all but files; an error when no replica could be read. */
  readonly content: Buffer | CollectiveError | undefined;
  readonly target: string | undefined;
  readonly xattrs: ReadonlyMap<string, string>;
}

const NOTHING: ReadonlyMap<string, FoundNode> = new Map();

export async function readWholeState(files: Files, signal: AbortSignal): Promise<FoundNode> {
  return readNode(files, '', answered(await files.lstat('/', { signal })), signal);
}

async function readNode(
  files: Files,
  path: string,
  attributes: AnsweredAttributes,
  signal: AbortSignal,
): Promise<FoundNode> {
  const entries = new Map<string, FoundNode>();
  let content: FoundNode['content'];
  let target: string | undefined;
  const xattrs = new Map<string, string>();
  if (attributes.type === 'directory') {
    const names: string[] = [];
    for await (const entry of files.list(path === '' ? '/' : path, { signal, attributes: false }))
      names.push(entry.name);
    for (const name of names.sort()) {
      const child = `${path}/${name}`;
      entries.set(name, await readNode(files, child, answered(await files.lstat(child, { signal })), signal));
    }
  } else if (attributes.type === 'symlink') {
    target = await files.readlink(path, { signal });
  } else {
    content = await readContent(files, path, signal);
    for (const name of await files.listXattrs(path, { signal }))
      xattrs.set(name, (await files.getXattr(path, name, { signal })).toString());
  }
  return { attributes, entries: entries.size === 0 ? NOTHING : entries, content, target, xattrs };
}

async function readContent(files: Files, path: string, signal: AbortSignal): Promise<Buffer | CollectiveError> {
  try {
    return await files.readAll(path, { signal });
  } catch (thrown) {
    if (thrown instanceof CollectiveError && thrown.code === 'chunk_missing') return thrown;
    throw thrown;
  }
}

/** The state with what was found, or what differs. */
export function acceptWholeState(fs: FileSystem, found: FoundNode): FileSystem | string {
  return accept(fs, ROOT_ID, '/', found);
}

function accept(start: FileSystem, id: string, path: string, found: FoundNode): FileSystem | string {
  let fs = start;
  const node = must(fs, id);
  const { attributes } = found;
  if (attributes.type !== node.type) return `${path} is a ${node.type}, found a ${attributes.type}`;
  if (node.id !== ROOT_ID && attributes.mode !== node.mode)
    return `${path} has mode ${node.mode.toString(8)}, found ${attributes.mode.toString(8)}`;
  const learnt = learnInode(fs, id, attributes.inode);
  if (typeof learnt === 'string') return `${path} has ${learnt}, found ${attributes.inode}`;
  fs = learnt;
  if (node.type === 'directory') {
    const wanted = [...node.entries.keys()].sort().join(' ');
    const names = [...found.entries.keys()].sort().join(' ');
    if (wanted !== names) return `${path} holds [${wanted}], found [${names}]`;
    if (attributes.entries !== node.entries.size)
      return `${path} counts ${attributes.entries} of ${node.entries.size} entries`;
    for (const [name, childId] of node.entries) {
      const child = found.entries.get(name);
      if (child === undefined) continue;
      const accepted = accept(fs, childId, `${path === '/' ? '' : path}/${name}`, child);
      if (typeof accepted === 'string') return accepted;
      fs = accepted;
    }
    return fs;
  }
  if (attributes.links !== node.links) return `${path} has ${node.links} links, found ${attributes.links}`;
  if (node.type === 'symlink')
    return found.target === node.target ? fs : `${path} leads to ${node.target}, found ${found.target}`;
  const xattrs = (map: ReadonlyMap<string, string>): string => [...map].sort().join(' ');
  if (xattrs(node.xattrs) !== xattrs(found.xattrs))
    return `${path} has [${xattrs(node.xattrs)}], found [${xattrs(found.xattrs)}]`;
  if (attributes.size !== node.content.size) return `${path} has ${node.content.size} bytes, found ${attributes.size}`;
  if (found.content instanceof CollectiveError)
    return node.doubtful ? fs : `${path} can be read, found ${found.content.message}`;
  const content = found.content ?? Buffer.alloc(0);
  if (content.length !== node.content.size) return `${path} has ${node.content.size} bytes, read ${content.length}`;
  if (!mayRead(node, 0, content)) return `${path} holds other bytes at ${firstDifference(node, 0, content)}`;
  const settled = node.doubtful && !bytesOf(node.content, 0, content.length).equals(content);
  return setNode(fs, {
    ...must(fs, id),
    content: settled ? { size: content.length, pieces: [{ offset: 0, bytes: content }] } : node.content,
    unsynced: [],
    doubtful: false,
  });
}
