/**
 * Runs the operations of sessions: in order per session and inode (M3), each exactly once (M5), with promises recalled
 * before or after as M7 says, and answered when its ground is firm (M4). The way of one operation:
 *
 *   place in the order -> restart gate (M6) -> run; stop for a recall or a lock, run again -> [committed: answer kept,
 *   promises granted, recalls begun, all in the same turn] -> recalls acknowledged -> batch written or stable -> reply
 *
 * An operation that finds all in memory and meets no promise goes this way without waiting until its last step.
 */
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { InodeNumber, RealmId, SessionId } from '@collective/base/ids';
import { SESSION_OPERATIONS_MAX } from '@collective/base/limits';
import { Durability, type Operation, type PromiseGrant, Reply } from '@collective/protocol/gen/session';
import type { Engine, Outcome } from '../engine/engine.ts';
import type { Draws, OperationRun } from '../engine/operation-run.ts';
import { ATTRIBUTES, type Elsewhere, OPEN, OperationContext, RecallFirst, WaitForLock } from '../ops/context.ts';
import { isPlain, kindOf, type Result, runPlain } from '../ops/operations.ts';
import { cutStep } from '../ops/set-attributes.ts';
import { ANSWERS } from '../tables/tables.ts';
import type { LockWaiters } from './lock-waiters.ts';
import { OperationOrder, type Turn } from './operation-order.ts';
import type { PromiseTable } from './promises.ts';
import type { RecallOutcome, Recalls } from './recalls.ts';
import type { RestartGate } from './restart-gate.ts';
import type { Session } from './session.ts';
import type { SessionOperations } from './session-operations.ts';
import type { SpaceGrants } from './space-grants.ts';

export interface RunnerParts {
  readonly engine: Engine;
  readonly promises: PromiseTable;
  readonly recalls: Recalls;
  readonly locks: LockWaiters;
  readonly space: SpaceGrants;
  readonly gate: RestartGate;
  readonly sessionOperations: SessionOperations;
  find(session: SessionId): Session | undefined;
  /** For the simulator's proof that it can fail: called with a mutation's answer, says whether to keep it. */
  readonly keepAnswers?: boolean;
  log(event: { session: SessionId; error: Error }, message: string): void;
}

type Case = NonNullable<Operation['op']>;

interface Pending {
  readonly session: Session;
  readonly operation: Operation;
  readonly op: Case;
  readonly mutates: boolean;
  readonly turn: Turn;
  readonly draws: Draws;
  readonly abort: AbortController;
  /** Sent again after a lost tail of the log: passes the restart gate. */
  readonly replay: boolean;
  /** Inodes on which nothing is granted until this one has run. */
  readonly blocked: InodeNumber[];
  /** Who said that an inode is open (M8). */
  readonly askedOpen: Map<InodeNumber, Map<SessionId, boolean>>;
  ran: boolean;
  fence: number | undefined;
}

/** What a run came to; made in the same turn as its commit. */
interface Ran {
  readonly reply: Reply;
  readonly recalls: readonly Promise<RecallOutcome>[];
}

export class OperationRunner {
  readonly #parts: RunnerParts;
  readonly #orders = new Map<SessionId, OperationOrder>();
  readonly #pending = new Map<SessionId, Map<string, Pending>>();
  readonly counters = { answered: 0, failed: 0, resent: 0 };

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  /** Takes the operations of one message: what they are known to need is fetched in one go. */
  submit(session: Session, operations: readonly Operation[], replay: boolean): void {
    const hints = operations.flatMap(({ op }) => (op === undefined ? [] : kindOf(op).hints(op.value as never)));
    const ready = this.#parts.engine.knows(hints) ? undefined : this.#parts.engine.prefetch(hints);
    // The failure is met by the operation itself, which asks the engine for the same keys.
    ready?.catch(() => undefined);
    for (const operation of operations) this.#take(session, operation, replay, ready);
  }

  /** A newer stream has taken the session up: what has not run yet will be sent again and must not run from the old one. */
  fence(session: SessionId): void {
    for (const pending of this.#pending.get(session)?.values() ?? []) {
      if (!pending.ran) pending.abort.abort(new CollectiveError('fenced', 'Run an operation of an older stream'));
    }
  }

  cancel(session: SessionId, number: number, step: number): void {
    const pending = this.#pending.get(session)?.get(`${number}:${step}`);
    if (pending !== undefined && !pending.ran)
      pending.abort.abort(new CollectiveError('interrupted', 'Run an operation that its caller gave up'));
  }

  ended(session: SessionId): void {
    for (const pending of this.#pending.get(session)?.values() ?? [])
      pending.abort.abort(new CollectiveError('session_lost', 'Run an operation of a session that has ended'));
    this.#pending.delete(session);
    this.#orders.delete(session);
  }

  pendingOf(session: SessionId): number {
    return this.#pending.get(session)?.size ?? 0;
  }

  #take(session: Session, operation: Operation, replay: boolean, ready: Promise<void> | undefined): void {
    const { op, number, step } = operation;
    const key = `${number}:${step}`;
    if (op === undefined) {
      this.#fail(
        session,
        operation,
        new CollectiveError('unsupported', 'Run an operation that this version does not know'),
      );
      return;
    }
    const kept = session.keptAnswer(number, step);
    if (kept !== undefined) {
      this.counters.resent += 1;
      void this.#answerAgain(session, operation, kept);
      return;
    }
    let pendings = this.#pending.get(session.id);
    if (pendings === undefined) {
      pendings = new Map();
      this.#pending.set(session.id, pendings);
    }
    const known = pendings.get(key);
    // Sent again while it is still under way: it answers to whatever stream the session has then.
    if (known !== undefined && !known.abort.signal.aborted) return;
    if (pendings.size >= SESSION_OPERATIONS_MAX) {
      this.#fail(
        session,
        operation,
        new CollectiveError('overloaded', `Take an operation: ${SESSION_OPERATIONS_MAX} of this session wait already`),
      );
      return;
    }
    const kind = kindOf(op);
    const pending: Pending = {
      session,
      operation,
      op,
      mutates: kind.mutates,
      turn: this.#order(session.id).enter(kind.inodes(op.value as never)),
      draws:
        operation.replay === undefined
          ? this.#parts.engine.freshDraws()
          : {
              now: operation.replay.time ?? this.#parts.engine.freshDraws().now,
              inodes: [...operation.replay.inodes] as InodeNumber[],
            },
      abort: new AbortController(),
      replay,
      blocked: [],
      askedOpen: new Map(),
      ran: false,
      fence: undefined,
    };
    pendings.set(key, pending);
    void this.#process(pending, ready);
  }

  async #process(pending: Pending, ready: Promise<void> | undefined): Promise<void> {
    const { session, operation, abort } = pending;
    const { signal } = abort;
    try {
      if (!pending.turn.ready) await pending.turn.come();
      if (ready !== undefined) await ready.catch(() => undefined);
      if (pending.mutates && !pending.replay && !this.#parts.gate.open) await this.#parts.gate.passed();
      signal.throwIfAborted();
      if (pending.op.$case === 'setAttributes' && pending.op.value.size !== undefined) await this.#cutInSteps(pending);
      const outcome = await this.#run(pending);
      pending.turn.leave();
      if (outcome.value.recalls.length > 0) await Promise.all(outcome.value.recalls);
      const firm = this.#parts.engine.firm(outcome, operation.durability === Durability.STABLE ? 'stable' : 'written');
      if (firm !== undefined) await firm;
      await this.#parts.sessionOperations.beforeAnswer(pending.op);
      this.counters.answered += 1;
      this.#send(pending, outcome.value.reply);
    } catch (thrown) {
      pending.turn.leave();
      this.#unblock(pending);
      // An aborted operation has nobody to answer, except one that its caller gave up.
      const error = toCollectiveError(thrown, `Run operation ${pending.op.$case}`);
      if (error.code === 'internal') this.#parts.log({ session: session.id, error }, 'operation failed');
      if (error.code !== 'fenced' && error.code !== 'session_lost') {
        this.counters.failed += 1;
        this.#send(pending, failureReply(operation, error));
      }
    } finally {
      const pendings = this.#pending.get(session.id);
      const key = `${operation.number}:${operation.step}`;
      if (pendings?.get(key) === pending) pendings.delete(key);
    }
  }

  /** Runs until the operation has come to an answer, meeting recalls and locks on the way. */
  async #run(pending: Pending): Promise<Outcome<Ran>> {
    const { session, abort } = pending;
    for (;;) {
      abort.signal.throwIfAborted();
      const execution = { session: session.id, draws: pending.draws };
      const operation = (tx: OperationRun): Ran => this.#attempt(tx, pending);
      try {
        const outcome =
          this.#parts.engine.tryExecute(operation, execution) ??
          (await this.#parts.engine.execute(operation, execution));
        this.#unblock(pending);
        return outcome;
      } catch (thrown) {
        if (thrown instanceof RecallFirst) await this.#recallFirst(pending, thrown);
        else if (thrown instanceof WaitForLock) await this.#waitForLock(pending, thrown);
        else throw thrown;
      }
    }
  }

  /** One run. What follows the operation itself happens in the turn of its commit and does not throw. */
  #attempt(tx: OperationRun, pending: Pending): Ran {
    const { session, operation, op } = pending;
    const context = new OperationContext(tx, session.caller(operation.credential), this.#elsewhere(pending));
    const result = isPlain(op.$case)
      ? runPlain(context, op as Extract<Case, { $case: Parameters<typeof runPlain>[1]['$case'] }>)
      : this.#runSessionOperation(context, pending);
    pending.abort.signal.throwIfAborted();
    const wrote = tx.writes.size > 0;
    const reply: Reply = {
      number: operation.number,
      step: operation.step,
      position: wrote ? tx.position : 0,
      drawn: { time: pending.draws.now, inodes: pending.draws.inodes },
      promises: [],
      result,
    };
    if (wrote && pending.mutates && this.#parts.keepAnswers !== false) {
      const bytes = Reply.encode(reply).finish();
      tx.put(
        ANSWERS,
        { reply: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) },
        session.id,
        operation.number,
        operation.step,
      );
      session.keepAnswer(operation.number, { step: operation.step, reply: bytes });
      for (const { number, step } of session.takeAcknowledged()) tx.remove(ANSWERS, session.id, number, step);
    }
    for (const [realm, change] of tx.usage)
      if (change.bytes > 0) this.#parts.space.used(session, realm as RealmId, change.bytes);
    const recalls = this.#beginRecalls(session, context);
    reply.promises = this.#grant(session, context);
    pending.ran = true;
    return { reply, recalls };
  }

  #runSessionOperation(context: OperationContext, pending: Pending): Result {
    if (pending.op.$case === 'setLock') pending.fence ??= this.#parts.engine.drawNumber('fence');
    return this.#parts.sessionOperations.run(context, pending.session, pending.op, pending.fence ?? 0);
  }

  #elsewhere(pending: Pending): Elsewhere {
    const { promises, space, find } = this.#parts;
    return {
      writesElsewhere: (inode, session) => promises.writerOf(inode, session) !== undefined,
      openElsewhere: (inode, session) => {
        const asked = pending.askedOpen.get(inode);
        const interested = promises.interestedIn(inode, session);
        if (interested.some((each) => asked?.get(each) === undefined)) return undefined;
        return interested;
      },
      grantedElsewhere: (realm, session) => space.elsewhere(realm, find(session)),
    };
  }

  /** Read promises of others on what changed: called back after the operation ran, before its answer leaves (M7). */
  #beginRecalls(session: Session, context: OperationContext): Promise<RecallOutcome>[] {
    const begun: Promise<RecallOutcome>[] = [];
    for (const { inode, kinds, names } of context.changes) {
      for (const holder of this.#parts.promises.holders(inode, kinds, session.id)) {
        const other = this.#parts.find(holder);
        if (other !== undefined)
          begun.push(this.#parts.recalls.recall(other, inode, kinds & this.#parts.promises.held(holder, inode), names));
      }
    }
    return begun;
  }

  #grant(session: Session, context: OperationContext): PromiseGrant[] {
    if (session.outlet === undefined) return [];
    const grants: PromiseGrant[] = [];
    const mayCache = session.caches && this.#parts.gate.open;
    for (const [inode, kinds] of context.shown) {
      if (!mayCache) {
        // That the inode is open is no right to cache: it is noted for every session, and before the gate opens too.
        if ((kinds & OPEN) !== 0) this.#parts.promises.grant(session.id, inode, OPEN);
        continue;
      }
      const granted = this.#parts.promises.grant(session.id, inode, (kinds & ATTRIBUTES) !== 0 ? kinds | OPEN : kinds);
      if (granted !== 0) grants.push({ inode, kinds: granted, sequence: this.#parts.engine.drawNumber('promise') });
    }
    return grants;
  }

  async #recallFirst(pending: Pending, { inode, kinds }: RecallFirst): Promise<void> {
    const { promises, recalls, find } = this.#parts;
    promises.block(inode);
    pending.blocked.push(inode);
    const holders = promises.holders(inode, kinds, pending.session.id);
    const asked = pending.askedOpen.get(inode) ?? new Map<SessionId, boolean>();
    pending.askedOpen.set(inode, asked);
    const outcomes = await Promise.all(
      holders
        .filter((holder) => (kinds & OPEN) === 0 || asked.get(holder) === undefined)
        .map((holder) => {
          const other = find(holder);
          if (other !== undefined) return recalls.recall(other, inode, kinds & promises.held(holder, inode), []);
          promises.drop(holder, inode, kinds);
          return { session: holder, open: false };
        }),
    );
    if ((kinds & OPEN) !== 0) for (const { session, open } of outcomes) asked.set(session, open);
  }

  async #waitForLock(pending: Pending, wait: WaitForLock): Promise<void> {
    // Others of the same session must be able to unlock meanwhile.
    pending.turn.leave();
    await this.#parts.locks.wait(wait, pending.abort.signal);
  }

  /** Cuts that are too long for one operation: bounded steps from the new end on, each complete in itself. */
  async #cutInSteps(pending: Pending): Promise<void> {
    const { op, session, operation } = pending;
    if (op.$case !== 'setAttributes') return;
    for (;;) {
      pending.abort.signal.throwIfAborted();
      try {
        const { value } = await this.#parts.engine.execute(
          (tx) =>
            cutStep(new OperationContext(tx, session.caller(operation.credential), this.#elsewhere(pending)), op.value),
          { session: session.id },
        );
        if (!value) return;
      } catch (thrown) {
        if (!(thrown instanceof RecallFirst)) throw thrown;
        await this.#recallFirst(pending, thrown);
      }
    }
  }

  #unblock(pending: Pending): void {
    for (const inode of pending.blocked.splice(0)) this.#parts.promises.unblock(inode);
  }

  async #answerAgain(session: Session, operation: Operation, kept: Reply): Promise<void> {
    const position = kept.position as never;
    const firm = this.#parts.engine.firm({ position, readsThrough: position, foreignThrough: position }, 'stable');
    try {
      if (firm !== undefined) await firm;
      session.outlet?.send(replies(kept, this.#parts.engine.stablePosition));
    } catch (thrown) {
      this.#fail(session, operation, toCollectiveError(thrown, 'Answer an operation again'));
    }
  }

  #send(pending: Pending, reply: Reply): void {
    pending.session.outlet?.send(replies(reply, this.#parts.engine.stablePosition));
  }

  #fail(session: Session, operation: Operation, error: CollectiveError): void {
    this.counters.failed += 1;
    session.outlet?.send(replies(failureReply(operation, error), this.#parts.engine.stablePosition));
  }

  #order(session: SessionId): OperationOrder {
    let order = this.#orders.get(session);
    if (order === undefined) {
      order = new OperationOrder();
      this.#orders.set(session, order);
    }
    return order;
  }
}

function replies(
  reply: Reply,
  stablePosition: number,
): { message: { $case: 'replies'; value: { replies: Reply[]; stablePosition: number } } } {
  return { message: { $case: 'replies', value: { replies: [reply], stablePosition } } };
}

function failureReply(operation: Operation, error: CollectiveError): Reply {
  const details = Object.fromEntries(Object.entries(error.details).map(([key, value]) => [key, String(value)]));
  return {
    number: operation.number,
    step: operation.step,
    position: 0,
    drawn: undefined,
    promises: [],
    result: { $case: 'failure', value: { code: error.code, message: error.message, details } },
  };
}
