/**
 * The sessions of a coordinator (M5, M6): made and taken up again by an attach that is stable before it is answered, kept
 * in the store over restarts, ended by detach or when their lease runs out. What a session held (promises, locks, open but
 * unlinked files, kept answers, space) ends with it.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, SessionId } from '@collective/base/ids';
import { PROMISE_LEASE_MS, SESSION_LEASE_MS } from '@collective/base/limits';
import type { Attach } from '@collective/protocol/gen/session';
import type { Engine } from '../engine/engine.ts';
import { OPEN } from '../ops/context.ts';
import type { SessionRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { SESSIONS, SUBJECTS } from '../tables/tables.ts';
import type { ChunkIds } from './chunk-ids.ts';
import type { LockWaiters } from './lock-waiters.ts';
import type { PromiseTable } from './promises.ts';
import type { SharedRights } from './realm-rights.ts';
import type { Recalls } from './recalls.ts';
import { RestartGate } from './restart-gate.ts';
import { Session } from './session.ts';
import { SessionRemains } from './session-remains.ts';
import type { SpaceGrants } from './space-grants.ts';

export const SESSIONS_MAX = 10_000;
const EXPIRY_LOOK_MS = 1_000;

export interface RegistryParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly promises: PromiseTable;
  readonly recalls: Recalls;
  readonly locks: LockWaiters;
  readonly space: SpaceGrants;
  readonly chunkIds: ChunkIds;
  readonly shared: SharedRights;
  /** A session has ended: requests of it that wait are given up. */
  readonly onEnded: (session: Session) => void;
}

interface Recorded {
  readonly row: SessionRow;
  /** Boot time in ms until which the session may come back. */
  readonly untilMs: number;
}

export class SessionRegistry {
  readonly gate: RestartGate;
  readonly #parts: RegistryParts;
  readonly #live = new Map<SessionId, Session>();
  /** Known from the store, not attached in this start. */
  readonly #recorded: Map<SessionId, Recorded>;
  readonly #ending = new Map<SessionId, Promise<void>>();
  readonly #remains: SessionRemains;
  #timer: Timer | undefined;
  #closed = false;

  static async load(parts: RegistryParts): Promise<SessionRegistry> {
    const rows = await parts.engine.run((tx) =>
      tx.scan(SESSIONS, SESSIONS.prefix, prefixEnd(SESSIONS.prefix), SESSIONS_MAX * 2),
    );
    const untilMs = parts.clock.bootMs() + SESSION_LEASE_MS;
    const recorded = new Map(
      rows.map(({ key, value }) => [readBigEndian(key, 1, 6) as SessionId, { row: value, untilMs }]),
    );
    return new SessionRegistry(parts, recorded);
  }

  private constructor(parts: RegistryParts, recorded: Map<SessionId, Recorded>) {
    this.#parts = parts;
    this.#remains = new SessionRemains(parts.engine);
    this.#recorded = recorded;
    this.gate = new RestartGate(
      parts.clock,
      [...recorded].filter(([, { row }]) => row.caches).map(([id]) => id),
    );
    this.#lookForExpired();
  }

  get count(): number {
    return this.#live.size;
  }

  find(id: SessionId): Session | undefined {
    return this.#live.get(id);
  }

  /** Of this start, attached or about to come back. */
  get live(): IterableIterator<Session> {
    return this.#live.values();
  }

  /** All of a subject, also those of an earlier start. */
  of(subject: string): SessionId[] {
    const live = [...this.#live.values()].filter((session) => session.subject === subject).map(({ id }) => id);
    const recorded = [...this.#recorded].filter(([, { row }]) => row.subject === subject).map(([id]) => id);
    return [...live, ...recorded];
  }

  /** Sessions of an earlier start that may still come back. */
  get absent(): SessionId[] {
    return [...this.#recorded.keys()];
  }

  /** A session of an earlier start may still send changes again that were lost with the power (M4). */
  get awaitsReplays(): boolean {
    return !this.gate.open || this.#recorded.size > 0 || [...this.#live.values()].some(({ replayed }) => !replayed);
  }

  /** Takes up the session that the client names, or makes a new one. Stable when it resolves. */
  async attach(
    attach: Attach,
    subject: string,
    leaf?: Session['leaf'],
  ): Promise<{ session: Session; resumed: boolean; incarnation: number }> {
    const rights = await this.#parts.engine.run((tx) => tx.get(SUBJECTS, subject));
    if (rights === undefined)
      throw new CollectiveError(
        'permission_denied',
        `Attach as ${subject}: this member does not know that identity; enrol it with a token`,
      );
    const known = attach.session === 0 ? undefined : await this.#takeUp(attach, subject);
    const session = known ?? this.#create(attach, subject, rights);
    // Noted before anything is waited for: nobody may remove these files as if they were closed (M8).
    for (const inode of attach.openInodes) this.#parts.promises.grant(session.id, inode as InodeNumber, OPEN);
    session.rights = rights;
    session.replayed = known === undefined;
    session.listener = attach.listener;
    session.bundleHash = attach.bundleHash;
    session.leaf = leaf;
    session.program = attach.program.slice(0, 200);
    session.defaultCredential = attach.credential ?? { uid: rights.uid, gid: rights.gid, groups: [] };
    session.incarnation += 1;
    const { incarnation } = session;
    this.touch(session);
    this.#parts.chunkIds.begin(session.chunkIds);
    await this.#parts.engine.run((tx) => tx.put(SESSIONS, session.row(tx.now), session.id));
    // It was gone while others removed files: those of them that it does not have open end now (M8).
    if (known !== undefined) await this.#remains.dropOrphans(session.id, new Set(attach.openInodes));
    this.requireNewest(session, incarnation);
    return { session, resumed: known !== undefined, incarnation };
  }

  /** A stream that was overtaken while it attached must not take the session from the one that came after it (M5). */
  requireNewest(session: Session, incarnation: number): void {
    if (session.ended)
      throw new CollectiveError('session_lost', `Attach session ${session.id}: it has ended meanwhile`);
    if (session.incarnation !== incarnation)
      throw new CollectiveError(
        'fenced',
        `Attach session ${session.id}: incarnation ${session.incarnation} has taken over`,
      );
  }

  /** A renewal arrived, or any sign of life that counts as one: leases run from its receipt (M6). */
  touch(session: Session): void {
    const nowMs = this.#parts.clock.bootMs();
    session.promisesUntilMs = nowMs + PROMISE_LEASE_MS;
    session.expiresMs = nowMs + SESSION_LEASE_MS;
  }

  /** Ends a session in bounded steps; its row goes last, so that an end cut short is finished after a restart. */
  end(id: SessionId): Promise<void> {
    const under = this.#ending.get(id);
    if (under !== undefined) return under;
    const ending = this.#end(id).finally(() => {
      this.#ending.delete(id);
      this.gate.settled(id);
    });
    this.#ending.set(id, ending);
    return ending;
  }

  async #end(id: SessionId): Promise<void> {
    const session = this.#live.get(id);
    this.#live.delete(id);
    this.#recorded.delete(id);
    const { engine, promises, recalls, locks, space } = this.#parts;
    if (session !== undefined) {
      session.ended = true;
      session.outlet?.refuse(new CollectiveError('session_lost', `Go on with session ${id}: it has ended`));
      this.#parts.onEnded(session);
      space.drop(session);
    }
    promises.dropSession(id);
    recalls.sessionEnded(id);
    for (const inode of await this.#remains.dropLocks(id)) locks.changed(inode);
    await this.#remains.dropOrphans(id, new Set());
    await this.#remains.dropAnswers(id);
    await engine.run((tx) => tx.remove(SESSIONS, id));
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.gate.close();
  }

  /** Resolves when no session is being ended. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#ending.values());
  }

  async #takeUp(attach: Attach, subject: string): Promise<Session | undefined> {
    const id = attach.session as SessionId;
    if (this.#ending.has(id)) return undefined;
    const live = this.#live.get(id);
    const row = live?.row(undefined) ?? this.#recorded.get(id)?.row;
    if (row === undefined) return undefined;
    if (!row.clientId.equals(attach.clientId) || row.subject !== subject)
      throw new CollectiveError('permission_denied', `Take up session ${id}: it belongs to another client`);
    if (live !== undefined) return live;
    const noRights = { uri: subject, admin: false, trusted: false, uid: 0, gid: 0, realms: [], created: undefined };
    const session = new Session(id, row, noRights, this.#parts.shared);
    await this.#remains.readAnswers(id, (number, answer) => session.keepAnswer(number, answer));
    // Somebody else may have taken it up while its answers were read.
    const raced = this.#live.get(id);
    if (raced !== undefined) return raced;
    if (!this.#recorded.delete(id)) return undefined;
    this.#live.set(id, session);
    return session;
  }

  #create(attach: Attach, subject: string, rights: Session['rights']): Session {
    if (attach.clientId.length !== 16)
      throw new CollectiveError(
        'invalid_argument',
        `Attach with a client id of ${attach.clientId.length} bytes: it has 16`,
      );
    if (this.#live.size + this.#recorded.size >= SESSIONS_MAX)
      throw new CollectiveError('overloaded', `Attach: there are ${SESSIONS_MAX} sessions already`);
    const id = this.#parts.engine.drawNumber('session') as SessionId;
    const session = new Session(
      id,
      {
        clientId: attach.clientId,
        subject,
        incarnation: 0,
        renewed: undefined,
        caches: attach.caches,
        program: attach.program,
        chunkIds: [],
      },
      rights,
      this.#parts.shared,
    );
    this.#live.set(id, session);
    return session;
  }

  #lookForExpired(): void {
    if (this.#closed) return;
    this.#timer = this.#parts.clock.setTimer(
      EXPIRY_LOOK_MS,
      () => {
        const nowMs = this.#parts.clock.bootMs();
        const expired = [...this.#live.values()]
          .filter((session) => session.expiresMs <= nowMs)
          .map((session) => session.id);
        const absent = [...this.#recorded].filter(([, { untilMs }]) => untilMs <= nowMs).map(([id]) => id);
        void Promise.allSettled([...expired, ...absent].map((id) => this.end(id))).then(() => this.#lookForExpired());
      },
      { background: true },
    );
  }
}
