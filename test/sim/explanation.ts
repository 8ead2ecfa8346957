/**
 * One explanation of the answers so far: an order in which changes took effect, as moments, with what is still under way. Values;
 * each step of the judge makes new ones. The keys say which explanations need not be told apart.
 */
import { crc32 } from '@collective/base/crc';
import { type Answer, showExpected } from './model-answers.ts';
import type { Expected, FileSystem, ModelNode } from './model-files.ts';
import type { ModelOperation } from './model-operation.ts';

/** Of a moment in the history's count that has not come. */
export const NOT_YET = Number.POSITIVE_INFINITY;

/** What is known of an operation, in all explanations. */
export interface Fate {
  readonly operation: ModelOperation;
  readonly invokedAt: number;
  answer: Answer | undefined;
  answeredAt: number;
  stable: boolean;
  /** When it was known that nothing of it waits to be made again after a power loss; NOT_YET while something may (M4). */
  settledAt: number;
}

/** An open operation that has begun to take effect; `expected` is set when all its steps are done. */
export interface Progress {
  readonly step: number;
  readonly bound: string;
  readonly expected: Expected | undefined;
}

/** A change of one step, and the state after it. */
export interface Moment {
  readonly fs: FileSystem;
  readonly operation: string;
  readonly step: number;
  /** What the step was done to. */
  readonly bound: string;
  /** When somebody had been answered who had seen this moment or a later one: nobody who asks after that may see an earlier one. */
  readonly seenAt: number;
  /** When the power was lost after which it was made again; 0: it is of the first time. */
  readonly againAfter: number;
  /** Another client was answered what rests on it, and nothing leaves before its ground is firm (M4): it cannot be lost any more. */
  readonly firm: boolean;
}

/** A change that was answered and lost, and is made again some time, by then perhaps with another outcome. */
export type Owed = Pick<Moment, 'operation' | 'step' | 'bound'>;

export interface Explanation {
  /** From the last to which a power loss or a slow reader can go back, to the present. */
  readonly moments: readonly Moment[];
  readonly progress: ReadonlyMap<string, Progress>;
  readonly owed: readonly Owed[];
  /** Operations that were made again with another outcome: their clients must be told. */
  readonly differing: readonly string[];
}

export function startOf(fs: FileSystem): Explanation {
  const first: Moment = { fs, operation: '', step: 0, bound: '', seenAt: 0, againAfter: 0, firm: true };
  return { moments: [first], progress: new Map(), owed: [], differing: [] };
}

export function tipOf({ moments }: Explanation): Moment {
  const tip = moments.at(-1);
  if (tip === undefined) throw new Error('An explanation has at least one moment');
  return tip;
}

export function without(progress: ReadonlyMap<string, Progress>, id: string): ReadonlyMap<string, Progress> {
  if (!progress.has(id)) return progress;
  const rest = new Map(progress);
  rest.delete(id);
  return rest;
}

/** `oldestAsked`: when the oldest open operation was called. */
export function distinct(explanations: readonly Explanation[], oldestAsked: number): Explanation[] {
  return [...new Map(explanations.map((each) => [keyOf(each, oldestAsked), each])).values()];
}

// ---- keys ----

export function keyOf({ moments, progress, owed, differing }: Explanation, oldestAsked: number): string {
  const parts = [keyOfProgress(progress)];
  for (const [i, { fs, operation, step, seenAt, againAfter, firm }] of moments.entries()) {
    // How a state came about does not matter once nobody can go back behind it.
    if (i > 0) parts.push(`${operation} ${step} ${againAfter} ${firm} ${seenAt < oldestAsked ? 0 : seenAt}`);
    parts.push(String(keyOfFs(fs)));
  }
  return `${parts.join('|')}${keyOfOwed(owed, differing)}`;
}

export function keyOfPresent(explanation: Explanation): string {
  const { progress, owed, differing } = explanation;
  return `${keyOfFs(tipOf(explanation).fs)}|${keyOfProgress(progress)}${keyOfOwed(owed, differing)}`;
}

function keyOfOwed(owed: readonly Owed[], differing: readonly string[]): string {
  if (owed.length === 0 && differing.length === 0) return '';
  return `|owes ${owed.map(({ operation, step }) => `${operation} ${step}`).join(',')}|differs ${differing.join(',')}`;
}

function keyOfProgress(progress: ReadonlyMap<string, Progress>): string {
  const parts: (string | number)[] = [];
  for (const id of [...progress.keys()].sort()) {
    const at = progress.get(id);
    if (at !== undefined)
      parts.push(id, at.step, at.bound, at.expected === undefined ? '' : keyOfExpected(at.expected));
  }
  return parts.join(' ');
}

const fsKeys = new WeakMap<FileSystem, number>();
const nodeKeys = new WeakMap<ModelNode, string>();
const expectedKeys = new WeakMap<object, string>();

export function keyOfFs(fs: FileSystem): number {
  let key = fsKeys.get(fs);
  if (key === undefined) {
    const parts = [...fs.nodes.values()].map(keyOfNode).sort();
    parts.push([...fs.handles].sort().join(';'));
    key = crc32(Buffer.from(parts.join('\n'))) * 2 ** 20 + (parts.length % 2 ** 20);
    fsKeys.set(fs, key);
  }
  return key;
}

function keyOfNode(node: ModelNode): string {
  let key = nodeKeys.get(node);
  if (key === undefined) {
    const content = (pieces: ModelNode['content']): string =>
      `${pieces.size}:${pieces.pieces.map((piece) => `${piece.offset}+${crc32(piece.bytes)}`).join(',')}`;
    key = [
      node.id,
      node.mode,
      node.links,
      node.inode,
      [...node.entries].sort().join(';'),
      node.target,
      content(node.content),
      node.unsynced.map(content).join('/'),
      node.doubtful,
      [...node.xattrs].sort().join(';'),
    ].join(' ');
    nodeKeys.set(node, key);
  }
  return key;
}

function keyOfExpected(expected: Expected): string {
  let key = expectedKeys.get(expected);
  if (key === undefined) {
    key =
      'error' in expected
        ? expected.error
        : `${showExpected(expected)}${expected.bytes === undefined ? '' : keyOfNode(expected.bytes.node)}`;
    expectedKeys.set(expected, key);
  }
  return key;
}
