/**
 * A session's operations from call to answer (M1, M4, M5): queued, sent under growing numbers, answered in any order, sent
 * again after a broken stream, cancelled when their callers give up, made again when their answers were lost. Knows links
 * only as somewhere to send to; when and why to send is the session's affair.
 */
import { assert } from '@collective/base/assert';
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Epoch } from '@collective/base/ids';
import { SESSION_OPERATIONS_MAX } from '@collective/base/limits';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import { Durability, type Operation, type Reply } from '@collective/protocol/gen/session';
import type { PromiseCache } from '../cache/promise-cache.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { isRead, mayRunAgain, type OperationBody, subjectInode, weightBytes } from './operation-kinds.ts';
import type { PendingRequest } from './pending-request.ts';
import { ReplayLog, sameOutcome } from './replay-log.ts';
import { QUEUED_CALLS_MAX, RequestQueue } from './request-queue.ts';
import type { SessionLink } from './session-connector.ts';
import type { CallSettings } from './session-options.ts';

/** Below the coordinator's bound, which counts cancels too. */
const IN_FLIGHT_MAX = SESSION_OPERATIONS_MAX - 64;
/** Operations in one message. */
const MESSAGE_OPERATIONS_MAX = 256;
/** By estimate; well below CONTROL_MESSAGE_BYTES_MAX. */
const MESSAGE_BYTES_MAX = 2 * 1024 * 1024;
/** Answered changes that wait for the coordinator's log to be stable; new operations wait beyond that. */
const REPLAY_CHANGES_MAX = 16_384;
/** Inodes in doubt after a replay that differed. */
const DOUBTFUL_INODES_MAX = 1_024;
/** By a coordinator that can be reached. */
const ANSWERED_WITHIN_MS = 90_000;

export interface RequestsOptions {
  readonly clock: Clock;
  readonly cache: PromiseCache | undefined;
  /** There is something to send: call `flush` with the turn's end. */
  readonly onWork: () => void;
  readonly onReplayDiffers: (inode: number, error: CollectiveError) => void;
  /** How long the coordinator may be out of reach: that much longer may an answer take. */
  readonly reconnectWithinMs: number;
}

export class Requests {
  readonly acknowledgements = new Acknowledgements();
  readonly #options: RequestsOptions;
  readonly #replays = new ReplayLog();
  /** By number, in the order of sending. */
  readonly #sent = new Map<number, PendingRequest>();
  readonly #queue = new RequestQueue();
  readonly #doubtful = new Map<number, CollectiveError>();
  #cancels: PendingRequest[] = [];
  #nextNumber = 1;
  /** Of the coordinator that answers now; positions of two epochs cannot be compared. */
  #epoch: Epoch | undefined;
  #stablePosition = 0;

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  get #answeredWithinMs(): number {
    return ANSWERED_WITHIN_MS + this.#options.reconnectWithinMs;
  }

  get inFlight(): number {
    return this.#sent.size;
  }

  /** Answered changes that are not known to be stable. */
  get unstable(): number {
    return this.#replays.size;
  }

  get hasWork(): boolean {
    return !this.#queue.isEmpty || this.#cancels.length > 0;
  }

  add(body: OperationBody, settings: CallSettings): Promise<Reply> {
    const { signal } = settings;
    if (this.#queue.isFull) {
      const what = `Queue an operation: ${QUEUED_CALLS_MAX} wait already`;
      return Promise.reject(new CollectiveError('overloaded', what));
    }
    if (body.$case === 'sync') {
      const doubt = this.#doubtful.get(body.value.inode);
      this.#doubtful.delete(body.value.inode);
      if (doubt !== undefined) return Promise.reject(doubt);
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => this.#giveUp(request, signal?.reason);
      const nowMs = this.#options.clock.bootMs();
      const request: PendingRequest = {
        operation: operationOf(body, settings),
        state: 'queued',
        stamp: 0,
        startedMs: nowMs,
        deadlineMs: settings.unlimited ? undefined : nowMs + this.#answeredWithinMs,
        settle: (outcome) => {
          signal?.removeEventListener('abort', onAbort);
          if ('error' in outcome) reject(outcome.error);
          else if (outcome.reply.result?.$case === 'failure') reject(fromFailure(outcome.reply.result.value));
          else resolve(outcome.reply);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#queue.add(request);
      this.#options.onWork();
    });
  }

  /** An operation of the session itself, which nobody waits for. */
  addOwn(body: OperationBody, answered: () => void): void {
    this.#queue.add(ownRequest(body, answered));
    this.#options.onWork();
  }

  // ---- sending ----

  flush(link: SessionLink): void {
    const cancels = this.#cancels;
    this.#cancels = [];
    const room = this.#replays.size >= REPLAY_CHANGES_MAX ? 0 : Math.max(0, IN_FLIGHT_MAX - this.#sent.size);
    const batch = [...cancels, ...this.#queue.take(room)];
    for (const request of batch) {
      request.operation.number = this.#nextNumber++;
      if (request.state === 'queued') request.state = 'sent';
      this.#sent.set(request.operation.number, request);
    }
    this.#send(link, batch);
  }

  /** A new stream. `recovered`: after a restart, up to where the coordinator has what `before` answered. */
  attached(epoch: Epoch, recovered?: { readonly before: Epoch; readonly position: number }): void {
    this.acknowledgements.streamBroke();
    this.#epoch = epoch;
    if (recovered === undefined) return;
    this.#stablePosition = 0;
    this.acknowledgements.add(this.#replays.settle(recovered.before, recovered.position));
  }

  /** M4: changes that may be lost come first and in order, then what has no answer, then whatever is new. */
  resend(link: SessionLink): void {
    const unanswered: PendingRequest[] = [];
    const cancels: PendingRequest[] = [];
    for (const [number, request] of this.#sent) {
      if (request.state === 'replay') this.#sent.delete(number);
      else if (request.operation.op?.$case === 'cancel') cancels.push(request);
      else if (request.state === 'sent') unanswered.push(request);
      else this.#sent.delete(number);
    }
    const replays = this.#replays.toReplay(this.#currentEpoch()).map((change): PendingRequest => {
      const drawn = change.reply.drawn ?? { time: undefined, inodes: [] };
      const operation = { ...change.operation, replay: drawn };
      return { ...ownRequest(bodyOf(operation), () => undefined), operation, state: 'replay' };
    });
    for (const request of replays) this.#sent.set(request.operation.number, request);
    this.#send(link, replays);
    link.send({ message: { $case: 'replayed', value: {} } });
    this.#send(link, [...cancels, ...unanswered]);
  }

  #send(link: SessionLink, requests: readonly PendingRequest[]): void {
    const { cache } = this.#options;
    let operations: Operation[] = [];
    let bytes = 0;
    const send = (): void => {
      if (operations.length === 0) return;
      const acknowledged = this.acknowledgements.take();
      link.send({ message: { $case: 'operations', value: { operations, acknowledged } } });
      operations = [];
      bytes = 0;
    };
    for (const request of requests) {
      const body = bodyOf(request.operation);
      cache?.change(body);
      request.stamp = cache?.stamp() ?? 0;
      operations.push(request.operation);
      bytes += weightBytes(body);
      if (operations.length >= MESSAGE_OPERATIONS_MAX || bytes >= MESSAGE_BYTES_MAX) send();
    }
    send();
  }

  // ---- answers ----

  apply(reply: Reply): void {
    const request = this.#sent.get(reply.number);
    if (request === undefined || request.operation.step !== reply.step) return;
    this.#sent.delete(reply.number);
    const body = bodyOf(request.operation);
    if (request.state === 'replay') {
      this.#applyReplay(request.operation, body, reply);
      return;
    }
    const { cache } = this.#options;
    if (!isRead(body) && body.$case !== 'cancel') this.#keepForReplay(request.operation, reply);
    cache?.change(body, reply);
    cache?.absorb(body, reply, request.stamp);
    if (body.$case === 'cancel') {
      const cancelled = this.#sent.get(body.value.number);
      if (cancelled?.state === 'given-up') this.#sent.delete(body.value.number);
    }
    if (request.state === 'sent') request.settle({ reply });
  }

  applyStable(position: number): void {
    this.#stablePosition = Math.max(this.#stablePosition, position);
    if (this.#replays.size === 0) return;
    this.acknowledgements.add(this.#replays.settle(this.#currentEpoch(), this.#stablePosition));
  }

  /** Kept answers are acknowledged only when nothing can take the change back. */
  #keepForReplay(operation: Operation, reply: Reply): void {
    // Nothing was written, so no answer was kept.
    if (reply.position === 0) return;
    this.#replays.add({ operation, reply, epoch: this.#currentEpoch() });
    this.applyStable(this.#stablePosition);
  }

  #applyReplay(operation: Operation, body: OperationBody, reply: Reply): void {
    const before = this.#replays.get(reply.number);
    if (before === undefined) return;
    if (!sameOutcome(before.reply, reply)) {
      const inode = subjectInode(body, before.reply);
      const what = `Make a change of inode ${inode} again that was lost with the coordinator's power: it ended differently`;
      const error = new CollectiveError('replay_differs', what, { details: { inode, operation: body.$case } });
      if (this.#doubtful.size < DOUBTFUL_INODES_MAX) this.#doubtful.set(inode, error);
      this.#options.onReplayDiffers(inode, error);
    }
    this.#replays.drop(reply.number);
    this.#keepForReplay({ ...operation, replay: undefined }, { ...reply, drawn: reply.drawn ?? before.reply.drawn });
  }

  // ---- giving up ----

  /** M5: what was sent and not answered may or may not have taken effect. Answers how many answered changes are in doubt too. */
  sessionLost(): number {
    const again: PendingRequest[] = [];
    for (const request of this.#sent.values()) {
      if (request.state !== 'sent') continue;
      if (mayRunAgain(bodyOf(request.operation))) {
        request.state = 'queued';
        again.push(request);
        continue;
      }
      const what = 'Finish an operation: the coordinator no longer knows the session that it was sent on';
      request.settle({ error: new CollectiveError('session_lost', what) });
    }
    this.#sent.clear();
    this.#cancels = [];
    this.#queue.addFirst(again);
    this.acknowledgements.clear();
    return this.#replays.clear();
  }

  /** Gives up what is past its deadline, and what has waited for a lost coordinator long enough. */
  giveUpLate(
    nowMs: number,
    outOfReach?: { readonly sinceMs: number; readonly withinMs: number; error: CollectiveError },
  ): void {
    for (const request of this.#waiting()) {
      const unreachable =
        outOfReach !== undefined && nowMs - Math.max(request.startedMs, outOfReach.sinceMs) > outOfReach.withinMs;
      if (unreachable) this.#giveUp(request, outOfReach.error);
      else if (request.deadlineMs !== undefined && nowMs > request.deadlineMs)
        this.#giveUp(request, tooLate(this.#answeredWithinMs));
    }
  }

  giveUpAll(error: CollectiveError): void {
    for (const request of this.#waiting()) this.#giveUp(request, error);
  }

  /** The session is over: nothing is sent any more. */
  end(error: CollectiveError): void {
    for (const request of this.#waiting()) request.settle({ error });
    this.#sent.clear();
    this.#queue.clear();
    this.#cancels = [];
    this.#replays.clear();
  }

  /** The caller no longer waits: what was not sent never will be, what was sent is cancelled before anything else is (M5). */
  #giveUp(request: PendingRequest, reason: unknown): void {
    if (request.state === 'queued') {
      this.#queue.giveUp(request);
    } else {
      request.state = 'given-up';
      const { number, step } = request.operation;
      this.#cancels.push(ownRequest({ $case: 'cancel', value: { number, step } }, () => undefined));
      this.#options.onWork();
    }
    request.settle({ error: reason });
  }

  #waiting(): PendingRequest[] {
    return [...this.#sent.values()].filter(({ state }) => state === 'sent').concat(this.#queue.waiting());
  }

  #currentEpoch(): Epoch {
    assert(this.#epoch !== undefined, 'answers come after an attach');
    return this.#epoch;
  }
}

function operationOf(body: OperationBody, settings: CallSettings): Operation {
  return {
    number: 0,
    step: 0,
    durability: settings.durability === 'written' ? Durability.WRITTEN : Durability.STABLE,
    credential: settings.credential,
    replay: undefined,
    op: body,
  };
}

function ownRequest(body: OperationBody, answered: () => void): PendingRequest {
  return {
    operation: operationOf(body, { durability: 'written' }),
    state: 'queued',
    stamp: 0,
    startedMs: Number.POSITIVE_INFINITY,
    deadlineMs: undefined,
    settle: answered,
  };
}

function bodyOf(operation: Operation): OperationBody {
  assert(operation.op !== undefined, 'an operation of this program has a body');
  return operation.op;
}

function tooLate(withinMs: number): CollectiveError {
  return new CollectiveError('deadline_exceeded', `Wait for the coordinator's answer: none within ${withinMs} ms`);
}
