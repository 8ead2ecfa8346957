/** What clients were answered, and whether it is what the model expects. */
import { type Expected, type FileSystem, firstDifference, mayRead, setNode } from './model-files.ts';

export interface AnsweredAttributes {
  readonly inode: number;
  readonly type: string;
  readonly mode: number;
  readonly size: number;
  readonly links: number;
  readonly entries: number;
}

export type Answer =
  | { readonly kind: 'error'; readonly code: string }
  | {
      readonly kind: 'ok';
      readonly attributes?: AnsweredAttributes;
      readonly bytes?: Buffer;
      readonly names?: readonly string[];
      readonly text?: string;
      readonly offset?: number;
    };

/** The state with what the answer taught (inode numbers), or why the answer is wrong. */
export function match(fs: FileSystem, expected: Expected, answer: Answer): FileSystem | string {
  if ('error' in expected) {
    if (answer.kind === 'error' && sameError(expected.error, answer.code)) return fs;
    // A node without names may be there a little longer, while it is not known whether somebody has it open.
    const hasNames = answer.kind === 'error' || answer.bytes !== undefined || (answer.attributes?.links ?? 0) > 0;
    if (expected.error === 'stale' && !hasNames) return fs;
    return `error ${expected.error}`;
  }
  if (answer.kind === 'error') return `success ${showExpected(expected)}`;
  if (expected.names !== undefined && expected.names.join('\n') !== answer.names?.join('\n'))
    return `names [${expected.names.join(' ')}]`;
  if (expected.text !== undefined && expected.text !== answer.text) return `'${expected.text}'`;
  if (expected.offset !== undefined && answer.offset !== undefined && expected.offset !== answer.offset)
    return `offset ${expected.offset}`;
  if (expected.bytes !== undefined) {
    const { node, offset, length } = expected.bytes;
    if (answer.bytes?.length !== length) return `${length} bytes`;
    if (!mayRead(node, offset, answer.bytes)) return `other bytes at ${firstDifference(node, offset, answer.bytes)}`;
  }
  if (expected.attributes === undefined || answer.attributes === undefined) return fs;
  const wanted = expected.attributes;
  const got = answer.attributes;
  const same =
    got.type === wanted.type &&
    got.mode === wanted.mode &&
    got.size === (wanted.size ?? got.size) &&
    got.links === (wanted.links ?? got.links) &&
    got.entries === (wanted.entries ?? got.entries);
  if (!same) return showExpected(expected);
  return learnInode(fs, wanted.id, got.inode);
}

/** Whether a change that was made again, late, ended as it was answered, in all that its client builds upon (M4). */
export function endsAlike(fs: FileSystem, expected: Expected, answer: Answer): boolean {
  if ('error' in expected || answer.kind === 'error')
    return 'error' in expected && answer.kind === 'error' && sameError(expected.error, answer.code);
  if (expected.offset !== undefined && answer.offset !== undefined && expected.offset !== answer.offset) return false;
  if (expected.attributes === undefined || answer.attributes === undefined) return true;
  return typeof learnInode(fs, expected.attributes.id, answer.attributes.inode) !== 'string';
}

export function learnInode(fs: FileSystem, id: string, inode: number): FileSystem | string {
  const node = fs.nodes.get(id);
  if (node === undefined || node.inode === inode) return fs;
  if (node.inode !== undefined) return `inode ${node.inode} for ${id}`;
  for (const other of fs.nodes.values())
    if (other.inode === inode) return `another inode than ${inode}, which ${other.id} has`;
  return setNode(fs, { ...node, inode });
}

/** A node that is gone may be told as missing or as stale. */
function sameError(expected: string, code: string): boolean {
  return expected === code || (expected === 'stale' && code === 'not_found');
}

export function showExpected(expected: Expected): string {
  if ('error' in expected) return `error ${expected.error}`;
  return JSON.stringify({
    ...expected.attributes,
    names: expected.names,
    offset: expected.offset,
    text: expected.text,
  });
}

export function showAnswer(answer: Answer): string {
  if (answer.kind === 'error') return `error ${answer.code}`;
  const bytes = answer.bytes === undefined ? undefined : `${answer.bytes.length} bytes`;
  return JSON.stringify({ ...answer, kind: undefined, bytes });
}
