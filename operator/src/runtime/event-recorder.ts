/**
 * Events as `kubectl describe` shows them (events.k8s.io/v1). `record` only takes note and never throws or waits: events tell people
 * what happened, and no reconcile may fail or be slow for them. What happens again within minutes is not another event but a series
 * of the first one: its count goes up at most once a minute.
 *
 * Everything is bounded: events that are remembered, events of one object (25 at once, then one a minute), tries, and the time that
 * stopping takes. What is beyond is dropped, and counted in the log.
 */
import { type Clock, sleep, type Timer, wallMs } from '@collective/base/clock';
import { toCollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import { FIELD_MANAGER } from '../api/group.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { PlannedEvent } from '../member/plan-types.ts';
import { EventBudget } from './event-budget.ts';
import { microTime } from './lease.ts';

const SERIES_MAX = 2_000;
/** Later than this the same is a new event. */
const SERIES_ENDS_AFTER_MS = 6 * 60_000;
const COUNT_EVERY_MS = 60_000;
const TRIES_MAX = 4;
const TRY_AGAIN_AFTER_MS = 5_000;
const STOP_WITHIN_MS = 3_000;
/** Bounds of the API. */
const NOTE_BYTES_MAX = 1_024;
const NAME_CHARACTERS_MAX = 253;
const CUT = ' …';

export interface EventRecorderOptions {
  readonly api: Pick<KubeApi, 'create' | 'patch'>;
  readonly clock: Clock;
  readonly log: Log;
  /** This process: the name of its pod. */
  readonly instance: string;
}

interface Series {
  readonly event: KubeObject;
  count: number;
  lastWallMs: number;
  lastMs: number;
  /** As the server knows it; 0: not at all. */
  toldCount: number;
  dueAtMs: number | undefined;
  tries: number;
}

export class EventRecorder implements AsyncDisposable {
  readonly #options: EventRecorderOptions;
  readonly #budget: EventBudget;
  readonly #series = new Map<string, Series>();
  readonly #stop = new AbortController();
  #pumping: Promise<void> | undefined;
  #timer: Timer | undefined;
  #names = 0;
  #dropped = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#budget = new EventBudget(options.clock);
  }

  record(regarding: KubeObject, { type, reason, message }: PlannedEvent, action = 'Reconcile'): void {
    if (this.#stop.signal.aborted) return;
    const nowMs = this.#options.clock.bootMs();
    const { uid = '', namespace = '', name } = regarding.metadata;
    const note = cutNote(message);
    const same = JSON.stringify([regarding.kind, namespace, name, uid, type, reason, note]);
    const known = this.#series.get(same);
    if (known !== undefined && nowMs - known.lastMs < SERIES_ENDS_AFTER_MS) {
      known.count++;
      known.lastMs = nowMs;
      known.lastWallMs = wallMs(this.#options.clock);
      known.dueAtMs ??= nowMs + COUNT_EVERY_MS;
    } else {
      if (!this.#budget.take(`${namespace}/${name} ${uid}`) || !this.#makeRoom(nowMs)) {
        this.#drop(reason);
        return;
      }
      const event = this.#event(regarding, { type, reason, message: note }, action);
      const lastWallMs = wallMs(this.#options.clock);
      const made = {
        event,
        firstMs: nowMs,
        count: 1,
        lastWallMs,
        lastMs: nowMs,
        toldCount: 0,
        dueAtMs: nowMs,
        tries: 0,
      };
      this.#series.delete(same);
      this.#series.set(same, made);
    }
    this.#pump();
  }

  /** What is noted is still told, as far as that is quick. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { clock, log } = this.#options;
    for (const one of this.#series.values()) if (one.dueAtMs !== undefined) one.dueAtMs = clock.bootMs();
    this.#pump();
    const limit = clock.setTimer(STOP_WITHIN_MS, () => this.#stop.abort(new Error('The recorder of events stops')));
    await this.#pumping;
    limit.cancel();
    this.#timer?.cancel();
    this.#stop.abort(new Error('The recorder of events has stopped'));
    const untold = [...this.#series.values()].filter(({ dueAtMs }) => dueAtMs !== undefined).length;
    if (untold > 0) log.warn({ untold }, 'events were not told');
  }

  #pump(): void {
    this.#pumping ??= this.#tellAllDue().finally(() => {
      this.#pumping = undefined;
      this.#wakeForNext();
    });
  }

  async #tellAllDue(): Promise<void> {
    const { clock } = this.#options;
    for (let due = this.#nextDue(); due !== undefined; due = this.#nextDue()) {
      if ((due.dueAtMs ?? 0) > clock.bootMs() || this.#stop.signal.aborted) return;
      await this.#tell(due);
    }
  }

  #nextDue(): Series | undefined {
    let next: Series | undefined;
    for (const one of this.#series.values()) {
      if (one.dueAtMs !== undefined && one.dueAtMs < (next?.dueAtMs ?? Number.POSITIVE_INFINITY)) next = one;
    }
    return next;
  }

  #wakeForNext(): void {
    const { clock } = this.#options;
    this.#timer?.cancel();
    const { dueAtMs } = this.#nextDue() ?? {};
    if (dueAtMs === undefined || this.#stop.signal.aborted) return;
    this.#timer = clock.setTimer(Math.max(0, dueAtMs - clock.bootMs()), () => this.#pump(), { background: true });
  }

  async #tell(series: Series): Promise<void> {
    const { clock, log } = this.#options;
    const { count } = series;
    series.dueAtMs = undefined;
    try {
      await this.#send(series);
      series.toldCount = count;
      series.tries = 0;
      if (series.count > count) series.dueAtMs ??= clock.bootMs() + COUNT_EVERY_MS;
    } catch (thrown) {
      const mayTry = isKubeError(thrown) && !thrown.isRefusal && !thrown.isConflict && ++series.tries < TRIES_MAX;
      if (mayTry && !this.#stop.signal.aborted) {
        series.dueAtMs = clock.bootMs() + TRY_AGAIN_AFTER_MS;
        // Whatever keeps one from being told most likely keeps the others too.
        await sleep(clock, TRY_AGAIN_AFTER_MS, this.#stop.signal).catch(() => undefined);
        return;
      }
      const { reason } = series.event;
      log.warn({ err: toCollectiveError(thrown, 'Tell an event', 'unavailable'), reason }, 'event is not told');
    }
  }

  async #send(series: Series): Promise<void> {
    const { api } = this.#options;
    const { signal } = this.#stop;
    const { event, count, lastWallMs, toldCount } = series;
    const told = { series: { count, lastObservedTime: microTime(lastWallMs) } };
    if (toldCount === 0) {
      const whole = count === 1 ? event : { ...event, ...told };
      await api.create(RESOURCES.events, whole, { signal }).catch((thrown: unknown) => {
        // Of a try whose answer was lost: the name is ours alone.
        if (!isKubeError(thrown) || thrown.code !== 'exists') throw thrown;
      });
      return;
    }
    const { namespace = '', name } = event.metadata;
    try {
      await api.patch({ resource: RESOURCES.events, namespace, name }, told, { signal });
    } catch (thrown) {
      if (!isKubeError(thrown) || !thrown.isNotFound) throw thrown;
      // Events live for an hour or so; a series may live longer.
      await api.create(RESOURCES.events, { ...event, ...told }, { signal });
    }
  }

  #event(regarding: KubeObject, { type, reason, message }: PlannedEvent, action: string): KubeObject {
    const { instance, clock } = this.#options;
    const { apiVersion, kind, metadata } = regarding;
    const { namespace = 'default', name, uid, resourceVersion } = metadata;
    const suffix = `.${wallMs(clock).toString(16)}${(this.#names++ & 0xffff).toString(16).padStart(4, '0')}`;
    return {
      apiVersion: RESOURCES.events.apiVersion,
      kind: RESOURCES.events.kind,
      metadata: { namespace, name: `${name.slice(0, NAME_CHARACTERS_MAX - suffix.length)}${suffix}` },
      eventTime: microTime(wallMs(clock)),
      reportingController: FIELD_MANAGER,
      reportingInstance: instance,
      action,
      type,
      reason,
      note: message,
      regarding: { apiVersion, kind, namespace, name, uid, resourceVersion },
    };
  }

  /** Series that are over go first, then the oldest of those that have nothing to tell. */
  #makeRoom(nowMs: number): boolean {
    if (this.#series.size < SERIES_MAX) return true;
    const idle = [...this.#series].filter(([, { dueAtMs }]) => dueAtMs === undefined);
    const over = idle.filter(([, { lastMs }]) => nowMs - lastMs >= SERIES_ENDS_AFTER_MS);
    for (const [same] of over.length > 0 ? over : idle.slice(0, 1)) this.#series.delete(same);
    return this.#series.size < SERIES_MAX;
  }

  #drop(reason: string): void {
    // Powers of two: the log says that it goes on without repeating each.
    this.#dropped++;
    if ((this.#dropped & (this.#dropped - 1)) !== 0) return;
    this.#options.log.warn({ reason, dropped: this.#dropped }, 'events are dropped');
  }
}

function cutNote(message: string): string {
  const bytes = Buffer.from(message);
  if (bytes.length <= NOTE_BYTES_MAX) return message;
  // A letter that is cut in the middle decodes to U+FFFD; it goes.
  return `${bytes.toString('utf8', 0, NOTE_BYTES_MAX - Buffer.byteLength(CUT)).replace(/\uFFFD+$/u, '')}${CUT}`;
}
