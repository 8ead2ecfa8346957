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
import type { OperationRun } from '../engine/operation-run.ts';
import { OperationContext } from '../ops/context.ts';
import { dropLocks } from '../ops/locks.ts';
import { dropHolder } from '../ops/unlink.ts';
import type { SessionRow } from '../tables/gen/tables.ts';
import { prefixEnd, readBigEndian } from '../tables/table.ts';
import { ANSWERS, LOCKS, ORPHANS, SESSIONS, SUBJECTS } from '../tables/tables.ts';
import type { LockWaiters } from './lock-waiters.ts';
import type { PromiseTable } from './promises.ts';
import type { Recalls } from './recalls.ts';
import { RestartGate } from './restart-gate.ts';
import { Session } from './session.ts';
import type { SpaceGrants } from './space-grants.ts';

export const SESSIONS_MAX = 10_000;
const EXPIRY_LOOK_MS = 1_000;
const STEP_ROWS = 500;
const ROWS_MAX = 1_000_000;

export interface RegistryParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly promises: PromiseTable;
  readonly recalls: Recalls;
  readonly locks: LockWaiters;
  readonly space: SpaceGrants;
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
  readonly #ending = new Set<SessionId>();
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

  sessions(): Iterable<Session> {
    return this.#live.values();
  }

  /** Takes up the session that the client names, or makes a new one. Stable when it resolves. */
  async attach(attach: Attach, subject: string): Promise<{ session: Session; resumed: boolean }> {
    const rights = await this.#parts.engine.run((tx) => tx.get(SUBJECTS, subject));
    if (rights === undefined)
      throw new CollectiveError(
        'permission_denied',
        `Attach as ${subject}: this member does not know that identity; enrol it with a token`,
      );
    const known = attach.session === 0 ? undefined : await this.#takeUp(attach, subject);
    const session = known ?? this.#create(attach, subject, rights);
    session.rights = rights;
    session.listener = attach.listener;
    session.bundleHash = attach.bundleHash;
    session.program = attach.program.slice(0, 200);
    if (attach.credential !== undefined) session.defaultCredential = attach.credential;
    session.incarnation += 1;
    this.touch(session);
    await this.#parts.engine.run((tx) => tx.put(SESSIONS, session.row(tx.now), session.id));
    return { session, resumed: known !== undefined };
  }

  /** A renewal arrived, or any sign of life that counts as one: leases run from its receipt (M6). */
  touch(session: Session): void {
    const nowMs = this.#parts.clock.bootMs();
    session.promisesUntilMs = nowMs + PROMISE_LEASE_MS;
    session.expiresMs = nowMs + SESSION_LEASE_MS;
  }

  /** Ends a session in bounded steps; its row goes last, so that an end cut short is finished after a restart. */
  async end(id: SessionId): Promise<void> {
    if (this.#ending.has(id)) return;
    this.#ending.add(id);
    const session = this.#live.get(id);
    this.#live.delete(id);
    this.#recorded.delete(id);
    const { engine, promises, recalls, locks, space } = this.#parts;
    if (session !== undefined) {
      this.#parts.onEnded(session);
      space.drop(session);
    }
    promises.dropSession(id);
    recalls.sessionEnded(id);
    try {
      const unlocked = await this.#eachRow(LOCKS.prefix, (tx, key, context) => {
        const inode = readBigEndian(key, 1, 6) as InodeNumber;
        const held = tx.get(LOCKS, inode)?.locks.some((lock) => lock.session === id) ?? false;
        if (held) dropLocks(context, inode, (lock) => lock.session === id);
        return held ? inode : undefined;
      });
      for (const inode of unlocked) locks.changed(inode);
      await this.#eachRow(
        ORPHANS.prefix,
        (_tx, key, context) => {
          dropHolder(context, readBigEndian(key, 1, 6) as InodeNumber, id);
          return undefined;
        },
        id,
      );
      const answers = ANSWERS.key(id, 0, 0).slice(0, -12);
      for (;;) {
        const removed = await engine.run((tx) => {
          const rows = tx.scan(ANSWERS, answers, prefixEnd(answers), STEP_ROWS);
          for (const { key } of rows) tx.remove(ANSWERS, id, readBigEndian(key, 7, 8), readBigEndian(key, 15, 4));
          return rows.length;
        });
        if (removed < STEP_ROWS) break;
      }
      await engine.run((tx) => tx.remove(SESSIONS, id));
    } finally {
      this.#ending.delete(id);
      this.gate.settled(id);
    }
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.gate.close();
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
    const session = new Session(id, row, {
      uri: subject,
      admin: false,
      trusted: false,
      uid: 0,
      gid: 0,
      realms: [],
      created: undefined,
    });
    await this.#loadAnswers(session);
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
      },
      rights,
    );
    session.replayed = true;
    this.#live.set(id, session);
    return session;
  }

  async #loadAnswers(session: Session): Promise<void> {
    const prefix = ANSWERS.key(session.id, 0, 0).slice(0, -12);
    for (let from = prefix; ; ) {
      const rows = await this.#parts.engine.run((tx) => tx.scan(ANSWERS, from, prefixEnd(prefix), STEP_ROWS));
      for (const { key, value } of rows)
        session.keepAnswer(readBigEndian(key, 7, 8), { step: readBigEndian(key, 15, 4), reply: value.reply });
      const last = rows.at(-1);
      if (rows.length < STEP_ROWS || last === undefined) return;
      from = `${last.key}\0`;
    }
  }

  /** Visits all rows of a small table in steps, in one operation a step. */
  async #eachRow(
    prefix: string,
    visit: (tx: OperationRun, key: string, context: OperationContext) => InodeNumber | undefined,
    session = 0 as SessionId,
  ): Promise<InodeNumber[]> {
    const found: InodeNumber[] = [];
    const table = prefix === LOCKS.prefix ? LOCKS : ORPHANS;
    for (let from = prefix, visited = 0; visited < ROWS_MAX; ) {
      const step = await this.#parts.engine.run((tx) => {
        const context = new OperationContext(tx, nobody(session), NO_ONE_ELSE);
        const rows = tx.scan<readonly [InodeNumber], unknown>(table, from, prefixEnd(prefix), STEP_ROWS);
        return { rows: rows.map(({ key }) => key), hits: rows.flatMap(({ key }) => visit(tx, key, context) ?? []) };
      });
      found.push(...step.hits);
      visited += step.rows.length;
      const last = step.rows.at(-1);
      if (step.rows.length < STEP_ROWS || last === undefined) return found;
      from = `${last}\0`;
    }
    return found;
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

function nobody(session: SessionId): OperationContext['caller'] {
  return { session, credential: { uid: 0, gid: 0, groups: [] }, realmRight: () => 'rw' };
}

const NO_ONE_ELSE = { writesElsewhere: () => false, openElsewhere: () => [], grantedElsewhere: () => 0 };
