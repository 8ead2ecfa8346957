/**
 * A node's line to its coordinator (D10): it opens the link, registers, and reports at the interval that the coordinator gives; after
 * anything goes wrong it starts over, with growing pauses. The answers bring epoch, keys and the addresses of the other
 * nodes. The node needs nobody's help to be known again, whichever side was restarted.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { chunkIdFromBytes } from '@collective/base/ids';
import { HEARTBEAT_INTERVAL_MS } from '@collective/base/limits';
import type { Log } from '@collective/base/log';
import { type Random, randomUnit } from '@collective/base/random';
import type { BulkTarget } from '@collective/protocol/bulk/connection';
import { fromFailure } from '@collective/protocol/errors/grpc-status';
import type { TrustBundle } from '@collective/protocol/gen/common';
import type { CoordinatorMessage, MakeStable, NodeMessage, NodeReport, Welcome } from '@collective/protocol/gen/node';
import type { Link } from '@collective/protocol/link/link';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';
import type { AccessControl } from './access-control.ts';
import type { OrderDesk, OrderTaker } from './order-taker.ts';

const RETRY_MIN_MS = 200;
/** With its spread still below a heartbeat: a coordinator that comes back knows the node within one (D10). */
const RETRY_MAX_MS = 1_500;
/** Without an answer for so many heartbeats the link is dead. */
const SILENT_HEARTBEATS_MAX = 3;

export interface NodeLink extends Link<NodeMessage, CoordinatorMessage> {
  /** It was closed because the node's own certificate has changed: the next one is opened at once (T6). */
  readonly outdated?: boolean;
}

export interface CoordinatorLinkOptions {
  /** Opens the link; throws when the coordinator cannot be reached. */
  connect(signal: AbortSignal): Promise<NodeLink>;
  /** The facts of now. */
  report(): NodeReport;
  readonly store: ChunkStore;
  readonly access: AccessControl;
  readonly orders: OrderTaker;
  /** Where the member's nodes are. */
  setRoutes(routes: readonly BulkTarget[]): void;
  /** Within how many seconds everything is to be read once; 0: not at all. */
  setScrubPeriod(seconds: number): void;
  /** The member's roots, or the one that signs, are not those that this node has shown (T6). */
  takeTrust?(told: TrustBundle): void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class CoordinatorLink {
  readonly #options: CoordinatorLinkOptions;
  #registered = false;

  constructor(options: CoordinatorLinkOptions) {
    this.#options = options;
  }

  /** True while the coordinator answers. */
  get registered(): boolean {
    return this.#registered;
  }

  /** Keeps the line until the signal is aborted; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    let pauseMs = RETRY_MIN_MS;
    let lastCode = '';
    while (!signal.aborted) {
      const beganMs = clock.bootMs();
      try {
        await this.#keepOneLink(signal);
        log.info({}, 'coordinator link is opened anew, with the new certificate');
        continue;
      } catch (thrown) {
        if (signal.aborted) break;
        const error = toCollectiveError(thrown, 'Keep the link to the coordinator', 'unavailable');
        // The same trouble every two seconds is one event.
        if (this.#registered || error.code !== lastCode) log.warn({ err: error }, 'coordinator link lost');
        lastCode = error.code;
      }
      this.#registered = false;
      if (clock.bootMs() - beganMs > RETRY_MAX_MS) pauseMs = RETRY_MIN_MS;
      await this.#pause(pauseMs, signal);
      pauseMs = Math.min(RETRY_MAX_MS, pauseMs * 2);
    }
  }

  /** Resolves when the next one is to be opened at once. */
  async #keepOneLink(signal: AbortSignal): Promise<void> {
    const { connect, report, clock, orders } = this.#options;
    const link = await connect(signal);
    const ended = new AbortController();
    const desk = orders.desk((answer) => {
      // Who has waited for room writes next: the coordinator is to know of it by then, not with the next heartbeat.
      if (answer.answer?.$case === 'compacted') link.send({ message: { $case: 'heartbeat', value: report() } });
      link.send({ message: { $case: 'answer', value: answer } });
    });
    try {
      link.send({ message: { $case: 'register', value: report() } });
      let intervalMs = HEARTBEAT_INTERVAL_MS;
      let unanswered = 0;
      const beat = async (): Promise<void> => {
        for (;;) {
          await sleep(clock, intervalMs, ended.signal);
          if (unanswered >= SILENT_HEARTBEATS_MAX)
            throw new CollectiveError(
              'unavailable',
              `Keep the link to the coordinator: it left ${unanswered} heartbeats without an answer`,
            );
          unanswered++;
          link.send({ message: { $case: 'heartbeat', value: report() } });
        }
      };
      const either = AbortSignal.any([signal, ended.signal]);
      const listen = async (): Promise<void> => {
        for (;;) {
          const message = await link.receive(either);
          if (message === undefined && link.outdated === true) return;
          if (message === undefined)
            throw new CollectiveError('unavailable', 'Keep the link to the coordinator: it closed the link');
          unanswered = 0;
          intervalMs = (await this.#handle(message, link, desk)) ?? intervalMs;
        }
      };
      await Promise.race([beat(), listen()]);
    } finally {
      ended.abort(new CollectiveError('interrupted', 'The link to the coordinator ended'));
      desk.linkEnded();
      link.close();
    }
  }

  /** The new interval between heartbeats, if the message brings one. */
  async #handle({ message }: CoordinatorMessage, link: NodeLink, desk: OrderDesk): Promise<number | undefined> {
    switch (message?.$case) {
      case 'welcome':
      case 'update':
        return await this.#welcome(message.value);
      case 'askChunks': {
        const { question, chunks } = message.value;
        const held = chunks.filter((chunk) => this.#options.store.has(chunkIdFromBytes(chunk)));
        link.send({ message: { $case: 'chunksHeld', value: { question, held } } });
        return undefined;
      }
      case 'order':
        desk.take(message.value);
        return undefined;
      case 'makeStable':
        // Heartbeats and other questions go on meanwhile.
        void this.#makeStable(message.value, link);
        return undefined;
      case 'refused':
        throw message.value.failure === undefined
          ? new CollectiveError('permission_denied', 'Register with the coordinator: it refused')
          : fromFailure(message.value.failure);
      case undefined:
        // A newer coordinator says something that this version does not know.
        return undefined;
    }
  }

  /** D3: what the coordinator is about to rest on. No answer from a disk that fails: the process ends, and comes back without it. */
  async #makeStable({ question, chunks }: MakeStable, link: NodeLink): Promise<void> {
    const { store, log } = this.#options;
    const held = chunks.filter((chunk) => store.has(chunkIdFromBytes(chunk)));
    try {
      await store.sync();
    } catch (error) {
      log.warn({ err: error }, 'chunks not made stable');
      return;
    }
    const { disk, incarnation, stableSequence } = store;
    link.send({ message: { $case: 'chunksStable', value: { question, disk, incarnation, stableSequence, held } } });
  }

  async #welcome(welcome: Welcome): Promise<number> {
    const { access, setRoutes, setScrubPeriod, takeTrust, log } = this.#options;
    await access.welcome(welcome);
    setScrubPeriod(welcome.scrubPeriodSeconds);
    if (welcome.trust !== undefined) takeTrust?.(welcome.trust);
    setRoutes(welcome.nodes.map(({ name, host, port }) => ({ name, host, port })));
    if (!this.#registered)
      log.info({ epoch: welcome.epoch, nodes: welcome.nodes.length }, 'registered with the coordinator');
    this.#registered = true;
    return Math.max(100, welcome.heartbeatIntervalMs);
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    // Nodes that lost the same coordinator do not come back in step.
    const spreadMs = delayMs * (0.75 + randomUnit(random) / 2);
    await Promise.allSettled([sleep(clock, spreadMs, signal)]);
  }
}
