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

/** What an operation has to do with a name, a folder's list or a node. Two that only add to a list do not disturb each other. */
export interface Touch {
  readonly key: string;
  readonly how: 'read' | 'write' | 'add';
}

export interface ModelOperation {
  readonly id: string;
  readonly client: string;
  /** For the trace. */
  readonly text: string;
  readonly steps: readonly Step[];
  /** Which steps only read; all of them: the operation changes nothing. */
  readonly reads: readonly boolean[];
  /** Steps that only read may be answered from the cache of a client that caches. */
  readonly cached: boolean;
  /** What it may touch in this state: two operations that do not disturb each other may take effect in either order. */
  readonly touches: (fs: FileSystem) => readonly Touch[];
}

interface Fate {
  readonly operation: ModelOperation;
  readonly invokedAt: number;
  answer: Answer | undefined;
  answeredAt: number;
  stable: boolean;
  /** A power loss may have taken it; its client lives and will send it again. */
  awaitsReplay: boolean;
}

/** An open operation that has begun to take effect; `expected` is set when all its steps are done. */
interface Progress {
  readonly step: number;
  readonly bound: string;
  readonly expected: Expected | undefined;
}

/** The state after an operation took effect. */
interface Moment {
  readonly fs: FileSystem;
  readonly operation: string;
  /** When somebody had been answered who had seen this moment or a later one: nobody who asks after that may see an earlier one. */
  readonly seenAt: number;
}

interface Explanation {
  /** From the last to which a power loss or a slow reader can go back, to the present. */
  readonly moments: readonly Moment[];
  readonly progress: ReadonlyMap<string, Progress>;
}

const EXPLANATIONS_MAX = 4_000;
const NOT_BEGUN: Progress = { step: 0, bound: '', expected: undefined };
const NOT_SEEN = Number.POSITIVE_INFINITY;

/** The answers cannot be explained: a defect, in the member or in the model. */
export class Unexplained extends Error {}

/** There are more explanations than can be followed: nothing is known. */
export class Undecided extends Error {}

export class History {
  #explanations: Explanation[];
  /** Called and not answered; those of dead clients too. */
  readonly #open = new Map<string, Fate>();
  /** Every operation that a moment may still name. */
  readonly #fates = new Map<string, Fate>();
  #serial = 0;

  constructor(start: FileSystem) {
    this.#explanations = [{ moments: [firstMoment(start)], progress: new Map() }];
  }

  get explanations(): number {
    return this.#explanations.length;
  }

  /** Operations whose outcome is not known. */
  get open(): number {
    return this.#open.size;
  }

  get openIds(): string[] {
    return [...this.#open.keys()];
  }

  /** A state that may be the present one. */
  get possible(): FileSystem {
    const [first] = this.#explanations;
    if (first === undefined) throw new Unexplained('There is no explanation left');
    return tipOf(first).fs;
  }

  invoke(operation: ModelOperation): void {
    const invokedAt = ++this.#serial;
    const fate: Fate = {
      operation,
      invokedAt,
      answer: undefined,
      answeredAt: NOT_SEEN,
      stable: false,
      awaitsReplay: false,
    };
    this.#open.set(operation.id, fate);
    this.#fates.set(operation.id, fate);
  }

  respond(id: string, answer: Answer, stable: boolean): void {
    const fate = this.#fateOf(id);
    const search = {
      fate,
      answer,
      at: ++this.#serial,
      found: new Map(),
      seen: new Set<string>(),
      wrong: new Set<string>(),
    };
    for (const explanation of this.#explanations) this.#explain(explanation, search);
    if (search.found.size === 0) {
      const said = [...search.wrong].slice(0, 6).join('\n  or ');
      throw new Unexplained(
        `No order of the operations explains this answer of ${fate.operation.client}:\n  ${fate.operation.text}\n  answered ${showAnswer(answer)}\n  but the model says ${said}\n  open: ${this.#showOpen(id)}`,
      );
    }
    fate.answer = answer;
    fate.answeredAt = search.at;
    fate.stable = stable;
    // The log is stable up to a position: whatever had been answered before this was called lies below it.
    for (const other of this.#fates.values()) {
      if (other.answeredAt >= fate.invokedAt) continue;
      // What a client has to send again comes before anything new of it.
      if (other.operation.client === fate.operation.client && !isFromCache(fate.operation)) other.awaitsReplay = false;
      if (stable && !other.awaitsReplay) other.stable = true;
    }
    this.#open.delete(id);
    this.#explanations = [...search.found.values()];
    this.#trim();
  }

  change(apply: (fs: FileSystem) => FileSystem): void {
    this.#explanations = this.#distinct(
      this.#explanations.map(({ moments, progress }) => ({
        moments: moments.map((moment) => ({ ...moment, fs: apply(moment.fs) })),
        progress,
      })),
    );
  }

  /** The disks show that everything acknowledged so far is stable. */
  allStable(): void {
    for (const fate of this.#fates.values()) if (fate.answer !== undefined) fate.stable = true;
    this.#trim();
  }

  /**
   * The coordinator lost power. What was not stable may be gone, from the end of its log backwards; operations of clients that
   * live come again in their order, and those that had been answered must have the same outcome.
   */
  lostPower(lives: (client: string) => boolean): void {
    this.#lose((explanation) => this.#possibleLosses(explanation), lives);
    for (const fate of this.#fates.values())
      fate.awaitsReplay = !fate.stable && fate.answer !== undefined && lives(fate.operation.client);
  }

  /** The client died. What the coordinator had lost before and this client had not sent again yet is lost for good. */
  clientDied(client: string): void {
    const mine = [...this.#fates.values()].filter((fate) => fate.awaitsReplay && fate.operation.client === client);
    if (mine.length === 0) return;
    const ids = mine.map(({ operation }) => operation.id);
    this.#lose(
      () => Array.from({ length: mine.length + 1 }, (_, kept) => new Set(ids.slice(kept))),
      () => false,
    );
    for (const fate of mine) fate.awaitsReplay = false;
  }

  #lose(losses: (explanation: Explanation) => Set<string>[], lives: (client: string) => boolean): void {
    const found: Explanation[] = [];
    for (const explanation of this.#explanations)
      for (const lost of losses(explanation)) {
        const replayed = this.#replay(explanation, lost, lives);
        if (replayed !== undefined) found.push(replayed);
      }
    if (found.length === 0)
      throw new Unexplained('After the loss no beginning of the log lets all answered operations come again');
    this.#explanations = this.#distinct(found);
  }

  /** Every open operation is done or not done, and the present state must be accepted. */
  observe(accepts: (fs: FileSystem) => FileSystem | string): void {
    const found = new Map<string, FileSystem>();
    const seen = new Set<string>();
    const wrong = new Set<string>();
    const visit = (explanation: Explanation): void => {
      const tip = tipOf(explanation);
      const key = `${keyOfFs(tip.fs)}|${keyOfProgress(explanation.progress)}`;
      if (seen.has(key)) return;
      seen.add(key);
      this.#checkNumber(seen.size);
      const fs = accepts(tip.fs);
      if (typeof fs === 'string') wrong.add(fs);
      else found.set(String(keyOfFs(fs)), fs);
      for (const fate of this.#open.values()) for (const next of this.#advance(explanation, fate)) visit(next);
    };
    for (const explanation of this.#explanations) visit(explanation);
    if (found.size === 0) {
      const said = [...wrong].slice(0, 8).join('\n  or ');
      throw new Unexplained(
        `No explanation has the state that was found at last:\n  ${said}\n  open: ${this.#showOpen('')}`,
      );
    }
    this.#open.clear();
    this.#fates.clear();
    this.#explanations = [...found.values()].map((fs) => ({
      moments: [firstMoment({ ...fs, putBeforePowerLoss: new Set() })],
      progress: new Map(),
    }));
  }

  #explain(explanation: Explanation, search: Search): void {
    const key = this.#keyOf(explanation);
    if (search.seen.has(key)) return;
    search.seen.add(key);
    this.#checkNumber(search.seen.size);
    const { fate } = search;
    const expected = explanation.progress.get(fate.operation.id)?.expected;
    if (expected !== undefined) {
      this.#accept(explanation, explanation.moments.length - 1, expected, search);
      return;
    }
    const nexts = this.#advance(explanation, fate);
    if (explanation.progress.has(fate.operation.id)) nexts.push(...this.#finishUnchanged(explanation, fate));
    else this.#explainUnchanged(explanation, search);
    for (const next of nexts) this.#explain(next, search);
    // Others take effect before it only where the order can matter; else they can wait for their own answers.
    for (const other of this.#disturbing(explanation, fate))
      for (const next of this.#advance(explanation, other)) this.#explain(next, search);
  }

  /** It changed nothing and saw the state of some moment since it was called. */
  #explainUnchanged(explanation: Explanation, search: Search): void {
    const { operation } = search.fate;
    const visit = (step: number, bound: string, from: number): void => {
      const run = operation.steps[step];
      if (run === undefined) return;
      for (const at of this.#visible(explanation, search.fate, step)) {
        const moment = explanation.moments[at];
        if (moment === undefined || (at < from && !operation.cached)) continue;
        const outcome = run(moment.fs, bound);
        if (outcome.fs !== moment.fs) continue;
        if ('bound' in outcome) visit(step + 1, outcome.bound, at);
        else this.#accept(explanation, at, outcome.expected, search);
      }
    };
    visit(0, '', 0);
  }

  /** Notes the explanation if the answer is the expected one at this moment. */
  #accept(
    explanation: Explanation,
    at: number,
    expected: Expected,
    { fate, answer, found, wrong, at: seenAt }: Search,
  ): void {
    const fs = match(tipOf(explanation).fs, expected, answer);
    if (typeof fs === 'string') {
      wrong.add(fs);
      return;
    }
    // Whoever reads its own cache has seen nothing that others may not miss.
    const sees = isFromCache(fate.operation) ? -1 : at;
    const last = explanation.moments.length - 1;
    const explained: Explanation = {
      moments: explanation.moments.map((moment, i) => ({
        fs: i === last ? fs : moment.fs,
        operation: moment.operation,
        seenAt: i <= sees ? Math.min(moment.seenAt, seenAt) : moment.seenAt,
      })),
      progress: without(explanation.progress, fate.operation.id),
    };
    found.set(this.#keyOf(explained), explained);
  }

  /** Open operations that can change what this one sees, directly or through others. */
  #disturbing(explanation: Explanation, fate: Fate): Fate[] {
    const { fs } = tipOf(explanation);
    const { progress } = explanation;
    const touched = [...fate.operation.touches(fs)];
    const disturbing: Fate[] = [];
    let others = [...this.#open.values()].filter(
      ({ operation }) =>
        operation !== fate.operation &&
        operation.reads.includes(false) &&
        progress.get(operation.id)?.expected === undefined,
    );
    for (let grew = true; grew; ) {
      grew = false;
      const left: Fate[] = [];
      for (const other of others) {
        const bound = progress.get(other.operation.id)?.bound;
        const own: Touch[] = [...other.operation.touches(fs)];
        if (bound !== undefined) own.push({ key: bound, how: 'write' });
        if (!own.some((one) => touched.some((each) => disturb(one, each)))) {
          left.push(other);
          continue;
        }
        touched.push(...own);
        disturbing.push(other);
        grew = true;
      }
      others = left;
    }
    return disturbing;
  }

  /** All ways in which an open operation can change the present state now: the steps that read may have read a little earlier. */
  #advance(explanation: Explanation, fate: Fate): Explanation[] {
    const { operation } = fate;
    const begun = explanation.progress.get(operation.id) ?? NOT_BEGUN;
    if (begun.expected !== undefined) return [];
    const results: Explanation[] = [];
    const tip = tipOf(explanation);
    const bounds = new Set<string>();
    const visit = (step: number, bound: string, from: number): void => {
      const run = operation.steps[step];
      if (run === undefined || bounds.has(`${step} ${bound}`)) return;
      bounds.add(`${step} ${bound}`);
      if (operation.reads[step] !== true) {
        const outcome = run(tip.fs, bound);
        if (outcome.fs === tip.fs) {
          seeBefore(step, bound, from, run);
          return;
        }
        const next: Progress =
          'bound' in outcome
            ? { step: step + 1, bound: outcome.bound, expected: undefined }
            : { step: step + 1, bound, expected: outcome.expected };
        results.push({
          moments: [...explanation.moments, { fs: outcome.fs, operation: operation.id, seenAt: NOT_SEEN }],
          progress: new Map([...explanation.progress, [operation.id, next]]),
        });
        // What is left of it may also change nothing.
        if ('bound' in outcome) results.push(...this.#finishUnchanged(results.at(-1), fate));
      }
      seeBefore(step, bound, from, run);
    };
    /** The step changed nothing: it may have run a little earlier. */
    const seeBefore = (step: number, bound: string, from: number, run: Step): void => {
      for (const at of this.#visible(explanation, fate, step)) {
        const moment = explanation.moments[at];
        if (moment === undefined || (at < from && !operation.cached)) continue;
        const outcome = run(moment.fs, bound);
        if (outcome.fs === moment.fs && 'bound' in outcome) visit(step + 1, outcome.bound, at);
      }
    };
    visit(begun.step, begun.bound, 0);
    return results;
  }

  #finishUnchanged(explanation: Explanation | undefined, { operation }: Fate): Explanation[] {
    const begun = explanation?.progress.get(operation.id);
    if (explanation === undefined || begun === undefined) return [];
    const tip = tipOf(explanation);
    const outcome = operation.steps[begun.step]?.(tip.fs, begun.bound);
    if (outcome === undefined || outcome.fs !== tip.fs || 'bound' in outcome) return [];
    const done: Progress = { step: begun.step + 1, bound: begun.bound, expected: outcome.expected };
    return [{ moments: explanation.moments, progress: new Map([...explanation.progress, [operation.id, done]]) }];
  }

  /** Moments that a step of this operation may have seen, newest first. */
  #visible({ moments }: Explanation, { operation, invokedAt }: Fate, step: number): number[] {
    const fromCache = operation.cached && operation.reads[step] === true;
    const visible: number[] = [];
    for (let at = moments.length - 1; at >= 0; at--) {
      visible.push(at);
      const moment = moments[at];
      if (moment === undefined) break;
      const knownAt = fromCache ? (this.#fates.get(moment.operation)?.answeredAt ?? 0) : moment.seenAt;
      if (knownAt < invokedAt) break;
    }
    return visible;
  }

  /**
   * Sets of operations that a power loss can have taken together. Operations that ran at once may lie in the log in another order
   * than here; but one that was called after another had been answered lies behind it.
   */
  #possibleLosses({ moments }: Explanation): Set<string>[] {
    const unstable = new Map<string, string[]>();
    const all: Fate[] = [];
    for (const { operation } of moments.slice(1)) {
      const fate = this.#fates.get(operation);
      if (fate === undefined || all.includes(fate)) continue;
      all.push(fate);
      if (fate.stable) continue;
      const { client } = fate.operation;
      unstable.set(client, [...(unstable.get(client) ?? []), operation]);
    }
    let losses: string[][] = [[]];
    for (const operations of unstable.values())
      losses = losses.flatMap((loss) =>
        Array.from({ length: operations.length + 1 }, (_, kept) => [...loss, ...operations.slice(kept)]),
      );
    if (losses.length > EXPLANATIONS_MAX) throw new Undecided(`A power loss with ${losses.length} possible outcomes`);
    return losses
      .map((loss) => new Set(loss))
      .filter((loss) =>
        all.every(
          (kept) =>
            loss.has(kept.operation.id) ||
            all.every((gone) => !loss.has(gone.operation.id) || gone.awaitsReplay || gone.answeredAt >= kept.invokedAt),
        ),
      );
  }

  #replay(
    { moments, progress }: Explanation,
    lost: ReadonlySet<string>,
    lives: (client: string) => boolean,
  ): Explanation | undefined {
    const [base] = moments;
    if (base === undefined) return undefined;
    const left = new Map(progress);
    const replayed = [base];
    let fs: FileSystem = base.fs;
    const again = (id: string, seenAt: number): boolean => {
      const fate = this.#fates.get(id);
      if (fate === undefined) return true;
      const { operation, answer } = fate;
      const stepsDone = progress.get(id)?.step ?? operation.steps.length;
      let bound = '';
      let expected: Expected | undefined;
      for (const step of operation.steps.slice(0, stepsDone)) {
        const outcome: StepOutcome = step(fs, bound);
        fs = outcome.fs;
        if ('bound' in outcome) bound = outcome.bound;
        else {
          expected = outcome.expected;
          break;
        }
      }
      if (answer !== undefined) {
        const matched: FileSystem | string = expected === undefined ? 'unfinished' : match(fs, expected, answer);
        if (typeof matched === 'string') return false;
        fs = matched;
      } else left.set(id, { step: stepsDone, bound, expected });
      replayed.push({ fs, operation: id, seenAt });
      return true;
    };
    const comesAgain: { id: string; seenAt: number }[] = [];
    for (const { operation: id, seenAt } of moments.slice(1)) {
      if (replayed.some(({ operation }) => operation === id)) continue;
      if (!lost.has(id)) {
        if (!again(id, seenAt)) return undefined;
        continue;
      }
      left.delete(id);
      const fate = this.#fates.get(id);
      // Not answered: whoever lives sends it again, and it takes effect when it does.
      if (fate?.answer !== undefined && lives(fate.operation.client)) comesAgain.push({ id, seenAt });
    }
    for (const { id, seenAt } of comesAgain) if (!again(id, seenAt)) return undefined;
    return { moments: replayed, progress: left };
  }

  /** Forgets moments to which neither a power loss nor a slow reader goes back. */
  #trim(): void {
    const oldestAsked = this.#oldestAsked();
    const named = new Set<string>();
    const trimmed = this.#explanations.map(({ moments, progress }) => {
      let floor = 0;
      for (; floor + 1 < moments.length; floor++) {
        const fate = this.#fates.get(moments[floor + 1]?.operation ?? '');
        if (fate !== undefined && (!fate.stable || fate.answeredAt >= oldestAsked)) break;
      }
      const kept = moments.slice(floor);
      for (const { operation } of kept) named.add(operation);
      for (const id of progress.keys()) named.add(id);
      return { moments: kept, progress };
    });
    for (const id of this.#fates.keys()) if (!named.has(id) && !this.#open.has(id)) this.#fates.delete(id);
    this.#explanations = this.#distinct(trimmed);
  }

  #oldestAsked(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const { invokedAt } of this.#open.values()) oldest = Math.min(oldest, invokedAt);
    return oldest;
  }

  #distinct(explanations: readonly Explanation[]): Explanation[] {
    return [...new Map(explanations.map((each) => [this.#keyOf(each), each])).values()];
  }

  #keyOf({ moments, progress }: Explanation): string {
    const oldestAsked = this.#oldestAsked();
    const parts = [keyOfProgress(progress)];
    for (const [i, { fs, operation, seenAt }] of moments.entries()) {
      // How a state came about does not matter once nobody can go back behind it.
      if (i > 0) parts.push(`${operation} ${seenAt < oldestAsked ? 0 : seenAt}`);
      parts.push(String(keyOfFs(fs)));
    }
    return parts.join('|');
  }

  #fateOf(id: string): Fate {
    const fate = this.#open.get(id);
    if (fate === undefined) throw new Error(`The operation ${id} was not called, or answered before`);
    return fate;
  }

  #checkNumber(seen: number): void {
    if (seen > EXPLANATIONS_MAX)
      throw new Undecided(
        `More than ${EXPLANATIONS_MAX} explanations with ${this.#open.size} open operations: ${this.#showOpen('')}`,
      );
  }

  #showOpen(but: string): string {
    const open = [...this.#open.values()].filter(({ operation }) => operation.id !== but);
    return open.length === 0 ? 'none' : open.map(({ operation }) => `${operation.client} ${operation.text}`).join('; ');
  }
}

interface Search {
  readonly fate: Fate;
  readonly answer: Answer;
  readonly at: number;
  readonly found: Map<string, Explanation>;
  readonly seen: Set<string>;
  readonly wrong: Set<string>;
}

/** Answered without the coordinator, perhaps. */
function isFromCache({ cached, reads }: ModelOperation): boolean {
  return cached && reads.every(Boolean);
}

function disturb(a: Touch, b: Touch): boolean {
  return a.key === b.key && (a.how !== b.how || a.how === 'write');
}

function tipOf({ moments }: Explanation): Moment {
  const tip = moments.at(-1);
  if (tip === undefined) throw new Error('An explanation has at least one moment');
  return tip;
}

function firstMoment(fs: FileSystem): Moment {
  return { fs, operation: '', seenAt: 0 };
}

function without(progress: ReadonlyMap<string, Progress>, id: string): ReadonlyMap<string, Progress> {
  if (!progress.has(id)) return progress;
  const rest = new Map(progress);
  rest.delete(id);
  return rest;
}

/** The state with what the answer taught (inode numbers), or why the answer is wrong. */
function match(fs: FileSystem, expected: Expected, answer: Answer): FileSystem | string {
  if ('error' in expected) {
    if (answer.kind === 'error' && sameError(expected.error, answer.code)) return fs;
    // A node without names may be there a little longer, while it is not known whether somebody has it open.
    if (expected.error === 'stale' && answer.kind === 'ok' && (answer.attributes?.links ?? 0) === 0) return fs;
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

// ---- keys ----

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
