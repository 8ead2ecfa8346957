/**
 * The coordinator without its edges: engine, operations and sessions put together from ports. `main.ts` gives it the real
 * clock, disk and nodes; the simulator gives it fakes. Nothing here knows gRPC, TLS or the file system.
 */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId, InodeNumber, RealmId, SessionId } from '@collective/base/ids';
import { SESSION_LEASE_MS } from '@collective/base/limits';
import type { CreateRealmRequest, Realm, SetRealmRequest } from '@collective/protocol/gen/admin';
import type { StoreRoom } from './engine/committer.ts';
import { Engine } from './engine/engine.ts';
import type { Log } from './log/log.ts';
import type { PeerReport } from './membership/trust-report.ts';
import { type Caller, type Growth, MAY_GROW, OPEN, OperationContext, RoomFirst } from './ops/context.ts';
import { makeRealm } from './ops/make-realm.ts';
import { beginToDissolve } from './ops/realm-moves.ts';
import { changeRealm, realmAt } from './ops/realm-settings.ts';
import { listRealms, makeRoot, realmOnWire } from './ops/realms.ts';
import { ChunkIds } from './session/chunk-ids.ts';
import type { DataAccess } from './session/data-access.ts';
import { LockWaiters } from './session/lock-waiters.ts';
import { OperationRunner } from './session/operation-runner.ts';
import { Negotiation, PromiseKeeping } from './session/promise-keeping.ts';
import { PromiseTable } from './session/promises.ts';
import { RealmBook } from './session/realm-book.ts';
import { type SharedRights, THE_MEMBER } from './session/realm-rights.ts';
import { Recalls } from './session/recalls.ts';
import { SessionOperations } from './session/session-operations.ts';
import { SessionRegistry } from './session/session-registry.ts';
import { type SessionLink, type StreamParts, type StreamPeer, serveSession } from './session/session-stream.ts';
import { SpaceGrants } from './session/space-grants.ts';
import { SpaceRecalls } from './session/space-recalls.ts';
import { StableContent } from './session/stable-content.ts';
import type { Store } from './store/store.ts';

export interface CoreOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  /** Asked only after `startCore` has resolved its engine: it may itself need the engine. */
  readonly data: (engine: Engine) => DataAccess | Promise<DataAccess>;
  readonly member: { readonly name: string; readonly trustDomain: string };
  readonly version: string;
  /** Owner of the root directory, on the first start. */
  readonly rootOwner: { readonly uid: number; readonly gid: number; readonly mode?: number };
  /** A commit failed or is ambiguous: the process must end (M4). */
  readonly onFatal: (error: Error) => void;
  readonly onOperationFailure?: (event: { session: SessionId; error: Error }, message: string) => void;
  /** Only the simulator turns this off, to show that it finds out (M5). */
  readonly keepAnswers?: boolean;
  readonly cacheEntriesMax?: number;
  readonly promisedInodesMax?: number | undefined;
  readonly generation?: number;
  /** Room for more metadata; none given: there is always some. */
  readonly room?: Growth & StoreRoom;
  /** T6: what a peer that reports this is to be told of the member's roots; nothing where there are none. */
  readonly told?: StreamParts['told'];
}

export interface CoreFigures {
  readonly sessions: number;
  readonly promises: number;
  readonly recallsSent: number;
  readonly recallsTimedOut: number;
  readonly answered: number;
  readonly failed: number;
  readonly resent: number;
  /** Operations that waited for content to be stable (D3), and those that were refused after it. */
  readonly stableWaits: number;
  readonly stableRefused: number;
}

/** A session is taken up again within its lease, or it has ended; what it then has to send again takes no longer than that. */
const REPLAYS_WITHIN_MS = 2 * SESSION_LEASE_MS;
const REPLAYS_LOOK_MS = 500;

export class CoordinatorCore {
  readonly engine: Engine;
  readonly #parts: StreamParts;
  readonly #stable: StableContent;
  readonly #chunkIds: ChunkIds;
  readonly #stop = new AbortController();
  readonly #startedMs: number;
  readonly #streams = new Set<Promise<void>>();

  private constructor(engine: Engine, parts: StreamParts, stable: StableContent, chunkIds: ChunkIds) {
    this.engine = engine;
    this.#parts = parts;
    this.#startedMs = parts.clock.bootMs();
    this.#stable = stable;
    this.#chunkIds = chunkIds;
  }

  static async start(options: CoreOptions): Promise<CoordinatorCore> {
    const { clock } = options;
    const engine = await Engine.start(options);
    await engine.run((tx) => makeRoot(tx, options.rootOwner));
    const data = await options.data(engine);
    const book = await RealmBook.load(engine);
    const promises = new PromiseTable();
    const locks = new LockWaiters();
    const space = new SpaceGrants();
    const chunkIds = new ChunkIds(engine.epoch);
    const recalls = new Recalls({ clock, promises, drawSequence: () => engine.drawNumber('promise') });
    // Runner and registry know each other: an ended session gives up its requests, a request finds its session.
    let runner: OperationRunner | undefined;
    const registry = await SessionRegistry.load({
      clock,
      engine,
      promises,
      recalls,
      locks,
      space,
      chunkIds,
      shared: book,
      onEnded: (session) => runner?.ended(session.id),
    });
    const operations = new SessionOperations({
      clock,
      engine,
      data,
      space,
      promises,
      chunkIds,
      cancel: (session, number, step) => runner?.cancel(session, number, step),
    });
    const { gate } = registry;
    const spaceRecalls = new SpaceRecalls({ clock, space, sessions: () => registry.live });
    const keeping = new PromiseKeeping({
      promises,
      recalls,
      gate,
      space,
      find: (session) => registry.find(session),
      absent: () => registry.absent,
      drawSequence: () => engine.drawNumber('promise'),
      promisedInodesMax: options.promisedInodesMax,
    });
    const stable = new StableContent({ clock, engine, nodes: data });
    runner = new OperationRunner({
      engine,
      keeping,
      stable,
      locks,
      space,
      spaceRecalls,
      gate,
      sessionOperations: operations,
      growth: options.room ?? MAY_GROW,
      keepAnswers: options.keepAnswers ?? true,
      log: options.onOperationFailure ?? (() => undefined),
    });
    const { member, version } = options;
    const parts = {
      clock,
      engine,
      registry,
      runner,
      promises,
      recalls,
      space,
      spaceRecalls,
      operations,
      data,
      keeping,
      book,
      member,
      version,
      told: options.told ?? (() => undefined),
    };
    return new CoordinatorCore(engine, parts, stable, chunkIds);
  }

  /** What is known of rights that realms share (M9). */
  get shared(): SharedRights {
    return this.#parts.book;
  }

  /** Serves one session stream until it ends. */
  serveSession(link: SessionLink, peer: StreamPeer): Promise<void> {
    const served = serveSession(link, peer, this.#parts, this.#stop.signal).finally(() => this.#streams.delete(served));
    this.#streams.add(served);
    return served;
  }

  /** T6: what each session reports and has shown. */
  sessionTrust(): PeerReport[] {
    return [...this.#parts.registry.live].map(({ subject, bundleHash, leaf, outlet }) => ({
      peer: subject,
      bundleHash,
      leaf: outlet === undefined ? undefined : leaf,
    }));
  }

  /** T3a: sessions of the subject attach again, and come with the rights that it has now. */
  rightsChanged(subject: string): void {
    for (const { subject: of, outlet } of this.#parts.registry.live)
      if (of === subject)
        outlet?.refuse(
          new CollectiveError('unavailable', `Go on as ${subject}: its rights have changed; attach again`),
        );
  }

  /** T3a: resolves with how many there were, attached or not. */
  async endSessionsOf(subject: string): Promise<number> {
    const ids = this.#parts.registry.of(subject);
    await Promise.all(ids.map((id) => this.#parts.registry.end(id)));
    return ids.length;
  }

  /** The member's roots, or the one that signs, have changed: sessions that lack something are told now (T6). */
  trustChanged(): void {
    const { registry, engine, data, told } = this.#parts;
    for (const session of registry.live) {
      const trust = told({ bundleHash: session.bundleHash, rootFingerprint256: session.leaf?.rootFingerprint256 });
      if (trust === undefined) continue;
      const nodes = data.routes(session.listener);
      const value = {
        number: 0,
        stablePosition: engine.stablePosition,
        access: undefined,
        nodes,
        realms: undefined,
        trust,
      };
      session.outlet?.send({ message: { $case: 'renewed', value } });
    }
  }

  /** For a chunk that the coordinator has made itself (D8). */
  drawChunkId(): ChunkId {
    return this.#chunkIds.drawOwn();
  }

  /** Whether it was drawn in this start: the coordinator itself may be about to commit it. */
  ownsChunk(chunk: ChunkId): boolean {
    return this.#chunkIds.isOwn(chunk);
  }

  /** `told` hears of each commit that was refused because a block must be folded first. */
  onCrowded(told: (inode: InodeNumber, block: number) => void): void {
    this.#parts.runner.onCrowded = told;
  }

  /** A node registered or sent a heartbeat: who waits for its chunks to be stable looks again (D3). */
  nodeReported(): void {
    this.#stable.nodeReported();
  }

  /** Metadata of the inode changed without a session: what sessions cache of it is called back (M7). */
  async recallFromAll(inode: InodeNumber, kinds: number): Promise<void> {
    await this.#parts.keeping.recallChanged([{ inode, kinds, names: [] }]);
  }

  /**
   * Resolves when no client of an earlier start can send changes again that were lost with the power (M4): what seems to be
   * garbage before may be named by one of them.
   */
  async replaysOver(signal: AbortSignal): Promise<void> {
    const { registry, clock } = this.#parts;
    while (registry.awaitsReplays && clock.bootMs() < this.#startedMs + REPLAYS_WITHIN_MS)
      await sleep(clock, REPLAYS_LOOK_MS, signal);
  }

  /** A change that no session asks for: it waits after a restart (M6), and what sessions cache of it is called back (M7). */
  async change<T>(
    caller: Caller,
    operation: (context: OperationContext) => T,
    options: { readonly durability?: 'written' | 'stable' } = {},
  ): Promise<T> {
    const { registry, spaceRecalls } = this.#parts;
    await registry.gate.passed(this.#stop.signal);
    const negotiation = new Negotiation();
    try {
      return await this.#changeNow(caller, operation, negotiation, options);
    } catch (thrown) {
      if (!(thrown instanceof RoomFirst)) throw thrown;
      await spaceRecalls.recall(thrown.realms, caller.session);
      negotiation.roomWasAsked = true;
      return await this.#changeNow(caller, operation, negotiation, options);
    }
  }

  async #changeNow<T>(
    caller: Caller,
    operation: (context: OperationContext) => T,
    negotiation: Negotiation,
    options: { readonly durability?: 'written' | 'stable' },
  ): Promise<T> {
    const { keeping, promises } = this.#parts;
    let recalled: Promise<unknown> = Promise.resolve();
    const value = await this.engine.run((tx) => {
      const context = new OperationContext(tx, caller, keeping.elsewhere(negotiation));
      const done = operation(context);
      // In the turn of the commit, and last: a run that stops for want of a key must leave nothing.
      recalled = keeping.recallChanged(context.changes);
      for (const { inode, session } of context.reopened) promises.grant(session, inode, OPEN);
      return done;
    }, options);
    await recalled;
    return value;
  }

  /** Done when it answers, or with a job that goes on if there is something in the directory. */
  createRealm(request: CreateRealmRequest, caller: Caller = THE_MEMBER): Promise<Realm> {
    return this.change(caller, (context) => {
      const { realm, row } = makeRealm(context, request);
      return realmOnWire(context.tx, realm, row);
    });
  }

  /** Answers the job that goes on. */
  dissolveRealm(path: string, caller: Caller = THE_MEMBER): Promise<number> {
    return this.change(caller, (context) => {
      const { realm, row } = realmAt(context.tx, path);
      return beginToDissolve(context, realm, row, path);
    });
  }

  /** Sessions learn it with their next renewal or the next room that they ask for. */
  async setRealm(request: SetRealmRequest): Promise<Realm> {
    await this.#parts.registry.gate.passed(this.#stop.signal);
    return await this.engine.run((tx) => {
      const { realm, row } = changeRealm(tx, request);
      return realmOnWire(tx, realm, row);
    });
  }

  /** Bytes of the realm that are granted to sessions and not yet used (M10). */
  grantedBytes(realm: RealmId): number {
    return this.#parts.space.outstanding(realm);
  }

  listRealms(): Promise<Realm[]> {
    return this.engine.run((tx) => listRealms(tx));
  }

  get figures(): CoreFigures {
    const { registry, promises, recalls, runner } = this.#parts;
    return {
      sessions: registry.count,
      promises: promises.size,
      recallsSent: recalls.counters.sent,
      recallsTimedOut: recalls.counters.timedOut,
      answered: runner.counters.answered,
      failed: runner.counters.failed,
      resent: runner.counters.resent,
      stableWaits: this.#stable.counters.waits,
      stableRefused: this.#stable.counters.refused,
    };
  }

  /** Ends all streams, makes what was answered stable, closes log and store. Sessions live on in the store. */
  async close(): Promise<void> {
    const { registry, runner, recalls } = this.#parts;
    registry.close();
    const operations = runner.close();
    recalls.close();
    await operations;
    this.#stop.abort();
    await Promise.allSettled(this.#streams);
    await registry.idle();
    await this.engine.close();
  }
}
