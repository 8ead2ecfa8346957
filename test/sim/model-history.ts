/**
 * Decides whether the answers that clients got can be explained: is there an order of all operations, each taking effect at
 * one moment between its call and its answer (path calls: one moment per step), that gives exactly these answers?
 *
 * It keeps every explanation that is still possible. An operation whose answer never came stays open: it may take effect at
 * any later moment, or never. A client that caches may be answered from an older moment, but from none older than what had
 * been acknowledged to anybody when it asked (M7: no stale read after close or fsync by another).
 *
 * Each explanation remembers its moments back to the last stable one: a power loss goes back to any of them, and then what
 * living clients had been answered comes again (M4, `model-losses.ts`).
 */
import {
  distinct,
  type Explanation,
  type Fate,
  keyOf,
  keyOfFs,
  keyOfPresent,
  type Moment,
  NOT_YET,
  type Progress,
  startOf,
  tipOf,
  without,
} from './explanation.ts';
import { type Answer, match, showAnswer } from './model-answers.ts';
import type { Expected, FileSystem } from './model-files.ts';
import { type Afterwards, possibleLosses, withOwedMade, withoutLost } from './model-losses.ts';
import { disturb, isFromCache, type ModelOperation, type Step, type Touch } from './model-operation.ts';

const EXPLANATIONS_MAX = 4_000;
const NOT_BEGUN: Progress = { step: 0, bound: '', expected: undefined };

/** The answers cannot be explained: a defect, in the member or in the model. */
export class Unexplained extends Error {}

/** There are more explanations than can be followed: nothing is known. */
export class Undecided extends Error {}

interface Search {
  readonly fate: Fate;
  readonly answer: Answer;
  readonly at: number;
  /** The answer may be of the coordinator that has lost its power since: what it shows may be lost, and nobody else has seen it. */
  readonly mayBeOld: boolean;
  readonly found: Map<string, Explanation>;
  readonly seen: Set<string>;
  readonly wrong: Set<string>;
}

export class History {
  #explanations: Explanation[];
  /** Called and not answered; those of dead clients too. */
  readonly #open = new Map<string, Fate>();
  /** Every operation that a moment may still name. */
  readonly #fates = new Map<string, Fate>();
  /** Clients of whom it is not known that they have sent again what the last power loss took; the gate waits for them (M6). */
  #awaited = new Set<string>();
  /** Those for whom the gate does not wait, or not any more. */
  #late = new Set<string>();
  /** Those that were told that something ended otherwise. */
  #told = new Set<string>();
  #lostAt = 0;
  #serial = 0;

  constructor(start: FileSystem) {
    this.#explanations = [startOf(start)];
  }

  get explanations(): number {
    return this.#explanations.length;
  }

  /** Operations whose outcome is not known. */
  get open(): number {
    return this.#open.size;
  }

  /** Operations that are under way, or that a power loss of the coordinator may have its clients send again. */
  get mayComeYet(): string[] {
    return [...this.#fates].flatMap(([id, { answer, stable }]) => (answer === undefined || !stable ? [id] : []));
  }

  /** A state that may be the present one. */
  get possible(): FileSystem {
    const [first] = this.#explanations;
    if (first === undefined) throw new Unexplained('There is no explanation left');
    return tipOf(first).fs;
  }

  invoke(operation: ModelOperation): void {
    const fate: Fate = {
      operation,
      invokedAt: ++this.#serial,
      answer: undefined,
      answeredAt: NOT_YET,
      stable: false,
      settledAt: 0,
    };
    this.#open.set(operation.id, fate);
    this.#fates.set(operation.id, fate);
  }

  respond(id: string, answer: Answer, stable: boolean): void {
    const fate = this.#fateOf(id);
    const { client, passesGate, endsLog } = fate.operation;
    const mayBeOld = fate.invokedAt < this.#lostAt;
    // An old answer of a client that comes late does not rest on what others have changed since: it is not judged.
    if (mayBeOld && this.#late.has(client)) return;
    const search: Search = {
      fate,
      answer,
      at: ++this.#serial,
      mayBeOld,
      found: new Map(),
      seen: new Set<string>(),
      wrong: new Set<string>(),
    };
    for (const explanation of this.#explanations) this.#explain(explanation, search);
    if (search.found.size === 0) {
      const said = [...search.wrong].slice(0, 6).join('\n  or ');
      throw new Unexplained(
        `No order of the operations explains this answer of ${client}:\n  ${fate.operation.text}\n  answered ${showAnswer(answer)}\n  but the model says ${said}\n  open: ${this.#showOpen(id)}`,
      );
    }
    fate.answer = answer;
    fate.answeredAt = search.at;
    fate.stable = stable;
    if (mayBeOld && this.#awaited.has(client) && !stable) fate.settledAt = NOT_YET;
    if (passesGate && answer.kind === 'ok' && !mayBeOld) this.#gateWasPassed(search.at);
    // The log is stable up to a position: whatever had been answered before this was called lies below it.
    if (stable && endsLog && answer.kind === 'ok')
      for (const other of this.#fates.values())
        if (Math.max(other.answeredAt, other.settledAt) < fate.invokedAt) other.stable = true;
    this.#open.delete(id);
    this.#explanations = [...search.found.values()];
    this.#trim();
  }

  /** The call changed nothing and has no answer to be judged. */
  withdraw(id: string): void {
    const without = this.#explanations.filter(({ progress }) => !progress.has(id));
    if (without.length === 0)
      throw new Unexplained(
        `Answered as if nothing had changed, but somebody has seen the change: ${this.#showText(id)}`,
      );
    this.#open.delete(id);
    this.#explanations = without;
    this.#trim();
  }

  change(apply: (fs: FileSystem) => FileSystem): void {
    this.#explanations = this.#distinct(
      this.#explanations.map((explanation) => ({
        ...explanation,
        moments: explanation.moments.map((moment) => ({ ...moment, fs: apply(moment.fs) })),
      })),
    );
  }

  /** The disks show that everything acknowledged so far is stable. */
  allStable(): void {
    for (const fate of this.#fates.values())
      if (fate.answer !== undefined && fate.settledAt !== NOT_YET) fate.stable = true;
    this.#trim();
  }

  // ---- power losses ----

  /** The coordinator lost power. What was not stable may be gone, from the end of its log backwards. */
  lostPower(lives: (client: string) => boolean): void {
    this.#lostAt = ++this.#serial;
    for (const fate of this.#fates.values()) {
      const { client, cached, written } = fate.operation;
      if (!written || !lives(client)) continue;
      // The gate knows those only that may hold promises.
      if (cached && !this.#late.has(client)) this.#awaited.add(client);
      else this.#late.add(client);
      if (fate.answer !== undefined && !fate.stable) fate.settledAt = NOT_YET;
    }
    const afterwards = (client: string): Afterwards =>
      this.#awaited.has(client) ? 'again' : this.#late.has(client) ? 'late' : 'never';
    this.#lose((explanation) => {
      const losses = possibleLosses(explanation, this.#fates, EXPLANATIONS_MAX);
      if (losses === undefined) throw new Undecided(`A power loss with more than ${EXPLANATIONS_MAX} outcomes`);
      return losses;
    }, afterwards);
  }

  /** One lease has passed since the coordinator's start: the gate may have opened before some had come (M6). */
  gateMayHaveOpened(): void {
    if (this.#awaited.size === 0) return;
    const late = this.#awaited;
    this.#late = this.#late.union(late);
    this.#awaited = new Set();
    this.#explanations = this.#distinct(
      this.#explanations.flatMap((explanation) => {
        const lost = new Set(this.#madeAgain(explanation, (client) => late.has(client)));
        const found = lost.size === 0 ? [] : this.#withoutLost(explanation, lost, () => 'late');
        return found.length === 0 ? [explanation] : found;
      }),
    );
  }

  /** The client says that a change which it made again ended otherwise. */
  replayDiffered(client: string): void {
    if (!this.#late.has(client))
      throw new Unexplained(
        `${client} was told that a change which it made again ended otherwise: nobody was before it`,
      );
    this.#told.add(client);
  }

  /** The client died, or its session: what it had not sent again yet is lost for good. */
  clientDied(client: string): void {
    this.#awaited.delete(client);
    this.#late.delete(client);
    const mine = [...this.#fates.values()].filter((fate) => fate.operation.client === client);
    if (!mine.some(({ settledAt }) => settledAt === NOT_YET)) return;
    this.#lose(
      (explanation) => {
        const changes = this.#madeAgain(explanation, (each) => each === client);
        return Array.from({ length: changes.length + 1 }, (_, kept) => new Set(changes.slice(kept)));
      },
      () => 'never',
    );
    const isMine = (id: string): boolean => mine.some(({ operation }) => operation.id === id);
    this.#explanations = this.#distinct(
      this.#explanations
        .flatMap((explanation) => [...this.#withOwedMade(explanation, client)])
        .map((explanation) => ({
          ...explanation,
          owed: explanation.owed.filter(({ operation }) => !isMine(operation)),
          differing: explanation.differing.filter((operation) => !isMine(operation)),
        })),
    );
    for (const fate of mine) fate.settledAt = Math.min(fate.settledAt, this.#serial);
  }

  /** A new change of anybody went through the gate: all that it waited for were back (M6). */
  #gateWasPassed(at: number): void {
    if (this.#awaited.size === 0) return;
    for (const fate of this.#fates.values())
      if (fate.settledAt === NOT_YET && this.#awaited.has(fate.operation.client)) fate.settledAt = at;
    this.#awaited.clear();
  }

  /** Moments that their client may not have made again yet; nobody else's answer rests on them. */
  #madeAgain({ moments }: Explanation, of: (client: string) => boolean): number[] {
    return moments.flatMap(({ operation, againAfter, firm }, at) => {
      const fate = this.#fates.get(operation);
      if (againAfter === 0 || firm || fate === undefined) return [];
      return fate.settledAt === NOT_YET && of(fate.operation.client) ? [at] : [];
    });
  }

  #lose(losses: (explanation: Explanation) => Set<number>[], afterwards: (client: string) => Afterwards): void {
    const found = this.#explanations.flatMap((explanation) =>
      losses(explanation).flatMap((lost) => this.#withoutLost(explanation, lost, afterwards)),
    );
    if (found.length === 0)
      throw new Unexplained('After the loss no beginning of the log lets all answered operations come again');
    this.#explanations = this.#distinct(found);
    this.#checkNumber(this.#explanations.length);
  }

  #withoutLost(
    explanation: Explanation,
    lost: ReadonlySet<number>,
    afterwards: (client: string) => Afterwards,
  ): Explanation[] {
    return withoutLost(explanation, lost, { fates: this.#fates, afterwards, at: this.#lostAt });
  }

  /** As it is, and with the first, the first two, ... of the owed changes made. */
  *#withOwedMade(explanation: Explanation, client: string): Generator<Explanation> {
    yield explanation;
    for (const next of withOwedMade(explanation, client, this.#fates, this.#lostAt))
      yield* this.#withOwedMade(next, client);
  }

  #withOneOwedMade(explanation: Explanation): Explanation[] {
    if (explanation.owed.length === 0) return [];
    return [...this.#late].flatMap((client) => withOwedMade(explanation, client, this.#fates, this.#lostAt));
  }

  // ---- the search ----

  /** Every open operation is done or not done, and the present state must be accepted. */
  observe(accepts: (fs: FileSystem) => FileSystem | string): void {
    const found = new Map<string, FileSystem>();
    const seen = new Set<string>();
    const wrong = new Set<string>();
    const visit = (explanation: Explanation): void => {
      const key = keyOfPresent(explanation);
      if (seen.has(key)) return;
      seen.add(key);
      this.#checkNumber(seen.size);
      const fs = this.#isSettled(explanation, wrong) ? accepts(tipOf(explanation).fs) : undefined;
      if (typeof fs === 'string') wrong.add(fs);
      else if (fs !== undefined) found.set(String(keyOfFs(fs)), fs);
      for (const next of this.#withOneOwedMade(explanation)) visit(next);
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
    this.#awaited.clear();
    this.#late.clear();
    this.#told.clear();
    this.#explanations = [...found.values()].map((fs) => startOf({ ...fs, putBeforePowerLoss: new Set() }));
  }

  /** Whoever comes late has made its changes again by now, and was told if one ended otherwise. */
  #isSettled({ owed, differing }: Explanation, wrong: Set<string>): boolean {
    if (owed.length > 0) return false;
    const untold = differing.find((id) => !this.#told.has(this.#fates.get(id)?.operation.client ?? ''));
    if (untold === undefined) return true;
    wrong.add(`nobody was told that this ended otherwise when it was made again: ${this.#showText(untold)}`);
    return false;
  }

  #explain(explanation: Explanation, search: Search): void {
    const key = this.#keyOf(explanation);
    if (search.seen.has(key)) return;
    search.seen.add(key);
    this.#checkNumber(search.seen.size);
    const { fate } = search;
    const expected = explanation.progress.get(fate.operation.id)?.expected;
    if (expected !== undefined) {
      this.#accept(explanation, lastMomentOf(explanation, fate), expected, search);
      return;
    }
    this.#explainUnchanged(explanation, search);
    for (const next of this.#advance(explanation, fate)) this.#explain(next, search);
    for (const next of this.#withOneOwedMade(explanation)) this.#explain(next, search);
    // Others take effect before it only where the order can matter; else they can wait for their own answers.
    for (const other of this.#disturbing(explanation, fate))
      for (const next of this.#advance(explanation, other)) this.#explain(next, search);
  }

  /** It changed nothing more, and saw the state of some moment since it was called or since its own last change. */
  #explainUnchanged(explanation: Explanation, search: Search): void {
    const { operation } = search.fate;
    const begun = explanation.progress.get(operation.id) ?? NOT_BEGUN;
    const own = lastMomentOf(explanation, search.fate);
    const visit = (step: number, bound: string, from: number): void => {
      const run = operation.steps[step];
      if (run === undefined) return;
      for (const at of this.#visible(explanation, search.fate, step)) {
        const moment = explanation.moments[at];
        if (moment === undefined || at < own || (at < from && !operation.cached)) continue;
        const outcome = run(moment.fs, bound);
        if (outcome.fs !== moment.fs) continue;
        if ('bound' in outcome) visit(step + 1, outcome.bound, at);
        else this.#accept(explanation, at, outcome.expected, search);
      }
    };
    visit(begun.step, begun.bound, 0);
  }

  /** Notes the explanation if the answer is the expected one at this moment. */
  #accept(explanation: Explanation, at: number, expected: Expected, search: Search): void {
    const { fate, answer, found, wrong, mayBeOld } = search;
    const { id } = fate.operation;
    const fs = match(tipOf(explanation).fs, expected, answer);
    if (typeof fs === 'string') {
      wrong.add(fs);
      return;
    }
    // Whoever reads its own cache has seen nothing that others may not miss.
    const sees = isFromCache(fate.operation) || mayBeOld ? -1 : at;
    const last = explanation.moments.length - 1;
    const restsOn = this.#groundOf(explanation, at, search);
    const seen = (moment: Moment, i: number): Moment => ({
      ...moment,
      fs: i === last ? fs : moment.fs,
      seenAt: i <= sees ? Math.min(moment.seenAt, search.at) : moment.seenAt,
      againAfter: mayBeOld && fate.operation.written && moment.operation === id ? this.#lostAt : moment.againAfter,
      firm: moment.firm || restsOn(moment, i),
    });
    const explained: Explanation = {
      ...explanation,
      moments: explanation.moments.map(seen),
      progress: without(explanation.progress, id),
    };
    found.set(this.#keyOf(explained), explained);
  }

  /** Which changes of others the answer rests on: it has waited until they were stable. What is cached has no ground. */
  #groundOf({ moments }: Explanation, at: number, { fate, mayBeOld }: Search): (moment: Moment, i: number) => boolean {
    const { client, cached, touches } = fate.operation;
    const { fs } = moments[at] ?? {};
    if (fs === undefined || cached || mayBeOld) return () => false;
    let own: readonly Touch[] | undefined;
    return (moment, i) => {
      if (i === 0 || i > at) return false;
      const other = this.#fates.get(moment.operation);
      if (other === undefined || other.stable || other.operation.client === client) return false;
      own ??= touches(fs);
      return other.operation.touches(moment.fs).some((one) => own?.some((each) => disturb(one, each)));
    };
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
        const moment: Moment = {
          fs: outcome.fs,
          operation: operation.id,
          step,
          bound,
          seenAt: NOT_YET,
          againAfter: 0,
          firm: false,
        };
        results.push({
          ...explanation,
          moments: [...explanation.moments, moment],
          progress: new Map([...explanation.progress, [operation.id, next]]),
        });
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

  /** Moments that a step of this operation may have seen, newest first. */
  #visible({ moments }: Explanation, { operation, invokedAt }: Fate, step: number): number[] {
    const fromCache = operation.cached && operation.reads[step] === true;
    const visible: number[] = [];
    for (let at = moments.length - 1; at >= 0; at--) {
      visible.push(at);
      const moment = moments[at];
      if (moment === undefined || this.#knownAt(moment, operation.client, fromCache) < invokedAt) break;
    }
    return visible;
  }

  /** Whoever asked later cannot have seen less. */
  #knownAt({ operation, againAfter, seenAt }: Moment, asker: string, fromCache: boolean): number {
    const fate = this.#fates.get(operation);
    // A client sends again what was lost before it asks for anything new (M4).
    if (fate?.operation.client === asker && againAfter > 0) return fate.answeredAt;
    if (!fromCache) return seenAt;
    if (fate === undefined) return 0;
    return againAfter > 0 ? fate.settledAt : fate.answeredAt;
  }

  // ---- the number of explanations ----

  /** Forgets moments to which neither a power loss nor a slow reader goes back. */
  #trim(): void {
    const oldestAsked = this.#oldestAsked();
    const named = new Set<string>();
    const trimmed = this.#explanations.map((explanation) => {
      const { moments, progress, owed, differing } = explanation;
      let floor = 0;
      for (; floor + 1 < moments.length; floor++) {
        const fate = this.#fates.get(moments[floor + 1]?.operation ?? '');
        if (fate !== undefined && (!fate.stable || Math.max(fate.answeredAt, fate.settledAt) >= oldestAsked)) break;
      }
      const kept = moments.slice(floor);
      for (const { operation } of [...kept, ...owed]) named.add(operation);
      for (const id of [...progress.keys(), ...differing]) named.add(id);
      return { ...explanation, moments: kept };
    });
    for (const id of this.#fates.keys()) if (!named.has(id) && !this.#open.has(id)) this.#fates.delete(id);
    this.#explanations = this.#distinct(trimmed);
  }

  #oldestAsked(): number {
    let oldest = NOT_YET;
    for (const { invokedAt } of this.#open.values()) oldest = Math.min(oldest, invokedAt);
    return oldest;
  }

  #distinct(explanations: readonly Explanation[]): Explanation[] {
    return distinct(explanations, this.#oldestAsked());
  }

  #keyOf(explanation: Explanation): string {
    return keyOf(explanation, this.#oldestAsked());
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
    const open = [...this.#open.keys()].filter((id) => id !== but);
    return open.length === 0 ? 'none' : open.map((id) => this.#showText(id)).join('; ');
  }

  #showText(id: string): string {
    const operation = this.#fates.get(id)?.operation;
    return `${operation?.client} ${operation?.text}`;
  }
}

function lastMomentOf({ moments }: Explanation, { operation }: Fate): number {
  return moments.findLastIndex((moment) => moment.operation === operation.id);
}
