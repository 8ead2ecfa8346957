/**
 * Decides whether the answers that clients got can be explained: is there an order of all operations, each taking effect at
 * one moment between its call and its answer (path calls: one moment per step), that gives exactly these answers?
 *
 * It keeps every explanation that is still possible. An operation whose answer never came stays open: it may take effect at
 * any later moment, or never. A client that caches may be answered from an older moment, but from none older than what had
 * been acknowledged to anybody when it asked (M7: no stale read after close or fsync by another).
 *
 * Each explanation remembers its moments back to the last stable one: a power loss goes back to any of them, and then what
 * living clients had been answered comes again, with the same outcome (M4).
 */
import { crc32 } from '@collective/base/crc';
import {
  type Applied,
  type Expected,
  type FileSystem,
  firstDifference,
  type ModelNode,
  mayRead,
  setNode,
} from './model-files.ts';

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

/** A step either ends the operation or binds a node for the next step. */
export type StepOutcome = Applied | { readonly fs: FileSystem; readonly bound: string };
export type Step = (fs: FileSystem, bound: string) => StepOutcome;

export interface ModelOperation {
  readonly id: string;
  readonly client: string;
  /** For the trace. */
  readonly text: string;
  readonly steps: readonly Step[];
  /** Steps that only read may be answered from the cache of a client that caches. */
  readonly cached: boolean;
  readonly reads: readonly boolean[];
  /** What it may touch in this state: two operations without a common key may take effect in either order. */
  readonly touches: (fs: FileSystem) => readonly string[];
}

interface Fate {
  readonly operation: ModelOperation;
  readonly invokedAt: number;
  answer: Answer | undefined;
  answeredAt: number;
  stable: boolean;
}

interface Progress {
  readonly step: number;
  readonly bound: string;
  readonly expected: Expected | undefined;
}

/** The state after an operation took effect, and how it came there. */
interface Moment {
  readonly fs: FileSystem;
  readonly chainKey: number;
  readonly operation: string;
  /** Cut where nobody can go back to. */
  before: Moment | undefined;
}

interface Explanation {
  readonly tip: Moment;
  readonly progress: ReadonlyMap<string, Progress>;
}

const EXPLANATIONS_MAX = 20_000;
const NOT_BEGUN: Progress = { step: 0, bound: '', expected: undefined };

export class Unexplained extends Error {}

export class History {
  #explanations: Explanation[];
  /** Called and not answered; those of dead clients too. */
  readonly #open = new Map<string, Fate>();
  /** Every operation that a moment may still name. */
  readonly #fates = new Map<string, Fate>();
  #serial = 0;

  constructor(start: FileSystem) {
    this.#explanations = [{ tip: firstMoment(start), progress: new Map() }];
  }

  get explanations(): number {
    return this.#explanations.length;
  }

  /** Operations whose outcome is not known. */
  get open(): number {
    return this.#open.size;
  }

  /** A state that may be the present one; for drawing operations that make sense. */
  get possible(): FileSystem {
    const [first] = this.#explanations;
    if (first === undefined) throw new Unexplained('There is no explanation left');
    return first.tip.fs;
  }

  invoke(operation: ModelOperation): void {
    const fate: Fate = {
      operation,
      invokedAt: ++this.#serial,
      answer: undefined,
      answeredAt: Number.POSITIVE_INFINITY,
      stable: false,
    };
    this.#open.set(operation.id, fate);
    this.#fates.set(operation.id, fate);
  }

  respond(id: string, answer: Answer, stable: boolean): void {
    const fate = this.#fateOf(id);
    const found = new Map<string, Explanation>();
    const seen = new Set<string>();
    const wrong: string[] = [];
    for (const explanation of this.#explanations) this.#explain(explanation, fate, answer, found, seen, wrong);
    if (found.size === 0) {
      throw new Unexplained(
        `No order of the operations explains this answer of ${fate.operation.client}:\n  ${fate.operation.text}\n  answered ${showAnswer(answer)}\n` +
          `  but the model says ${[...new Set(wrong)].slice(0, 6).join('\n  or ')}\n  open: ${this.#showOpen(id)}`,
      );
    }
    fate.answer = answer;
    fate.answeredAt = ++this.#serial;
    fate.stable = stable;
    this.#open.delete(id);
    this.#explanations = [...found.values()];
    this.#trim();
  }

  /** The client can tell for sure that it never took effect and never will. */
  withdraw(id: string): void {
    this.#open.delete(id);
    this.#explanations = this.#explanations
      .filter(({ progress }) => !(progress.get(id)?.step ?? 0))
      .map(({ tip, progress }) => ({ tip, progress: without(progress, id) }));
  }

  /** What nobody can still be asked for: open operations of dead clients and given-up ones end here, done or not. */
  forgetOpen(): void {
    for (const id of this.#open.keys()) this.#open.delete(id);
    this.#explanations = distinct(this.#explanations.map(({ tip }) => ({ tip, progress: new Map() })));
  }

  change(apply: (fs: FileSystem) => FileSystem): void {
    this.#explanations = distinct(
      this.#explanations.map(({ tip, progress }) => ({ tip: replaceFs(tip, apply), progress })),
    );
  }

  /** The disks show that everything acknowledged so far is stable. */
  allStable(): void {
    for (const fate of this.#fates.values()) if (fate.answer !== undefined) fate.stable = true;
    this.#trim();
  }

  /**
   * The coordinator lost power. What was not stable may be gone from its end backwards; operations of clients that live
   * come again in their order, and those that had been answered must have the same outcome.
   */
  lostPower(lives: (client: string) => boolean): void {
    const found = new Map<string, Explanation>();
    for (const { tip, progress } of this.#explanations) {
      const chain = chainOf(tip);
      // From the newest moment back to the first that a stable acknowledgement rests on.
      for (let kept = chain.length - 1; kept >= 0; kept--) {
        const replayed = this.#replay(chain, kept, progress, lives);
        if (replayed !== undefined) found.set(keyOf(replayed), replayed);
        const operation = chain[kept]?.operation ?? '';
        if (operation === '' || this.#fates.get(operation)?.stable === true) break;
      }
    }
    if (found.size === 0)
      throw new Unexplained('After the power loss no prefix of the log lets all answered operations come again');
    this.#explanations = [...found.values()];
  }

  /** All explanations in which the present state is accepted, with every open operation done or not done. */
  observe(accepts: (fs: FileSystem) => FileSystem | string): void {
    const found = new Map<string, Explanation>();
    const seen = new Set<string>();
    const wrong = new Set<string>();
    const visit = (explanation: Explanation): void => {
      const key = keyOf(explanation);
      if (seen.has(key)) return;
      seen.add(key);
      this.#checkNumber(seen.size);
      const fs = accepts(explanation.tip.fs);
      if (typeof fs === 'string') wrong.add(fs);
      else {
        const accepted = { tip: { ...explanation.tip, fs }, progress: new Map<string, Progress>() };
        found.set(keyOf(accepted), accepted);
      }
      for (const fate of this.#open.values()) for (const next of this.#advance(explanation, fate)) visit(next);
    };
    for (const explanation of this.#explanations) visit(explanation);
    if (found.size === 0)
      throw new Unexplained(
        `No explanation has the state that was found at last:\n  ${[...wrong].slice(0, 8).join('\n  or ')}\n  open: ${this.#showOpen('')}`,
      );
    this.#open.clear();
    this.#explanations = distinct(
      [...found.values()].map(({ tip }) => ({ tip: firstMoment(tip.fs), progress: new Map() })),
    );
    this.#fates.clear();
  }

  #explain(
    explanation: Explanation,
    fate: Fate,
    answer: Answer,
    found: Map<string, Explanation>,
    seen: Set<string>,
    wrong: string[],
  ): void {
    const key = keyOf(explanation);
    if (seen.has(key)) return;
    seen.add(key);
    this.#checkNumber(seen.size);
    const { id } = fate.operation;
    const expected = explanation.progress.get(id)?.expected;
    if (expected !== undefined) {
      const fs = match(explanation.tip.fs, expected, answer);
      if (typeof fs === 'string') {
        wrong.push(fs);
        return;
      }
      const explained = { tip: { ...explanation.tip, fs }, progress: without(explanation.progress, id) };
      found.set(keyOf(explained), explained);
      return;
    }
    // Others take effect before it only where the order can matter; else they can wait for their own answers.
    for (const each of this.#related(explanation, fate))
      for (const next of this.#advance(explanation, each)) this.#explain(next, fate, answer, found, seen, wrong);
  }

  /** The operation and all open ones that touch what it touches, directly or through others. */
  #related({ tip, progress }: Explanation, fate: Fate): Fate[] {
    const related = [fate];
    const keys = new Set(fate.operation.touches(tip.fs));
    const others = [...this.#open.values()].filter(
      (each) => each !== fate && progress.get(each.operation.id)?.expected === undefined,
    );
    for (let grew = true; grew; ) {
      grew = false;
      for (const [at, other] of others.entries()) {
        const bound = progress.get(other.operation.id)?.bound ?? '';
        const touched = [...other.operation.touches(tip.fs), bound];
        if (!touched.some((key) => keys.has(key))) continue;
        for (const key of touched) if (key !== '') keys.add(key);
        related.push(other);
        others.splice(at, 1);
        grew = true;
        break;
      }
    }
    return related;
  }

  /** Everything that the next step of an operation may do here. */
  #advance({ tip, progress }: Explanation, fate: Fate): Explanation[] {
    const { operation } = fate;
    const at = progress.get(operation.id) ?? NOT_BEGUN;
    const step = operation.steps[at.step];
    if (at.expected !== undefined || step === undefined) return [];
    const results: Explanation[] = [];
    const present = step(tip.fs, at.bound);
    results.push(advanced(tip, progress, operation.id, at, present, present.fs));
    if (operation.cached && operation.reads[at.step] === true) {
      for (const old of this.#momentsNotOlderThan(tip, fate.invokedAt)) {
        const cached = step(old.fs, at.bound);
        results.push(advanced(tip, progress, operation.id, at, cached, tip.fs));
      }
    }
    return results;
  }

  /** Earlier moments that lack only what had not been acknowledged when the reader asked. */
  #momentsNotOlderThan(tip: Moment, askedAt: number): Moment[] {
    const moments: Moment[] = [];
    for (let moment: Moment | undefined = tip; moment?.before !== undefined; moment = moment.before) {
      if ((this.#fates.get(moment.operation)?.answeredAt ?? 0) < askedAt) break;
      moments.push(moment.before);
    }
    return moments;
  }

  #replay(
    chain: readonly Moment[],
    kept: number,
    progress: ReadonlyMap<string, Progress>,
    lives: (client: string) => boolean,
  ): Explanation | undefined {
    let tip = chain[kept];
    if (tip === undefined) return undefined;
    let left = new Map(progress);
    for (const { operation: id } of chain.slice(kept + 1)) {
      const fate = this.#fates.get(id);
      if (fate === undefined) continue;
      left = new Map(left);
      left.delete(id);
      // Not answered: whoever lives sends it again, and it takes effect when it does.
      if (fate.answer === undefined || !lives(fate.operation.client)) continue;
      let bound = '';
      let fs = tip.fs;
      let expected: Expected | undefined;
      for (const step of fate.operation.steps) {
        const outcome = step(fs, bound);
        fs = outcome.fs;
        if ('bound' in outcome) bound = outcome.bound;
        else {
          expected = outcome.expected;
          break;
        }
      }
      const matched = expected === undefined ? 'unfinished' : match(fs, expected, fate.answer);
      if (typeof matched === 'string') return undefined;
      tip = nextMoment(tip, matched, id);
    }
    return { tip, progress: left };
  }

  #trim(): void {
    let oldestAsked = Number.POSITIVE_INFINITY;
    for (const { invokedAt } of this.#open.values()) oldestAsked = Math.min(oldestAsked, invokedAt);
    const named = new Set<string>();
    for (const { tip, progress } of this.#explanations) {
      let firm = false;
      for (let moment: Moment | undefined = tip; moment !== undefined; moment = moment.before) {
        const fate = this.#fates.get(moment.operation);
        if (fate?.stable !== false) firm = true;
        // What no open reader may miss and no power loss may take is the floor.
        if (firm && (fate?.answeredAt ?? 0) < oldestAsked) moment.before = undefined;
        named.add(moment.operation);
      }
      for (const id of progress.keys()) named.add(id);
    }
    for (const id of this.#fates.keys()) if (!named.has(id) && !this.#open.has(id)) this.#fates.delete(id);
    this.#explanations = distinct(this.#explanations.map((each) => ({ ...each, tip: rekeyed(each.tip) })));
  }

  #fateOf(id: string): Fate {
    const fate = this.#open.get(id);
    if (fate === undefined) throw new Error(`The operation ${id} was not called, or answered before`);
    return fate;
  }

  #checkNumber(seen: number): void {
    if (seen > EXPLANATIONS_MAX)
      throw new Error(
        `More than ${EXPLANATIONS_MAX} explanations with ${this.#open.size} open operations: observe more often`,
      );
  }

  #showOpen(but: string): string {
    const open = [...this.#open.values()].filter(({ operation }) => operation.id !== but);
    return open.length === 0 ? 'none' : open.map(({ operation }) => `${operation.client} ${operation.text}`).join('; ');
  }
}

function advanced(
  tip: Moment,
  progress: ReadonlyMap<string, Progress>,
  id: string,
  at: Progress,
  outcome: StepOutcome,
  fs: FileSystem,
): Explanation {
  const next: Progress =
    'bound' in outcome
      ? { step: at.step + 1, bound: outcome.bound, expected: undefined }
      : { step: at.step + 1, bound: at.bound, expected: outcome.expected };
  return { tip: fs === tip.fs ? tip : nextMoment(tip, fs, id), progress: new Map([...progress, [id, next]]) };
}

/** The state with what the answer taught (inode numbers), or why the answer is wrong. */
function match(fs: FileSystem, expected: Expected, answer: Answer): FileSystem | string {
  if ('error' in expected) {
    if (answer.kind === 'error' && sameError(expected.error, answer.code)) return fs;
    return `error ${expected.error}`;
  }
  if (answer.kind === 'error' && answer.code === expected.orError) return fs;
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

function showExpected(expected: Expected): string {
  if ('error' in expected) return `error ${expected.error}`;
  return JSON.stringify({
    ...expected.attributes,
    names: expected.names,
    offset: expected.offset,
    text: expected.text,
  });
}

function showAnswer(answer: Answer): string {
  if (answer.kind === 'error') return `error ${answer.code}`;
  const bytes = answer.bytes === undefined ? undefined : `${answer.bytes.length} bytes`;
  return JSON.stringify({ ...answer, kind: undefined, bytes });
}

// ---- moments ----

function firstMoment(fs: FileSystem): Moment {
  return { fs, chainKey: 0, operation: '', before: undefined };
}

function nextMoment(before: Moment, fs: FileSystem, operation: string): Moment {
  return {
    fs,
    operation,
    before,
    chainKey: crc32(Buffer.from(`${before.chainKey} ${operation} ${keyOfFs(before.fs)}`)),
  };
}

function rekeyed(moment: Moment): Moment {
  if (moment.before === undefined) return moment.chainKey === 0 ? moment : { ...moment, chainKey: 0 };
  const before = rekeyed(moment.before);
  const next = nextMoment(before, moment.fs, moment.operation);
  return next;
}

function chainOf(tip: Moment): Moment[] {
  const chain: Moment[] = [];
  for (let moment: Moment | undefined = tip; moment !== undefined; moment = moment.before) chain.push(moment);
  return chain.reverse();
}

function replaceFs(moment: Moment, apply: (fs: FileSystem) => FileSystem): Moment {
  const before = moment.before === undefined ? undefined : replaceFs(moment.before, apply);
  const fs = apply(moment.fs);
  return before === undefined ? { ...moment, fs } : nextMoment(before, fs, moment.operation);
}

function without(progress: ReadonlyMap<string, Progress>, id: string): ReadonlyMap<string, Progress> {
  if (!progress.has(id)) return progress;
  const rest = new Map(progress);
  rest.delete(id);
  return rest;
}

function distinct(explanations: readonly Explanation[]): Explanation[] {
  return [...new Map(explanations.map((each) => [keyOf(each), each])).values()];
}

// ---- keys ----

function keyOf({ tip, progress }: Explanation): string {
  const parts: (string | number)[] = [keyOfFs(tip.fs), tip.chainKey];
  for (const id of [...progress.keys()].sort()) {
    const at = progress.get(id);
    if (at !== undefined)
      parts.push(id, at.step, at.bound, at.expected === undefined ? '' : keyOfExpected(at.expected));
  }
  return parts.join('|');
}

const fsKeys = new WeakMap<FileSystem, number>();
const nodeKeys = new WeakMap<ModelNode, string>();
const expectedKeys = new WeakMap<object, string>();

function keyOfFs(fs: FileSystem): number {
  let key = fsKeys.get(fs);
  if (key === undefined) {
    const parts = [...fs.nodes.values()].map(keyOfNode).sort();
    for (const [handle, id] of fs.handles) parts.push(`${handle}=${id}`);
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
      node.replacedBy,
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
