/**
 * How one operation meets the promises of other sessions (M7): exclusive ones and the question "is it open?" come back
 * before it runs, read promises after it ran and before its answer leaves. While a recall of an inode is under way nothing
 * is granted on it: the holder's acknowledgement would take the new promise along with the old one, and the holder alone
 * would still believe in it.
 *
 * A session has a share. Above it, what it was granted longest ago is called back, which costs it a question more and nothing
 * else. The share counts inodes that may be open too, which nobody may take away unasked (M8); one that neither lets go of
 * any nor answers is shown no new ones from twice its share on.
 */
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, RealmId, SessionId } from '@collective/base/ids';
import type { PromiseGrant } from '@collective/protocol/gen/session';
import {
  ATTRIBUTES,
  type Change,
  type Elsewhere,
  OPEN,
  type OperationContext,
  type RecallFirst,
} from '../ops/context.ts';
import type { PromiseTable } from './promises.ts';
import type { RecallOutcome, Recalls } from './recalls.ts';
import type { RestartGate } from './restart-gate.ts';
import type { Session } from './session.ts';
import type { SpaceGrants } from './space-grants.ts';

/** Inodes on which one session holds promises, or which it may have open; a client keeps 100,000 by default and lets go of more. */
export const PROMISED_INODES_MAX = 2 ** 17;

/** A session that looks an inode up again and again while it is asked counts as having it open in the end. */
const OPEN_ASKED_MAX = 5;

/** What an operation keeps over its runs. */
export class Negotiation {
  /** Inodes on which nothing is granted until the operation has run. */
  readonly blocked: InodeNumber[] = [];
  /** Who said whether an inode is open (M8). */
  readonly open = new Map<InodeNumber, Map<SessionId, { open: boolean; asked: number }>>();
  /** Others were asked to give back room that they do not use (M10). */
  roomWasAsked = false;
}

/** Read promises to be called back: of one inode, from all that hold any of them. */
interface PlannedRecall {
  readonly inode: InodeNumber;
  readonly names: readonly Uint8Array[];
  readonly holders: readonly { readonly session: Session; readonly kinds: number }[];
}

/** What a run that will be committed brings about. Made before anything is done, so that only this can fail. */
export interface Consequences {
  readonly recalls: readonly PlannedRecall[];
  /** One for what is granted, then one a recall: a client drops a grant that is older than a recall. */
  readonly sequences: readonly number[];
}

export interface PromiseKeepingParts {
  readonly promises: PromiseTable;
  readonly recalls: Recalls;
  readonly gate: RestartGate;
  readonly space: SpaceGrants;
  find(session: SessionId): Session | undefined;
  /** Sessions that may come back and say that they have any inode open (M6, M8). */
  absent(): readonly SessionId[];
  drawSequence(): number;
  readonly promisedInodesMax: number | undefined;
}

export class PromiseKeeping {
  readonly #parts: PromiseKeepingParts;
  readonly #inodesMax: number;
  /** Inodes that are called back from a session to make room. */
  readonly #leaving = new Map<SessionId, number>();

  constructor(parts: PromiseKeepingParts) {
    this.#parts = parts;
    this.#inodesMax = parts.promisedInodesMax ?? PROMISED_INODES_MAX;
  }

  /** Throws `overloaded`. Before anything is changed: an answer that shows an inode makes the session somebody who may have it open. */
  requireRoom({ id, caches }: Session, shown: ReadonlyMap<InodeNumber, number>): void {
    const { promises } = this.#parts;
    let room = 2 * this.#inodesMax - promises.count(id);
    if (shown.size <= room) return;
    for (const [inode, kinds] of shown) {
      const isNoted = caches || (kinds & OPEN) !== 0;
      if (isNoted && promises.held(id, inode) === 0) room -= 1;
      if (room < 0) throw tooMany(id, 2 * this.#inodesMax);
    }
  }

  /** What a client says that it has of before. Throws `overloaded`. */
  requireShare(session: SessionId, inodes: number): void {
    if (inodes > 2 * this.#inodesMax) throw tooMany(session, 2 * this.#inodesMax);
  }

  elsewhere(negotiation: Negotiation): Elsewhere {
    const { promises, space, find, absent } = this.#parts;
    return {
      writesElsewhere: (inode, session) => promises.writerOf(inode, session) !== undefined,
      openElsewhere: (inode, except) => {
        const said = negotiation.open.get(inode);
        const interested = promises.interestedIn(inode, except);
        // Whoever said no and is interested again has looked the inode up since: it is asked again.
        const unclear = interested.some((each) => {
          const answer = said?.get(each);
          return answer === undefined || (!answer.open && answer.asked < OPEN_ASKED_MAX);
        });
        return unclear ? undefined : [...interested, ...absent()];
      },
      grantedElsewhere: (realm: RealmId, session: SessionId) => space.elsewhere(realm, find(session)),
      roomWasAsked: negotiation.roomWasAsked,
      isAway: (session) => {
        const found = find(session);
        return found !== undefined && found.outlet === undefined;
      },
    };
  }

  /** Calls back what must come back before the operation can run. */
  async recallFirst(negotiation: Negotiation, { inode, kinds, fromAll }: RecallFirst, asker: SessionId): Promise<void> {
    const { promises, recalls, find } = this.#parts;
    promises.block(inode);
    negotiation.blocked.push(inode);
    const outcomes = await Promise.all(
      promises
        .holders(inode, kinds, fromAll ? undefined : asker)
        .filter((holder) => (kinds & OPEN) === 0 || !negotiation.open.get(inode)?.get(holder)?.open)
        .map((holder) => {
          const other = find(holder);
          if (other !== undefined) return recalls.recall(other, inode, kinds & promises.held(holder, inode), []);
          promises.drop(holder, inode, kinds);
          return { session: holder, open: false };
        }),
    );
    if ((kinds & OPEN) === 0) return;
    const said = negotiation.open.get(inode) ?? new Map<SessionId, { open: boolean; asked: number }>();
    negotiation.open.set(inode, said);
    for (const { session, open } of outcomes) said.set(session, { open, asked: (said.get(session)?.asked ?? 0) + 1 });
  }

  /** Throws `overloaded` when no more sequence numbers can be drawn for the moment. */
  plan(session: SessionId, changes: readonly Change[]): Consequences {
    const recalls = this.#planRecalls(session, changes);
    const wanted = recalls.reduce((sum, { holders }) => sum + holders.length, 1);
    return { recalls, sequences: Array.from({ length: wanted }, () => this.#parts.drawSequence()) };
  }

  /** In the turn of the commit: grants what the answer shows, and begins the recalls that the answer waits for. */
  carryOut(
    session: Session,
    context: OperationContext,
    { recalls, sequences }: Consequences,
    negotiation: Negotiation,
  ): { grants: PromiseGrant[]; recalls: Promise<unknown>[] } {
    this.unblock(negotiation);
    const [first = 0, ...rest] = sequences;
    const grants = this.#grant(session, context, first);
    return { grants, recalls: recalls.map((planned) => this.#begin(planned, rest.splice(0, planned.holders.length))) };
  }

  /** For changes that no session made, and for those that are no operation's own. Throws `overloaded`, as `plan` does. */
  recallChanged(changes: readonly Change[], by = 0 as SessionId): Promise<unknown> {
    const { recalls, sequences } = this.plan(by, changes);
    const rest = sequences.slice(1);
    return Promise.all(recalls.map((planned) => this.#begin(planned, rest.splice(0, planned.holders.length))));
  }

  unblock(negotiation: Negotiation): void {
    for (const inode of negotiation.blocked.splice(0)) this.#parts.promises.unblock(inode);
  }

  #planRecalls(session: SessionId, changes: readonly Change[]): PlannedRecall[] {
    const { promises, find } = this.#parts;
    const byInode = new Map<InodeNumber, { kinds: number; names: Uint8Array[] }>();
    for (const { inode, kinds, names } of changes) {
      const merged = byInode.get(inode);
      if (merged === undefined) byInode.set(inode, { kinds, names: [...names] });
      else {
        merged.kinds |= kinds;
        merged.names.push(...names);
      }
    }
    const planned: PlannedRecall[] = [];
    for (const [inode, { kinds, names }] of byInode) {
      const holders = promises.holders(inode, kinds, session).flatMap((holder) => {
        const other = find(holder);
        return other === undefined ? [] : [{ session: other, kinds: kinds & promises.held(holder, inode) }];
      });
      if (holders.length > 0) planned.push({ inode, names, holders });
    }
    return planned;
  }

  #begin({ inode, names, holders }: PlannedRecall, sequences: readonly number[]): Promise<RecallOutcome[]> {
    const { promises, recalls } = this.#parts;
    promises.block(inode);
    return Promise.all(
      holders.map(({ session, kinds }, i) => recalls.recall(session, inode, kinds, names, sequences[i])),
    ).finally(() => promises.unblock(inode));
  }

  #grant(session: Session, context: OperationContext, sequence: number): PromiseGrant[] {
    if (session.outlet === undefined) return [];
    const { promises, gate } = this.#parts;
    const grants: PromiseGrant[] = [];
    const mayCache = session.caches && gate.open;
    for (const [inode, kinds] of context.shown) {
      if (!mayCache) {
        // That the inode is open is no right to cache: it is noted for every session, and before the gate opens too.
        if ((kinds & OPEN) !== 0) promises.grant(session.id, inode, OPEN);
        continue;
      }
      const granted = promises.grant(session.id, inode, (kinds & ATTRIBUTES) !== 0 ? kinds | OPEN : kinds);
      if (granted !== 0) grants.push({ inode, kinds: granted, sequence });
    }
    this.#makeRoom(session);
    return grants;
  }

  /** Nobody waits for these recalls, and none is made while no sequence can be drawn: the next grant looks again. */
  #makeRoom(session: Session): void {
    const { promises, drawSequence } = this.#parts;
    const leaving = (): number => this.#leaving.get(session.id) ?? 0;
    while (promises.count(session.id) - leaving() > this.#inodesMax) {
      const sequence = drawn(drawSequence);
      const inode = sequence === undefined ? undefined : promises.takeOldest(session.id);
      if (sequence === undefined || inode === undefined) return;
      const holders = [{ session, kinds: promises.held(session.id, inode) }];
      this.#leaving.set(session.id, leaving() + 1);
      void this.#begin({ inode, names: [], holders }, [sequence]).finally(() => {
        if (leaving() > 1) this.#leaving.set(session.id, leaving() - 1);
        else this.#leaving.delete(session.id);
      });
    }
  }
}

function drawn(drawSequence: () => number): number | undefined {
  try {
    return drawSequence();
  } catch (error) {
    if (error instanceof CollectiveError && error.code === 'overloaded') return undefined;
    throw error;
  }
}

function tooMany(session: SessionId, inodesMax: number): CollectiveError {
  return new CollectiveError(
    'overloaded',
    `Show session ${session} more inodes: it has been shown ${inodesMax} and let go of none, though it was asked`,
  );
}
