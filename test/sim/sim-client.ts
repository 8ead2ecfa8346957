/**
 * A client program of the simulation: does one action after the other through the SDK, and tells the history each call and each
 * answer. Some calls are given up on the way; an answer that says nothing about what happened leaves the call open.
 */

import { AssertionFailure } from '@collective/base/assert';
import { sleep, type Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type Random, randomBelow, randomUnit } from '@collective/base/random';
import type { FileHandle } from '@collective/client';
import type { ConnectedMember } from '@collective/client/member';
import { type Action, type Actor, type Durability, perform, showAction, toModel } from './actions.ts';
import { isRealmRefusal, type RealmJudge } from './judged-realms.ts';
import type { Answer } from './model-answers.ts';
import type { History } from './model-history.ts';
import type { Endpoint } from './network.ts';
import type { ClientEvents } from './programs.ts';
import type { Trace } from './trace.ts';
import { SHARED_FOLDERS, Workload } from './workload.ts';

/** Nothing is known about what a call did that ended so. */
const UNKNOWN_OUTCOMES = [
  'session_lost',
  'unavailable',
  'deadline_exceeded',
  'interrupted',
  'shutting_down',
  'fenced',
  'overloaded',
  // After long trying: a coordinator that is started again and again never agrees with its nodes on keys.
  'token_invalid',
];
/** A read may fail so while nodes are away, and what rests on content that they lost with their power (D3). */
const LOST_CHUNKS = ['chunk_missing'];
const REST_ON_CHUNKS: readonly Action['do'][] = ['read', 'store', 'rename', 'sync'];
/** An attach meets the disk of a coordinator that is about to end. */
const DISK_TROUBLE = ['disk_failed', 'no_space'];
/** Refused before anything of it took effect (M10): by nodes that are full, or a coordinator that is. */
const NO_ROOM = ['no_space', 'metadata_full'];

export interface SimClientOptions {
  readonly life: Endpoint;
  readonly random: Random;
  readonly trace: Trace;
  readonly history: History;
  readonly caches: boolean;
  readonly durability: Durability;
  /** It mostly stores a file and renames it over another. */
  readonly saving: boolean;
  /** Realms of this run come and go, or have quotas. */
  readonly hasRealms: boolean;
  readonly contentBytesMax: number | undefined;
  readonly judge: RealmJudge;
  /** True time. */
  readonly nowMs: () => number;
  readonly connect: (events: ClientEvents) => Promise<ConnectedMember>;
  readonly drawId: () => string;
  /** False: come to rest. */
  readonly mayAct: () => boolean;
  readonly onAnswered: (changed: boolean, action: Action['do']) => void;
  /** The coordinator said that it has no room for more. */
  readonly onMetadataFull: (action: Action, sinceMs: number) => void;
  readonly onBreach: (error: Error) => void;
}

export class SimClient implements Actor {
  readonly handles = new Map<string, FileHandle>();
  readonly durability: Durability;
  readonly #options: SimClientOptions;
  readonly #workload: Workload;
  #member: ConnectedMember | undefined;
  #busyWith: string | undefined = 'connect';
  #wasToldOfReplay = false;

  constructor(options: SimClientOptions) {
    const { life, random } = options;
    this.#options = options;
    this.durability = options.durability;
    this.#workload = new Workload({
      random,
      client: life.name,
      ownFolder: `/${life.name.split('#')[0]}`,
      saving: options.saving,
      contentBytesMax: options.contentBytesMax,
    });
  }

  get files(): ConnectedMember['files'] {
    if (this.#member === undefined) throw new Error('The client is not connected');
    return this.#member.files;
  }

  /** What it waits for; undefined when it rests. */
  get busyWith(): string | undefined {
    return this.#busyWith;
  }

  get isCalling(): boolean {
    return this.#busyWith !== undefined && this.#member !== undefined;
  }

  get attached(): boolean {
    return this.#member?.session.state === 'attached';
  }

  run(): void {
    this.#run().catch((error: unknown) => this.#options.onBreach(asError(error, this.#options.life.name)));
  }

  async #run(): Promise<void> {
    const { life, random, mayAct } = this.#options;
    await this.#connect();
    for (;;) {
      this.#busyWith = undefined;
      await sleep(life.clock, this.#thinkMs(random));
      if (mayAct()) await this.#act(this.#workload.next());
    }
  }

  async #connect(): Promise<void> {
    const { connect, trace, life } = this.#options;
    for (;;) {
      try {
        this.#member = await connect({
          onLost: () => this.#sessionLost(),
          onReplayDiffers: () => this.#replayDiffered(),
        });
        trace.add(life.name, 'attached');
        return;
      } catch (error) {
        if (!isUnknownOutcome(error) && !(error instanceof CollectiveError && DISK_TROUBLE.includes(error.code)))
          throw error;
        await sleep(life.clock, 500);
      }
    }
  }

  #sessionLost(): void {
    this.#options.trace.add(this.#options.life.name, 'lost its session');
    this.handles.clear();
    this.#workload.forgetHandles();
    this.#options.history.clientDied(this.#options.life.name);
  }

  #replayDiffered(): void {
    const { trace, life, history, onBreach } = this.#options;
    trace.add(life.name, 'was told that a change ended otherwise when it was made again');
    this.#wasToldOfReplay = true;
    try {
      history.replayDiffered(life.name);
    } catch (error) {
      onBreach(asError(error, life.name));
    }
  }

  async #act(action: Action): Promise<void> {
    const { history, trace, life, drawId, caches, onAnswered, hasRealms, judge, nowMs } = this.#options;
    const id = drawId();
    const text = showAction(action);
    this.#busyWith = `${id} ${text}`;
    trace.add(life.name, `> ${id} ${text}`);
    const operation = toModel(action, id, life.name, caches, this.durability, hasRealms);
    const sinceMs = nowMs();
    history.invoke(operation);
    const answer = await this.#answer(action);
    trace.add(life.name, `< ${id} ${showAnswer(answer)}`);
    if (answer === undefined || answer.kind === 'error') this.#workload.failed(action);
    if (answer === undefined) return;
    if (answer.kind === 'ok') judge.done(action, sinceMs);
    else if (answer.code === 'metadata_full') this.#options.onMetadataFull(action, sinceMs);
    else if (isRealmRefusal(answer.code)) judge.refused(answer.code, action, sinceMs);
    if (answer.kind === 'error' && this.#changedNothing(answer.code)) {
      history.withdraw(id);
      return;
    }
    history.respond(id, answer, this.durability === 'stable' || action.do === 'sync');
    onAnswered(answer.kind === 'ok' && operation.reads.includes(false), action.do);
  }

  /** The first sync of a file of which a change ended otherwise tells it once more, and asks nobody (M4). */
  #changedNothing(code: string): boolean {
    return NO_ROOM.includes(code) || isRealmRefusal(code) || (code === 'replay_differs' && this.#wasToldOfReplay);
  }

  /** Undefined: nobody can say whether it happened. */
  async #answer(action: Action): Promise<Answer | undefined> {
    const { random, life, trace } = this.#options;
    const giveUp = new AbortController();
    let timer: Timer | undefined;
    if (randomBelow(random, 40) === 0) timer = life.clock.setTimer(randomUnit(random) * 20, () => giveUp.abort());
    try {
      const answer = await perform(this, action, giveUp.signal);
      if (answer.kind === 'ok') return answer;
      if (
        UNKNOWN_OUTCOMES.includes(answer.code) ||
        (REST_ON_CHUNKS.includes(action.do) && LOST_CHUNKS.includes(answer.code))
      ) {
        trace.add(life.name, `  ${answer.code}`);
        return undefined;
      }
      return answer;
    } catch (thrown) {
      if (giveUp.signal.aborted && thrown === giveUp.signal.reason) return undefined;
      throw thrown;
    } finally {
      timer?.cancel();
    }
  }

  #thinkMs(random: Random): number {
    const choice = randomBelow(random, 200);
    if (choice === 0) return 11_000 + randomUnit(random) * 10_000;
    if (choice < 10) return randomUnit(random) * 1_500;
    return randomUnit(random) * 60;
  }
}

export function foldersOf(clients: readonly string[]): string[] {
  return [...SHARED_FOLDERS, ...clients.map((name) => `/${name}`)];
}

export function asError(thrown: unknown, who: string): Error {
  if (thrown instanceof AssertionFailure) return new Error(`${who}: ${thrown.message}`, { cause: thrown });
  return thrown instanceof Error ? thrown : new Error(`${who} threw ${String(thrown)}`);
}

export function isUnknownOutcome(thrown: unknown): boolean {
  return thrown instanceof CollectiveError && UNKNOWN_OUTCOMES.includes(thrown.code);
}

function showAnswer(answer: Answer | undefined): string {
  if (answer === undefined) return 'no answer';
  if (answer.kind === 'error') return answer.code;
  const { attributes, bytes, names, text, offset } = answer;
  const parts: string[] = ['ok'];
  if (attributes !== undefined)
    parts.push(
      `${attributes.type} ${attributes.inode} mode=0${attributes.mode.toString(8)} size=${attributes.size} links=${attributes.links} entries=${attributes.entries}`,
    );
  if (bytes !== undefined) parts.push(`${bytes.length} bytes`);
  if (names !== undefined) parts.push(`[${names.join(' ')}]`);
  if (text !== undefined) parts.push(`'${text}'`);
  if (offset !== undefined) parts.push(`at ${offset}`);
  return parts.join(' ');
}
