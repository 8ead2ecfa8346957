/**
 * One client's session with its coordinator: the only way by which files are seen and changed (M1).
 *
 * Callers pipeline operations; all of one turn leave in one message. A broken stream is attached again with back-off, and
 * what was not answered is sent again under its number, so that every change takes effect once (M5). Changes that were
 * answered but not yet stable are made again first if the coordinator lost them (M4, `replay-log.ts`). Promise and session
 * leases are counted from the sending of the renewal, on boot time (M6). Recalls are answered after whatever the layer
 * above must do first (M7).
 *
 * Wait, then apply: `#run` waits for links and messages; everything it calls from there on is synchronous.
 */
import { AssertionFailure, assert } from '@collective/base/assert';
import { type Clock, sleep, type Timer } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { compareEpochs, type Epoch } from '@collective/base/ids';
import { SESSION_OPERATIONS_MAX, WIRE_VERSION } from '@collective/base/limits';
import { randomUnit } from '@collective/base/random';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import {
  type Attached,
  type ClientMessage,
  Durability,
  type Operation,
  type Recall,
  type Reply,
} from '@collective/protocol/gen/session';
import { PromiseCache } from '../cache/promise-cache.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { isRead, mayRunAgain, type OperationBody, subjectInode, weightBytes } from './operation-kinds.ts';
import type { PendingRequest } from './pending-request.ts';
import { ReplayLog, sameOutcome } from './replay-log.ts';
import { QUEUED_CALLS_MAX, RequestQueue } from './request-queue.ts';
import type { SessionLink } from './session-connector.ts';
import {
  type CallSettings,
  CONNECT_WITHIN_MS,
  RECONNECT_WITHIN_MS,
  type RecallAnswer,
  type SessionEvent,
  type SessionOptions,
} from './session-options.ts';

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
/** Closed inodes that wait to be told; beyond that the coordinator asks once more when it needs to know. */
const FORGOTTEN_INODES_MAX = 10_000;
const TICK_MS = 500;
const ATTACH_WITHIN_MS = 10_000;
const DETACH_WITHIN_MS = 2_000;
const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 2_000;
const OPERATION_WITHIN_MS = 120_000;
const FEATURES: readonly string[] = [];

type State =
  | { readonly name: 'detached' }
  | { readonly name: 'attached'; readonly link: SessionLink }
  | { readonly name: 'closed'; readonly error: CollectiveError };

export class Session implements AsyncDisposable {
  readonly #options: SessionOptions;
  readonly #clock: Clock;
  readonly #clientId: Buffer;
  readonly #stop = new AbortController();
  readonly #cache: PromiseCache | undefined;
  readonly #replays = new ReplayLog();
  readonly #acknowledgements = new Acknowledgements();
  /** By number, in the order of sending. */
  readonly #sent = new Map<number, PendingRequest>();
  readonly #doubtful = new Map<number, CollectiveError>();
  readonly #queue = new RequestQueue();
  #cancels: PendingRequest[] = [];
  #state: State = { name: 'detached' };
  #attached: Attached | undefined;
  #generation = 0;
  #nextNumber = 1;
  #flushing = false;
  #linkSeenMs: number;
  #lostSinceMs: number;
  #renewalNumber = 0;
  #renewalSentMs = 0;
  #renewalAnswered = true;
  #sessionUntilMs = Number.POSITIVE_INFINITY;
  #tick: Timer | undefined;
  #running: Promise<void> | undefined;
  #detached: (() => void) | undefined;
  #renewed: { resolve: () => void; reject: (error: CollectiveError) => void }[] = [];
  #stablePosition = 0;
  readonly #closedInodes = new Set<number>();

  /** Attaches a new session. Throws what refused it, or `unavailable` after `connectWithinMs`. */
  static async attach(options: SessionOptions, signal?: AbortSignal): Promise<Session> {
    signal?.throwIfAborted();
    const session = new Session(options);
    try {
      await session.#firstAttach(signal);
      return session;
    } catch (error) {
      session.#end(toCollectiveError(error, 'Attach a session'));
      throw error;
    }
  }

  private constructor(options: SessionOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#clientId = options.random.bytes(16);
    this.#cache = options.caches ? new PromiseCache({ clock: options.clock }) : undefined;
    this.#linkSeenMs = this.#lostSinceMs = this.#clock.bootMs();
  }

  /** What the coordinator said at the last attach. */
  get attached(): Attached {
    assert(this.#attached !== undefined, 'a session that was handed out has been attached');
    return this.#attached;
  }

  get state(): State['name'] {
    return this.#state.name;
  }

  /** Grows when a session was lost: locks and open files of an earlier generation are gone. */
  get generation(): number {
    return this.#generation;
  }

  /** Whether the session's lease holds by the client's own count (M6). */
  get leaseHolds(): boolean {
    return this.#clock.bootMs() < this.#sessionUntilMs;
  }

  get inFlight(): number {
    return this.#sent.size;
  }

  /** Runs one operation. Resolves with an answer that is no failure; a failure is thrown as its error. */
  call(body: OperationBody, settings: CallSettings = {}): Promise<Reply> {
    const { signal } = settings;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#state.name === 'closed') return Promise.reject(this.#state.error);
    const mayKnow = settings.credential === undefined && !settings.fresh;
    const known = mayKnow ? this.#cache?.answer(body) : undefined;
    if (known !== undefined) {
      if (known.$case === 'failure') return Promise.reject(fromFailure(known.value));
      return Promise.resolve({ number: 0, step: 0, position: 0, drawn: undefined, promises: [], result: known });
    }
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
      const nowMs = this.#clock.bootMs();
      const request: PendingRequest = {
        operation: this.#operation(body, settings),
        state: 'queued',
        stamp: 0,
        startedMs: nowMs,
        deadlineMs: settings.unlimited ? undefined : nowMs + OPERATION_WITHIN_MS,
        settle: (outcome) => {
          signal?.removeEventListener('abort', onAbort);
          if ('error' in outcome) reject(outcome.error);
          else if (outcome.reply.result?.$case === 'failure') reject(fromFailure(outcome.reply.result.value));
          else resolve(outcome.reply);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#queue.add(request);
      this.#flushSoon();
    });
  }

  /** M7: whether the coordinator has promised all of these kinds and the lease holds. */
  holdsPromise(inode: number, kinds: number): boolean {
    return this.#cache?.holds(inode, kinds) ?? false;
  }

  /** The last handle of the inode was closed: the coordinator need not ask for it any more. Told in batches. */
  forgetLater(inode: number): void {
    // With caches it goes when the cache drops it: what is cached may be used again soon.
    if (this.#cache === undefined && this.#closedInodes.size < FORGOTTEN_INODES_MAX) this.#closedInodes.add(inode);
  }

  /** Renews now and resolves with the answer: fresh routes of the nodes, a fresh token, the stable position. */
  async renew(signal?: AbortSignal): Promise<void> {
    if (this.#state.name === 'closed') throw this.#state.error;
    await abortable(
      new Promise<void>((resolve, reject) => {
        this.#renewed.push({ resolve, reject });
        if (this.#state.name === 'attached' && this.#renewalAnswered) this.#sendRenewal(this.#state.link);
      }),
      signal,
    );
  }

  /** Ends the session in order; calls under way are given up. Safe to call twice. */
  async close(): Promise<void> {
    const state = this.#state;
    if (state.name === 'attached') {
      this.#failAll(new CollectiveError('interrupted', 'Close the session: the operation had no answer yet'));
      await this.#untilStable();
      await this.#detach();
    }
    this.#end(new CollectiveError('interrupted', 'Use a session that was closed'));
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // ---- the loop ----

  async #firstAttach(signal: AbortSignal | undefined): Promise<void> {
    const withinMs = this.#options.connectWithinMs ?? CONNECT_WITHIN_MS;
    let timer: Timer | undefined;
    let onAbort: (() => void) | undefined;
    let lastError: CollectiveError | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        timer = this.#clock.setTimer(withinMs, () => {
          const what = `Attach to the coordinator at ${this.#options.connector.address}: not within ${withinMs} ms`;
          reject(new CollectiveError(lastError?.code ?? 'unavailable', what, { cause: lastError }));
        });
        onAbort = () => reject(signal?.reason);
        signal?.addEventListener('abort', onAbort, { once: true });
        this.#running = this.#run({
          attached: resolve,
          failed: (error) => {
            lastError = error;
            if (isFinal(error)) reject(error);
          },
        });
      });
    } finally {
      timer?.cancel();
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
    }
    this.#scheduleTick();
  }

  async #run(first: { attached: () => void; failed: (error: CollectiveError) => void }): Promise<void> {
    let backoffMs = BACKOFF_FIRST_MS;
    while (!this.#stop.signal.aborted) {
      let link: SessionLink | undefined;
      try {
        link = await this.#options.connector.open(this.#stop.signal);
        await this.#attachOver(link);
        backoffMs = BACKOFF_FIRST_MS;
        first.attached();
        await this.#receiveAll(link);
      } catch (thrown) {
        if (this.#stop.signal.aborted) break;
        if (thrown instanceof AssertionFailure) throw thrown;
        const error = toCollectiveError(
          thrown,
          `Use the session with ${this.#options.connector.address}`,
          'unavailable',
        );
        this.#linkLost(error);
        first.failed(error);
      } finally {
        link?.close();
      }
      if (this.#isEnded()) break;
      // Half fixed, half random, so that many clients of a restarted coordinator do not come at once.
      const waitMs = backoffMs * (0.5 + randomUnit(this.#options.random) / 2);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
      await sleep(this.#clock, waitMs, this.#stop.signal).catch(() => undefined);
    }
  }

  async #attachOver(link: SessionLink): Promise<void> {
    const sentMs = this.#clock.bootMs();
    const known = this.#attached?.session ?? 0;
    link.send({
      message: {
        $case: 'attach',
        value: {
          wireVersion: WIRE_VERSION,
          features: [...FEATURES],
          clientId: this.#clientId,
          session: known,
          listener: this.#options.listener,
          bundleHash: this.#options.bundleHash?.() ?? '',
          caches: this.#cache !== undefined,
          program: this.#options.program,
          held: this.#cache?.held() ?? [],
          openInodes: this.#options.openInodes?.() ?? [],
          credential: this.#options.credential,
          lastEpoch: this.#attached?.epoch,
          space: this.#options.space?.() ?? [],
        },
      },
    });
    const timer = this.#clock.setTimer(ATTACH_WITHIN_MS, () => link.close());
    try {
      const message = (await link.receive(this.#stop.signal))?.message;
      if (message?.$case === 'refused') throw this.#refused(message.value.failure);
      if (message?.$case !== 'attached')
        throw new CollectiveError('unavailable', `Attach to ${this.#options.connector.address}: no answer`);
      this.#apply(link, message.value, known, sentMs);
    } finally {
      timer.cancel();
    }
  }

  async #receiveAll(link: SessionLink): Promise<void> {
    for (;;) {
      const message = (await link.receive(this.#stop.signal))?.message;
      if (message === undefined)
        throw new CollectiveError(
          'unavailable',
          `Use the session with ${this.#options.connector.address}: it was closed`,
        );
      this.#linkSeenMs = this.#clock.bootMs();
      switch (message.$case) {
        case 'replies':
          this.#applyStable(message.value.stablePosition);
          for (const reply of message.value.replies) this.#applyReply(reply);
          if (!this.#queue.isEmpty || this.#cancels.length > 0) this.#flushSoon();
          break;
        case 'renewed':
          this.#applyStable(message.value.stablePosition);
          if (message.value.access !== undefined) this.#emit({ kind: 'access', access: message.value.access });
          this.#emit({ kind: 'routes', nodes: message.value.nodes });
          this.#applyRenewal(message.value.number);
          break;
        case 'recall':
          this.#applyRecall(link, message.value);
          break;
        case 'refused':
          throw this.#refused(message.value.failure);
        case 'detached':
          this.#detached?.();
          break;
        case 'attached':
          throw new CollectiveError('internal', 'Read the session: it was attached twice on one stream');
      }
    }
  }

  // ---- what messages change ----

  #apply(link: SessionLink, attached: Attached, asked: number, sentMs: number): void {
    const before = this.#attached;
    const epoch = epochOf(attached);
    if (before !== undefined && compareEpochs(epoch, epochOf(before)) < 0)
      throw new CollectiveError('unavailable', `Attach to ${this.#options.connector.address}: it is of an older epoch`);
    if (asked !== 0 && !attached.resumed) this.#sessionLost();
    const restarted = before === undefined || compareEpochs(epoch, epochOf(before)) !== 0;
    if (restarted) this.#stablePosition = 0;
    // M7: read promises end with the epoch; recalls that the last start still owed are not known to this one.
    if (restarted) this.#cache?.clear();
    this.#attached = attached;
    this.#state = { name: 'attached', link };
    this.#linkSeenMs = this.#clock.bootMs();
    this.#renewalSentMs = sentMs;
    this.#renewalAnswered = true;
    this.#extendLeases(sentMs);
    this.#acknowledgements.streamBroke();
    if (restarted && before !== undefined)
      this.#acknowledgements.add(this.#replays.settleRecovered(epochOf(before), attached.recoveredPosition));
    this.#emit({ kind: 'attached', attached });
    this.#emit({ kind: 'routes', nodes: attached.nodes });
    if (attached.access !== undefined) this.#emit({ kind: 'access', access: attached.access });
    if (asked !== 0 && attached.resumed) this.#resend(link, epoch);
    this.#resolveRenewed();
    this.#flushSoon();
  }

  /** M4: changes that may be lost come first and in order, then what has no answer, then whatever is new. */
  #resend(link: SessionLink, epoch: Epoch): void {
    const unanswered: PendingRequest[] = [];
    const cancels: PendingRequest[] = [];
    for (const [number, request] of this.#sent) {
      if (request.state === 'replay') this.#sent.delete(number);
      else if (request.operation.op?.$case === 'cancel') cancels.push(request);
      else if (request.state === 'sent') unanswered.push(request);
      else this.#sent.delete(number);
    }
    const replays = this.#replays.toReplay(epoch).map((change): PendingRequest => {
      const drawn = change.reply.drawn ?? { time: undefined, inodes: [] };
      return {
        operation: { ...change.operation, replay: drawn },
        state: 'replay',
        stamp: 0,
        startedMs: this.#clock.bootMs(),
        deadlineMs: undefined,
        settle: () => undefined,
      };
    });
    for (const request of replays) this.#sent.set(request.operation.number, request);
    this.#sendOperations(link, replays);
    link.send({ message: { $case: 'replayed', value: {} } });
    this.#sendOperations(link, [...cancels, ...unanswered]);
  }

  #applyReply(reply: Reply): void {
    const request = this.#sent.get(reply.number);
    if (request === undefined || request.operation.step !== reply.step) return;
    this.#sent.delete(reply.number);
    const body = bodyOf(request.operation);
    if (request.state === 'replay') {
      this.#applyReplay(request.operation, body, reply);
      return;
    }
    if (!isRead(body) && body.$case !== 'cancel') this.#keepForReplay(request.operation, reply);
    this.#cache?.change(body, reply);
    this.#cache?.absorb(body, reply, request.stamp);
    if (body.$case === 'cancel') {
      const cancelled = this.#sent.get(body.value.number);
      if (cancelled?.state === 'given-up') this.#sent.delete(body.value.number);
    }
    if (request.state === 'sent') request.settle({ reply });
  }

  /** Kept answers are acknowledged only when nothing can take the change back. */
  #keepForReplay(operation: Operation, reply: Reply): void {
    // Nothing was written, so no answer was kept.
    if (reply.position === 0) return;
    const epoch = epochOf(this.attached);
    this.#replays.add({ operation, reply, epoch });
    this.#applyStable(this.#stablePosition);
  }

  #applyReplay(operation: Operation, body: OperationBody, reply: Reply): void {
    const before = this.#replays.get(reply.number);
    if (before === undefined) return;
    if (!sameOutcome(before.reply, reply)) {
      const inode = subjectInode(body, before.reply);
      const what = `Make a change of inode ${inode} again that was lost with the coordinator's power: it ended differently`;
      const error = new CollectiveError('replay_differs', what, { details: { inode, operation: body.$case } });
      if (this.#doubtful.size < DOUBTFUL_INODES_MAX) this.#doubtful.set(inode, error);
      this.#emit({ kind: 'replay-differs', inode, error });
    }
    this.#replays.drop(reply.number);
    this.#keepForReplay({ ...operation, replay: undefined }, { ...reply, drawn: reply.drawn ?? before.reply.drawn });
  }

  #applyStable(position: number): void {
    this.#stablePosition = Math.max(this.#stablePosition, position);
    if (this.#replays.size === 0) return;
    this.#acknowledgements.add(this.#replays.settle(epochOf(this.attached), this.#stablePosition));
  }

  #applyRenewal(number: number): void {
    if (number !== this.#renewalNumber) return;
    this.#renewalAnswered = true;
    this.#acknowledgements.renewalAnswered();
    this.#extendLeases(this.#renewalSentMs);
    this.#resolveRenewed();
  }

  #resolveRenewed(): void {
    const renewed = this.#renewed;
    this.#renewed = [];
    for (const { resolve } of renewed) resolve();
  }

  #rejectRenewed(error: CollectiveError): void {
    const renewed = this.#renewed;
    this.#renewed = [];
    for (const { reject } of renewed) reject(error);
  }

  #applyRecall(link: SessionLink, recall: Recall): void {
    this.#cache?.recall(recall);
    const answer = (done: RecallAnswer): void => {
      // A recall belongs to its stream: after a new attach the coordinator asks again.
      if (this.#state.name !== 'attached' || this.#state.link !== link) return;
      link.send({
        message: {
          $case: 'recallDone',
          value: { sequence: recall.sequence, open: done.open ?? false, blockedBy: [...(done.blockedBy ?? [])] },
        },
      });
    };
    if (this.#options.onRecall === undefined) {
      answer({});
      return;
    }
    // What the layer above could not save it reports itself; the promise ends either way.
    this.#options
      .onRecall({ inode: recall.inode, kinds: recall.kinds, names: recall.names })
      .then(answer, () => answer({}));
  }

  #extendLeases(sentMs: number): void {
    this.#sessionUntilMs = sentMs + this.attached.sessionLeaseMs;
    this.#cache?.extendLease(sentMs + this.attached.promiseLeaseMs);
  }

  #linkLost(error: CollectiveError): void {
    if (this.#state.name !== 'attached') return;
    this.#state = { name: 'detached' };
    this.#lostSinceMs = this.#clock.bootMs();
    this.#detached?.();
    this.#emit({ kind: 'link-lost', error });
  }

  /** M5: what was sent and not answered may or may not have taken effect; nobody can tell any more. */
  #sessionLost(): void {
    this.#generation++;
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
    this.#acknowledgements.clear();
    this.#cache?.clear();
    this.#emit({ kind: 'session-lost', changesInDoubt: this.#replays.clear() });
  }

  #refused(failure: Parameters<typeof fromFailure>[0] | undefined): CollectiveError {
    const error =
      failure === undefined ? new CollectiveError('unavailable', 'Attach a session: refused') : fromFailure(failure);
    if (error.code === 'fenced') this.#end(error);
    if (error.code === 'session_lost' && this.#attached !== undefined) {
      this.#sessionLost();
      this.#attached = { ...this.#attached, session: 0 };
    }
    return error;
  }

  // ---- sending ----

  #operation(body: OperationBody, settings: CallSettings): Operation {
    return {
      number: 0,
      step: 0,
      durability: settings.durability === 'written' ? Durability.WRITTEN : Durability.STABLE,
      credential: settings.credential,
      replay: undefined,
      op: body,
    };
  }

  #flushSoon(): void {
    if (this.#flushing || this.#state.name !== 'attached') return;
    this.#flushing = true;
    this.#clock.defer(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#state.name !== 'attached') return;
    const cancels = this.#cancels;
    this.#cancels = [];
    const room = this.#replays.size >= REPLAY_CHANGES_MAX ? 0 : Math.max(0, IN_FLIGHT_MAX - this.#sent.size);
    const batch = [...cancels, ...this.#queue.take(room)];
    for (const request of batch) {
      request.operation.number = this.#nextNumber++;
      if (request.state === 'queued') request.state = 'sent';
      this.#sent.set(request.operation.number, request);
    }
    this.#sendOperations(this.#state.link, batch);
  }

  #sendOperations(link: SessionLink, requests: readonly PendingRequest[]): void {
    let operations: Operation[] = [];
    let bytes = 0;
    const send = (): void => {
      if (operations.length === 0) return;
      const acknowledged = this.#acknowledgements.take();
      link.send({ message: { $case: 'operations', value: { operations, acknowledged } } });
      operations = [];
      bytes = 0;
    };
    for (const request of requests) {
      const body = bodyOf(request.operation);
      this.#cache?.change(body);
      request.stamp = this.#cache?.stamp() ?? 0;
      operations.push(request.operation);
      bytes += weightBytes(body);
      if (operations.length >= MESSAGE_OPERATIONS_MAX || bytes >= MESSAGE_BYTES_MAX) send();
    }
    send();
  }

  #sendRenewal(link: SessionLink): void {
    const acknowledged = this.#acknowledgements.take();
    this.#acknowledgements.renewalSent();
    this.#renewalNumber++;
    this.#renewalSentMs = this.#clock.bootMs();
    this.#renewalAnswered = false;
    const bundleHash = this.#options.bundleHash?.() ?? '';
    link.send({ message: { $case: 'renew', value: { acknowledged, bundleHash, number: this.#renewalNumber } } });
  }

  /** The caller no longer waits: what was not sent never will be, what was sent is cancelled before anything else is (M5). */
  #giveUp(request: PendingRequest, reason: unknown): void {
    if (request.state === 'queued') {
      this.#queue.giveUp(request);
    } else {
      request.state = 'given-up';
      const { number, step } = request.operation;
      this.#cancels.push(this.#ownRequest({ $case: 'cancel', value: { number, step } }));
      this.#flushSoon();
    }
    request.settle({ error: reason });
  }

  #ownRequest(body: OperationBody, answered: () => void = () => undefined): PendingRequest {
    return {
      operation: this.#operation(body, { durability: 'written' }),
      state: 'queued',
      stamp: 0,
      startedMs: Number.POSITIVE_INFINITY,
      deadlineMs: undefined,
      settle: answered,
    };
  }

  // ---- time ----

  #scheduleTick(): void {
    this.#tick = this.#clock.setTimer(
      TICK_MS,
      () => {
        if (this.#isEnded()) return;
        this.#onTick(this.#clock.bootMs());
        this.#scheduleTick();
      },
      { background: true },
    );
  }

  #onTick(nowMs: number): void {
    if (this.#cache !== undefined && !this.#cache.leaseHolds) {
      if (this.#cache.size > 0) this.#emit({ kind: 'lease-ended' });
      this.#cache.clear();
    }
    this.#endLateRequests(nowMs);
    if (this.#state.name !== 'attached') return;
    const { link } = this.#state;
    const leaseMs = this.attached.promiseLeaseMs;
    if (!this.#renewalAnswered && nowMs - this.#renewalSentMs > leaseMs && nowMs - this.#linkSeenMs > leaseMs) {
      // The stream stands but nothing comes: a new one may go round what is stuck.
      link.close();
      return;
    }
    if (this.#renewalAnswered && nowMs - this.#renewalSentMs >= leaseMs / 3 - TICK_MS) this.#sendRenewal(link);
    const isOpen = new Set(this.#options.openInodes?.() ?? []);
    const dropped = [...(this.#cache?.takeForgotten() ?? []), ...this.#closedInodes];
    this.#closedInodes.clear();
    const forgotten = dropped.filter((inode) => !isOpen.has(inode));
    if (forgotten.length > 0) {
      const forget: OperationBody = { $case: 'forget', value: { inodes: forgotten } };
      this.#queue.add(this.#ownRequest(forget, () => this.#cache?.forget(forgotten)));
      this.#flushSoon();
    }
  }

  #endLateRequests(nowMs: number): void {
    const reconnectWithinMs = this.#options.reconnectWithinMs ?? RECONNECT_WITHIN_MS;
    const outOfReach = this.#state.name !== 'attached';
    if (outOfReach && nowMs - this.#lostSinceMs > reconnectWithinMs)
      this.#rejectRenewed(this.#unreachable(reconnectWithinMs));
    const isLate = (request: PendingRequest): CollectiveError | undefined => {
      if (outOfReach && nowMs - Math.max(request.startedMs, this.#lostSinceMs) > reconnectWithinMs)
        return this.#unreachable(reconnectWithinMs);
      if (request.deadlineMs !== undefined && nowMs > request.deadlineMs)
        return new CollectiveError(
          'deadline_exceeded',
          `Wait for the coordinator's answer: none within ${OPERATION_WITHIN_MS} ms`,
        );
      return undefined;
    };
    for (const request of [...this.#sent.values(), ...this.#queue.waiting()]) {
      if (request.state !== 'sent' && request.state !== 'queued') continue;
      const error = isLate(request);
      if (error !== undefined) this.#giveUp(request, error);
    }
  }

  #unreachable(withinMs: number): CollectiveError {
    const what = `Reach the coordinator at ${this.#options.connector.address}: not within ${withinMs} ms`;
    return new CollectiveError('unavailable', what);
  }

  // ---- the end ----

  /** What was answered as written is to be stable before the session goes: nobody could send it again. */
  async #untilStable(): Promise<void> {
    const untilMs = this.#clock.bootMs() + DETACH_WITHIN_MS;
    while (this.#replays.size > 0 && this.#state.name === 'attached' && this.#clock.bootMs() < untilMs) {
      this.#sendRenewal(this.#state.link);
      await sleep(this.#clock, BACKOFF_FIRST_MS);
    }
  }

  async #detach(): Promise<void> {
    const state = this.#state;
    if (state.name !== 'attached') return;
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      this.#detached = resolve;
      timer = this.#clock.setTimer(DETACH_WITHIN_MS, resolve);
      this.#flush();
      state.link.send({ message: { $case: 'detach', value: {} } } satisfies ClientMessage);
    });
    timer?.cancel();
    state.link.close();
  }

  #failAll(error: CollectiveError): void {
    for (const request of [...this.#sent.values(), ...this.#queue.waiting()]) {
      if (request.state === 'sent' || request.state === 'queued') this.#giveUp(request, error);
    }
  }

  #end(error: CollectiveError): void {
    if (this.#state.name === 'closed') return;
    const { link } = this.#state.name === 'attached' ? this.#state : { link: undefined };
    this.#state = { name: 'closed', error };
    this.#tick?.cancel();
    for (const request of [...this.#sent.values(), ...this.#queue.waiting()]) {
      if (request.state === 'sent' || request.state === 'queued') request.settle({ error });
    }
    this.#sent.clear();
    this.#queue.clear();
    this.#cancels = [];
    this.#replays.clear();
    this.#cache?.clear();
    this.#rejectRenewed(error);
    this.#stop.abort(error);
    link?.close();
  }

  #isEnded(): boolean {
    return this.#state.name === 'closed';
  }

  #emit(event: SessionEvent): void {
    this.#options.onEvent?.(event);
  }
}

function bodyOf(operation: Operation): OperationBody {
  assert(operation.op !== undefined, 'an operation of this program has a body');
  return operation.op;
}

function epochOf(attached: Attached): Epoch {
  assert(attached.epoch !== undefined, 'the coordinator names its epoch');
  return attached.epoch;
}

/** At the first attach these end the try; later they may pass (a certificate is renewed, a right is given back). */
function isFinal(error: CollectiveError): boolean {
  switch (error.code) {
    case 'unavailable':
    case 'shutting_down':
    case 'overloaded':
    case 'deadline_exceeded':
    case 'session_lost':
    // The coordinator's own disk: it is started again by itself.
    case 'disk_failed':
      return false;
    default:
      return true;
  }
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) onAbort();
  });
}
