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
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { compareEpochs, type Epoch } from '@collective/base/ids';
import { WIRE_VERSION } from '@collective/base/limits';
import { randomUnit } from '@collective/base/random';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import type { Attach, Attached, ClientMessage, Recall, Reply } from '@collective/protocol/gen/session';
import { SPACE_RECALL } from '@collective/protocol/session-features';
import { abortable } from '../abortable.ts';
import { PromiseCache } from '../cache/promise-cache.ts';
import type { OperationBody } from './operation-kinds.ts';
import { Renewals } from './renewals.ts';
import { Requests } from './requests.ts';
import type { SessionLink } from './session-connector.ts';
import {
  type CallSettings,
  CONNECT_WITHIN_MS,
  RECONNECT_WITHIN_MS,
  type RecallAnswer,
  type SessionEvent,
  type SessionOptions,
} from './session-options.ts';

/** Closed inodes that wait to be told; beyond that the coordinator asks once more when it needs to know. */
const FORGOTTEN_INODES_MAX = 10_000;
const TICK_MS = 500;
const ATTACH_WITHIN_MS = 10_000;
const DETACH_WITHIN_MS = 2_000;
const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 2_000;
const FEATURES: readonly string[] = [SPACE_RECALL];

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
  readonly #requests: Requests;
  readonly #renewals = new Renewals();
  readonly #closedInodes = new Set<number>();
  #state: State = { name: 'detached' };
  #attached: Attached | undefined;
  #generation = 0;
  #flushing = false;
  #linkSeenMs: number;
  #lostSinceMs: number;
  /** Why the last try to attach failed, or the last link ended. */
  #linkError: CollectiveError | undefined;
  #sessionUntilMs = Number.POSITIVE_INFINITY;
  #tick: Timer | undefined;
  #running: Promise<void> | undefined;
  #detached: (() => void) | undefined;

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
    this.#requests = new Requests({
      clock: options.clock,
      cache: this.#cache,
      onWork: () => this.#flushSoon(),
      onReplayDiffers: (inode, error) => this.#emit({ kind: 'replay-differs', inode, error }),
      reconnectWithinMs: options.reconnectWithinMs ?? RECONNECT_WITHIN_MS,
    });
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
    return this.#requests.inFlight;
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
    return this.#requests.add(body, settings);
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
    const renewed = this.#renewals.next();
    if (this.#state.name === 'attached' && !this.#renewals.isUnderWay) this.#sendRenewal(this.#state.link);
    await abortable(renewed, signal);
  }

  /** Ends the session in order; calls under way are given up. Safe to call twice. */
  async close(): Promise<void> {
    const state = this.#state;
    if (state.name === 'attached') {
      this.#requests.giveUpAll(
        new CollectiveError('interrupted', 'Close the session: the operation had no answer yet'),
      );
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
          const what = `Attach to the coordinator at ${this.#options.connector.address}: not within ${formatDurationMs(withinMs)}`;
          reject(new CollectiveError(lastError?.code ?? 'unavailable', what, { cause: lastError }));
        });
        onAbort = () => reject(signal?.reason);
        signal?.addEventListener('abort', onAbort, { once: true });
        this.#running = this.#run({
          attached: resolve,
          failed: (error) => {
            lastError = error;
            if (this.#attached === undefined) this.#emit({ kind: 'attach-failed', error });
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
        this.#linkError = error;
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
    link.send({ message: { $case: 'attach', value: this.#attach(known) } });
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

  #attach(session: number): Attach {
    const { listener, bundleHash, program, openInodes, credential, space } = this.#options;
    return {
      wireVersion: WIRE_VERSION,
      features: [...FEATURES],
      clientId: this.#clientId,
      session,
      listener,
      bundleHash: bundleHash?.() ?? '',
      caches: this.#cache !== undefined,
      program,
      held: this.#cache?.held() ?? [],
      openInodes: openInodes?.() ?? [],
      credential,
      lastEpoch: this.#attached?.epoch,
      space: space?.() ?? [],
    };
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
          this.#requests.applyStable(message.value.stablePosition);
          for (const reply of message.value.replies) this.#requests.apply(reply);
          if (this.#requests.hasWork) this.#flushSoon();
          break;
        case 'renewed':
          this.#requests.applyStable(message.value.stablePosition);
          if (message.value.access !== undefined) this.#emit({ kind: 'access', access: message.value.access });
          this.#emit({ kind: 'routes', nodes: message.value.nodes });
          if (message.value.trust !== undefined) this.#emit({ kind: 'trust', told: message.value.trust });
          if (message.value.realms !== undefined && this.#attached !== undefined)
            this.#attached = { ...this.#attached, realms: message.value.realms.realms };
          if (this.#renewals.end(message.value.number)) {
            this.#requests.acknowledgements.renewalAnswered();
            this.#extendLeases(this.#renewals.sentMs);
          }
          break;
        case 'recall':
          this.#applyRecall(link, message.value);
          break;
        case 'spaceRecall': {
          const { realm } = message.value;
          const bytes = this.#options.onSpaceRecall?.(realm) ?? 0;
          link.send({ message: { $case: 'giveBack', value: { realm, bytes } } });
          break;
        }
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
    // M7: read promises end with the epoch; recalls that the last start still owed are not known to this one.
    if (restarted) this.#cache?.clear();
    this.#attached = attached;
    this.#state = { name: 'attached', link };
    this.#linkSeenMs = this.#clock.bootMs();
    this.#renewals.attached(sentMs);
    this.#extendLeases(sentMs);
    const recovered = { before: epochOf(before ?? attached), position: attached.recoveredPosition };
    this.#requests.attached(epoch, restarted && before !== undefined ? recovered : undefined);
    this.#emit({ kind: 'attached', attached });
    this.#emit({ kind: 'routes', nodes: attached.nodes });
    if (attached.access !== undefined) this.#emit({ kind: 'access', access: attached.access });
    if (attached.trust !== undefined) this.#emit({ kind: 'trust', told: attached.trust });
    if (asked !== 0 && attached.resumed) this.#requests.resend(link);
    this.#renewals.resolveAll();
    this.#flushSoon();
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
    const changesInDoubt = this.#requests.sessionLost();
    this.#cache?.clear();
    this.#emit({ kind: 'session-lost', changesInDoubt });
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

  #flushSoon(): void {
    if (this.#flushing || this.#state.name !== 'attached') return;
    this.#flushing = true;
    this.#clock.defer(() => {
      this.#flushing = false;
      if (this.#state.name === 'attached') this.#requests.flush(this.#state.link);
    });
  }

  #sendRenewal(link: SessionLink): void {
    const { acknowledgements } = this.#requests;
    const acknowledged = acknowledgements.take();
    acknowledgements.renewalSent();
    const number = this.#renewals.begin(this.#clock.bootMs());
    const bundleHash = this.#options.bundleHash?.() ?? '';
    link.send({ message: { $case: 'renew', value: { acknowledged, bundleHash, number } } });
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
    this.#giveUpLate(nowMs);
    if (this.#state.name !== 'attached') return;
    const { link } = this.#state;
    const leaseMs = this.attached.promiseLeaseMs;
    const { isUnderWay, sentMs } = this.#renewals;
    const silentMaxMs = leaseMs / 2;
    if (isUnderWay && nowMs - sentMs > silentMaxMs && nowMs - this.#linkSeenMs > silentMaxMs) {
      // The stream stands but nothing comes: a new one may go round what is stuck. It comes in time for the gate of a
      // coordinator that lost its power and was started again, which stands for one lease (M6).
      link.close();
      return;
    }
    if (!isUnderWay && nowMs - sentMs >= leaseMs / 3 - TICK_MS) this.#sendRenewal(link);
    this.#forgetClosed();
  }

  #forgetClosed(): void {
    const isOpen = new Set(this.#options.openInodes?.() ?? []);
    const dropped = [...(this.#cache?.takeForgotten() ?? []), ...this.#closedInodes];
    this.#closedInodes.clear();
    const forgotten = dropped.filter((inode) => !isOpen.has(inode));
    if (forgotten.length === 0) return;
    this.#requests.addOwn({ $case: 'forget', value: { inodes: forgotten } }, () => this.#cache?.forget(forgotten));
  }

  #giveUpLate(nowMs: number): void {
    if (this.#state.name === 'attached') {
      this.#requests.giveUpLate(nowMs);
      return;
    }
    const withinMs = this.#options.reconnectWithinMs ?? RECONNECT_WITHIN_MS;
    const what = `Reach the coordinator at ${this.#options.connector.address}: not within ${formatDurationMs(withinMs)}`;
    const error = new CollectiveError('unavailable', what, { cause: this.#linkError });
    if (nowMs - this.#lostSinceMs > withinMs) this.#renewals.rejectAll(error);
    this.#requests.giveUpLate(nowMs, { sinceMs: this.#lostSinceMs, withinMs, error });
  }

  // ---- the end ----

  /** What was answered as written is to be stable before the session goes: nobody could send it again. */
  async #untilStable(): Promise<void> {
    const untilMs = this.#clock.bootMs() + DETACH_WITHIN_MS;
    while (this.#requests.unstable > 0 && this.#state.name === 'attached' && this.#clock.bootMs() < untilMs) {
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
      this.#requests.flush(state.link);
      state.link.send({ message: { $case: 'detach', value: {} } } satisfies ClientMessage);
    });
    timer?.cancel();
    state.link.close();
  }

  #end(error: CollectiveError): void {
    if (this.#state.name === 'closed') return;
    const { link } = this.#state.name === 'attached' ? this.#state : { link: undefined };
    this.#state = { name: 'closed', error };
    this.#tick?.cancel();
    this.#requests.end(error);
    this.#renewals.rejectAll(error);
    this.#cache?.clear();
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
