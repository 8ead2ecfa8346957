/**
 * Runs the operations of sessions: in order per session and inode (M3), each exactly once (M5), with promises recalled
 * before or after as M7 says, and answered when its ground is firm (M4). The way of one operation:
 *
 *   place in the order -> what was lost is made again first (M4) -> restart gate (M6) -> run; stop for a recall, a lock,
 *   content that is not stable yet (D3) or steps of it (M3), run again -> [committed: answer kept, promises granted, recalls begun, all in the
 *   same turn] -> recalls acknowledged -> batch written or stable -> reply
 *
 * An operation that finds all in memory and meets no promise goes this way without waiting until its last step.
 */
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { InodeNumber, RealmId, SessionId } from '@collective/base/ids';
import { SESSION_OPERATIONS_MAX } from '@collective/base/limits';
import { Durability, type Operation, Reply } from '@collective/protocol/gen/session';
import type { Engine, Outcome } from '../engine/engine.ts';
import type { Draws, OperationRun } from '../engine/operation-run.ts';
import {
  type Growth,
  MAY_GROW,
  OperationContext,
  RecallFirst,
  RoomFirst,
  StableFirst,
  StepsFirst,
  WaitForLock,
} from '../ops/context.ts';
import { isPlain, kindOf, type Result, runPlain } from '../ops/operations.ts';
import { ANSWERS, REALMS } from '../tables/tables.ts';
import type { LockWaiters } from './lock-waiters.ts';
import { OperationOrder, type Turn } from './operation-order.ts';
import { Negotiation, type PromiseKeeping } from './promise-keeping.ts';
import { requireUnusedNumbers } from './replayed-numbers.ts';
import type { RestartGate } from './restart-gate.ts';
import type { Session } from './session.ts';
import type { SessionOperations } from './session-operations.ts';
import type { SpaceGrants } from './space-grants.ts';
import type { SpaceRecalls } from './space-recalls.ts';
import { REPLAYED, type StabilityProof } from './stability-proof.ts';
import type { StableContent } from './stable-content.ts';

/** Answers kept for one session; a client that acknowledges none of them may change nothing more. */
export const KEPT_ANSWERS_MAX = 32_768;
/** Acknowledged answers whose rows one mutation takes along. */
const ACKNOWLEDGED_TAKEN_MAX = 256;

export interface RunnerParts {
  readonly engine: Engine;
  readonly keeping: PromiseKeeping;
  readonly locks: LockWaiters;
  readonly stable: StableContent;
  readonly space: SpaceGrants;
  readonly spaceRecalls: SpaceRecalls;
  readonly gate: RestartGate;
  readonly sessionOperations: SessionOperations;
  readonly growth: Growth;
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
  /** Sent again after a lost tail of the log, with what it drew then: passes the restart gate. */
  readonly replay: boolean;
  /** Changes that are made again: whatever its client sends behind them rests on them (M4). */
  readonly behind: Promise<void> | undefined;
  readonly negotiation: Negotiation;
  /** Once it has waited for content to be stable (D3). */
  proof: StabilityProof | undefined;
  ran: boolean;
  fence: number | undefined;
  /** State of the locks that the last run saw. */
  locksSeen: number;
  processed: Promise<void>;
}

/**
 * Changes that are made again run one after the other, whatever they touch (M4): their client had waited for the answer of one before
 * it asked for the next, a file that is written to for that which made it, an empty directory that goes for that which emptied it.
 */
const REPLAYS: readonly number[] = [0];

/** What a run came to; made in the same turn as its commit. */
interface Ran {
  readonly reply: Reply;
  readonly recalls: readonly Promise<unknown>[];
  readonly failed: boolean;
}

export class OperationRunner {
  readonly #parts: RunnerParts;
  readonly #orders = new Map<SessionId, OperationOrder>();
  readonly #pending = new Map<SessionId, Map<string, Pending>>();
  /** How many changes each session is making again. */
  readonly #replaying = new Map<SessionId, number>();
  readonly counters = { answered: 0, failed: 0, resent: 0 };
  /** A commit was refused: the block has no room for another slice (D8). */
  onCrowded: ((inode: InodeNumber, block: number) => void) | undefined;
  #closed = false;

  constructor(parts: RunnerParts) {
    this.#parts = parts;
  }

  /** Takes the operations of one message: what they are known to need is fetched in one go. */
  submit(session: Session, operations: readonly Operation[]): void {
    const hints = operations.slice(0, SESSION_OPERATIONS_MAX).flatMap(hintsOf);
    const ready = this.#parts.engine.knows(hints) ? undefined : this.#parts.engine.prefetch(hints);
    // The failure is met by the operation itself, which asks the engine for the same keys.
    ready?.catch(() => undefined);
    for (const operation of operations) this.#take(session, operation, ready);
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
    // Those that have run already go on to their answer.
    for (const pending of this.#pending.get(session)?.values() ?? [])
      pending.abort.abort(new CollectiveError('session_lost', 'Run an operation of a session that has ended'));
    this.#pending.delete(session);
    this.#orders.delete(session);
  }

  /** Resolves when all changes that the session has sent again (M4) were made again, or failed. */
  async replaysDone(session: SessionId): Promise<void> {
    const replays = [...(this.#pending.get(session)?.values() ?? [])].filter(({ replay }) => replay);
    await Promise.all(replays.map(({ processed }) => processed));
  }

  /** Gives up what waits and takes nothing new: after this nothing reaches the engine from here. */
  async close(): Promise<void> {
    this.#closed = true;
    const all = [...this.#pending.values()].flatMap((pendings) => [...pendings.values()]);
    for (const { abort } of all)
      abort.abort(new CollectiveError('shutting_down', 'Run an operation: the coordinator stops'));
    await Promise.all(all.map(({ processed }) => processed));
  }

  pendingOf(session: SessionId): number {
    return this.#pending.get(session)?.size ?? 0;
  }

  #take(session: Session, operation: Operation, ready: Promise<void> | undefined): void {
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
    if (session.ended || this.#closed) return;
    let pendings = this.#pending.get(session.id);
    // Sent again while it is still under way: it answers to whatever stream the session has then, after its recalls (M7).
    const known = pendings?.get(key);
    if (known !== undefined && (known.ran || !known.abort.signal.aborted)) return;
    const kept = session.keptAnswer(number, step);
    if (kept !== undefined) {
      this.counters.resent += 1;
      void this.#answerAgain(session, operation, kept);
      return;
    }
    const kind = kindOf(op);
    if ((pendings?.size ?? 0) >= SESSION_OPERATIONS_MAX || (kind.mutates && session.keptAnswers >= KEPT_ANSWERS_MAX)) {
      this.#fail(
        session,
        operation,
        new CollectiveError(
          'overloaded',
          `Take an operation: ${pendings?.size ?? 0} of this session wait, ${session.keptAnswers} answers are not acknowledged`,
        ),
      );
      return;
    }
    if (pendings === undefined) {
      pendings = new Map();
      this.#pending.set(session.id, pendings);
    }
    const replay = session.replayed ? undefined : operation.replay;
    const fresh = this.#parts.engine.freshDraws();
    const pending: Pending = {
      session,
      operation,
      op,
      mutates: kind.mutates,
      turn:
        replay === undefined
          ? this.#order(session.id).enter(kind.inodes(op.value as never), !kind.mutates)
          : this.#order(session.id).enter(REPLAYS),
      draws:
        replay === undefined ? fresh : { now: replay.time ?? fresh.now, inodes: [...replay.inodes] as InodeNumber[] },
      abort: new AbortController(),
      replay: replay !== undefined,
      behind: replay === undefined && this.#replaying.has(session.id) ? this.replaysDone(session.id) : undefined,
      negotiation: new Negotiation(),
      proof: undefined,
      ran: false,
      fence: undefined,
      locksSeen: 0,
      processed: Promise.resolve(),
    };
    pendings.set(key, pending);
    if (pending.replay) this.#replaying.set(session.id, (this.#replaying.get(session.id) ?? 0) + 1);
    pending.processed = this.#process(pending, ready);
  }

  async #process(pending: Pending, ready: Promise<void> | undefined): Promise<void> {
    const { session, operation, abort } = pending;
    const { signal } = abort;
    try {
      if (!pending.turn.ready) await pending.turn.come(signal);
      if (ready !== undefined) await ready.catch(() => undefined);
      if (pending.behind !== undefined) await pending.behind;
      if (pending.mutates && !pending.replay && !this.#parts.gate.open) await this.#parts.gate.passed(signal);
      signal.throwIfAborted();
      const outcome = await this.#run(pending);
      pending.turn.leave();
      if (outcome.value.recalls.length > 0) await Promise.all(outcome.value.recalls);
      const firm = this.#parts.engine.firm(outcome, operation.durability === Durability.STABLE ? 'stable' : 'written');
      if (firm !== undefined) await firm;
      await this.#parts.sessionOperations.beforeAnswer(pending.op, outcome.position);
      this.counters[outcome.value.failed ? 'failed' : 'answered'] += 1;
      this.#send(pending, outcome.value.reply);
    } catch (thrown) {
      const error = toCollectiveError(thrown, `Run operation ${pending.op.$case}`);
      if (error.code === 'internal') this.#parts.log({ session: session.id, error }, 'operation failed');
      // An aborted operation has nobody to answer, except one that its caller gave up.
      if (error.code !== 'fenced' && error.code !== 'session_lost' && error.code !== 'shutting_down') {
        this.counters.failed += 1;
        this.#send(pending, failureReply(operation, error));
      }
    } finally {
      pending.turn.leave();
      if (pending.replay) this.#replayEnded(session.id);
      this.#parts.keeping.unblock(pending.negotiation);
      const pendings = this.#pending.get(session.id);
      const key = `${operation.number}:${operation.step}`;
      if (pendings?.get(key) === pending) pendings.delete(key);
      if (pendings?.size === 0) this.#pending.delete(session.id);
    }
  }

  #replayEnded(session: SessionId): void {
    const left = (this.#replaying.get(session) ?? 0) - 1;
    if (left > 0) this.#replaying.set(session, left);
    else this.#replaying.delete(session);
  }

  /** Runs until the operation has come to an answer, meeting recalls and locks on the way. */
  async #run(pending: Pending): Promise<Outcome<Ran>> {
    const { session, abort } = pending;
    for (;;) {
      abort.signal.throwIfAborted();
      const execution = { session: session.id, draws: pending.draws };
      const operation = (tx: OperationRun): Ran => this.#attempt(tx, pending);
      try {
        return (
          this.#parts.engine.tryExecute(operation, execution) ??
          (await this.#parts.engine.execute(operation, execution))
        );
      } catch (thrown) {
        if (thrown instanceof RecallFirst)
          await this.#parts.keeping.recallFirst(pending.negotiation, thrown, session.id);
        else if (thrown instanceof WaitForLock) await this.#waitForLock(pending, thrown);
        else if (thrown instanceof StableFirst) await this.#waitUntilStable(pending, thrown);
        else if (thrown instanceof StepsFirst) await this.#makeSteps(pending, thrown);
        else if (thrown instanceof RoomFirst) await this.#askForRoom(pending, thrown);
        else throw thrown;
      }
    }
  }

  /**
   * One run. What stops it (a miss, a recall, a lock) is thrown before anything outside the transaction has changed; what
   * follows the operation itself happens in the turn of its commit and does not throw.
   */
  #attempt(tx: OperationRun, pending: Pending): Ran {
    const { session, operation, op } = pending;
    pending.abort.signal.throwIfAborted();
    const context = new OperationContext(
      tx,
      session.caller(operation.credential),
      this.#parts.keeping.elsewhere(pending.negotiation),
      // What is made again had waited before it was answered first, and now it must not be late (M6).
      pending.replay ? REPLAYED : (pending.proof ?? this.#parts.stable.reported),
      // It had its room when it was answered first.
      pending.replay ? MAY_GROW : this.#parts.growth,
    );
    pending.locksSeen = this.#parts.locks.changes;
    let result: Result;
    try {
      if (pending.replay) requireUnusedNumbers(tx, operation.replay?.inodes ?? [], this.#parts.engine);
      result = isPlain(op.$case)
        ? runPlain(context, op as Extract<Case, { $case: Parameters<typeof runPlain>[1]['$case'] }>)
        : this.#runSessionOperation(context, pending);
    } catch (thrown) {
      if (!(thrown instanceof CollectiveError)) throw thrown;
      // A refusal is an answer too: it rests on what the run has read and waits for it as any other (M4).
      return this.#refuse(tx, pending, thrown);
    }
    const { keeping, space, keepAnswers } = this.#parts;
    keeping.requireRoom(session, context.shown);
    const consequences = keeping.plan(session.id, context.changes);
    const wrote = tx.writes.size > 0;
    const reply: Reply = {
      number: operation.number,
      step: operation.step,
      position: wrote ? tx.position : 0,
      drawn: { time: pending.draws.now, inodes: pending.draws.inodes },
      promises: [],
      result,
    };
    if (wrote && pending.mutates && keepAnswers !== false) {
      const bytes = Reply.encode(reply).finish();
      const kept = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      tx.put(ANSWERS, { reply: kept }, session.id, operation.number, operation.step);
      const acknowledged = session.acknowledgedFirst(ACKNOWLEDGED_TAKEN_MAX);
      for (const { number, step } of acknowledged) tx.remove(ANSWERS, session.id, number, step);
      session.keepAnswer(operation.number, { step: operation.step, reply: bytes });
      session.dropAcknowledged(acknowledged.length);
    }
    const stored = storedBy(tx, op);
    pending.ran = true;
    for (const { realm, before, bytes } of stored) {
      const ungranted = space.used(session, realm, bytes);
      // A client that does not know yet that the file is in another realm has its grant in the one that it was in (M9).
      if (before !== undefined) space.used(session, before, ungranted);
    }
    const { grants, recalls } = keeping.carryOut(session, context, consequences, pending.negotiation);
    reply.promises = grants;
    if (op.$case === 'setLock') this.#parts.locks.changed(op.value.inode as InodeNumber);
    for (const { inode } of context.changes) if (this.#parts.locks.waitedFor(inode)) this.#parts.locks.changed(inode);
    return { reply, recalls, failed: false };
  }

  #refuse(tx: OperationRun, pending: Pending, error: CollectiveError): Ran {
    tx.discard();
    pending.ran = true;
    if (error.code === 'internal') this.#parts.log({ session: pending.session.id, error }, 'operation failed');
    const { op } = pending;
    const { block } = error.details;
    if (op.$case === 'commitSlices' && error.code === 'overloaded' && typeof block === 'number')
      this.onCrowded?.(op.value.inode as InodeNumber, block);
    return { reply: failureReply(pending.operation, error), recalls: [], failed: true };
  }

  #runSessionOperation(context: OperationContext, pending: Pending): Result {
    if (pending.op.$case === 'setLock') pending.fence ??= this.#parts.engine.drawNumber('fence');
    return this.#parts.sessionOperations.run(context, pending.session, pending.op, pending.fence ?? 0);
  }

  async #askForRoom({ session, negotiation }: Pending, { realms }: RoomFirst): Promise<void> {
    await this.#parts.spaceRecalls.recall(realms, session.id);
    negotiation.roomWasAsked = true;
  }

  async #waitForLock(pending: Pending, wait: WaitForLock): Promise<void> {
    // Others of the same session must be able to unlock meanwhile.
    pending.turn.leave();
    await this.#parts.locks.wait(wait, pending.abort.signal, pending.locksSeen);
  }

  /** The turn is kept: what the session does next on these inodes comes after this (M3). */
  async #waitUntilStable(pending: Pending, first: StableFirst): Promise<void> {
    pending.proof ??= this.#parts.stable.beginProof();
    await this.#parts.stable.makeStable(first, pending.proof, pending.abort.signal);
  }

  /**
   * What is too much for one operation, in bounded steps. Each is a change of its own: whoever caches what it took away is told,
   * whether the operation comes to its end or not. If it does not, it is made again from where it stopped (M5).
   */
  async #makeSteps(pending: Pending, { step }: StepsFirst): Promise<void> {
    const { session, operation, negotiation } = pending;
    const { engine, keeping } = this.#parts;
    const once = (tx: OperationRun): boolean => {
      const context = new OperationContext(tx, session.caller(operation.credential), keeping.elsewhere(negotiation));
      const more = step(context);
      // The last thing before the commit, in its turn; the operation's own recalls wait for these too.
      if (context.changes.length > 0) void keeping.recallChanged(context.changes, session.id);
      return more;
    };
    for (let more = true; more; ) {
      pending.abort.signal.throwIfAborted();
      try {
        more = (await engine.execute(once, { session: session.id })).value;
      } catch (thrown) {
        if (thrown instanceof RoomFirst) {
          await this.#askForRoom(pending, thrown);
          continue;
        }
        if (!(thrown instanceof RecallFirst)) throw thrown;
        await keeping.recallFirst(negotiation, thrown, session.id);
      }
    }
  }

  async #answerAgain(session: Session, operation: Operation, kept: Reply): Promise<void> {
    const position = kept.position as never;
    const firm = this.#parts.engine.firm({ position, readsThrough: position, foreignThrough: position }, 'stable');
    try {
      if (firm !== undefined) await firm;
      // An answer that never left may still owe recalls: after a restart the gate stands for them (M6). What is replayed
      // had left.
      if (operation.replay === undefined) await this.#parts.gate.passed();
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

interface Stored {
  readonly realm: RealmId;
  /** The realm that its inodes come from, or go to, if there is such a one. */
  readonly before: RealmId | undefined;
  readonly bytes: number;
}

/** What a client takes from its grants for an operation: all bytes that it stored, also where they replace others (M10). */
function storedBy(tx: OperationRun, op: Case): Stored[] {
  const bytes = bytesOfChunks(op);
  if (bytes === 0) return [];
  return [...tx.usage].map(([realm, change]) => {
    const row = tx.get(REALMS, realm as RealmId);
    const other = row?.move === undefined ? row?.rightsOf : row.move.inner + row.move.outer - realm;
    return {
      realm: realm as RealmId,
      before: (other as RealmId | undefined) || undefined,
      bytes: Math.max(change.bytes, bytes),
    };
  });
}

function bytesOfChunks(op: Case): number {
  const chunks =
    op.$case === 'commitSlices' ? op.value.chunks : op.$case === 'makeNode' ? (op.value.content?.chunks ?? []) : [];
  return chunks.reduce((sum, { length }) => sum + length, 0);
}

/** Keys that an operation is known to need; none when it names what no key can: it will refuse that itself. */
function hintsOf({ op }: Operation): readonly string[] {
  if (op === undefined) return [];
  try {
    return kindOf(op).hints(op.value as never);
  } catch (error) {
    if (error instanceof CollectiveError) return [];
    throw error;
  }
}
