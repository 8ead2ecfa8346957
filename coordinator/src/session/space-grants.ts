/**
 * Space is granted, not hoped for (M10): a session holds small grants of a realm's quota and of the nodes' room, and bytes
 * are acknowledged only against them. In memory: a session that comes back after a restart says what it holds.
 */
import { CollectiveError } from '@collective/base/errors';
import type { RealmId } from '@collective/base/ids';
import { RoomFirst } from '../ops/context.ts';
import { trashHint } from '../ops/trash.ts';
import type { Session } from './session.ts';

/** The largest grant at once. Quotas are never overshot, but what sessions hold of them may lie idle. */
export const GRANT_BYTES_MAX = 1024 ** 3;

export interface Room {
  readonly quotaLeft: number;
  readonly nodesLeft: number;
  /** Of what the realm uses: could be taken back. */
  readonly trashBytes: number;
  /** Realms whose grants count against the quota. */
  readonly realms: readonly RealmId[];
  /** Others were asked to give back what they do not use. */
  readonly wasAsked: boolean;
  /** For the error. */
  path(): string;
}

export class SpaceGrants {
  readonly #byRealm = new Map<RealmId, number>();
  #all = 0;

  outstanding(realm: RealmId): number {
    return this.#byRealm.get(realm) ?? 0;
  }

  elsewhere(realm: RealmId, session: Session | undefined): number {
    return this.outstanding(realm) - (session?.space.get(realm) ?? 0);
  }

  /** Raw bytes granted over all realms, before replication. */
  get allBytes(): number {
    return this.#all;
  }

  /** Grants up to `bytes`. Throws `quota_exceeded` or `no_space` when nothing is left, and `RoomFirst` when others hold what may be. */
  grant(session: Session, realm: RealmId, bytes: number, room: Room): number {
    const wanted = Math.min(bytes, GRANT_BYTES_MAX);
    const byQuota = room.quotaLeft - this.outstanding(realm);
    if (wanted > 0 && byQuota <= 0) {
      const held = room.realms.reduce((sum, each) => sum + this.elsewhere(each, session), 0);
      if (held > 0 && !room.wasAsked) throw new RoomFirst(room.realms);
      throw new CollectiveError(
        'quota_exceeded',
        `Reserve ${bytes} bytes in realm ${room.path()}: its quota is used up or granted to others${trashHint(room.trashBytes)}`,
      );
    }
    const byNodes = room.nodesLeft - this.#all;
    if (wanted > 0 && byNodes <= 0) {
      if (!room.wasAsked) throw new RoomFirst(undefined);
      throw new CollectiveError(
        'no_space',
        `Reserve ${bytes} bytes in realm ${room.path()}: the storage nodes have no room above their reserve${trashHint(room.trashBytes)}`,
      );
    }
    const granted = Math.max(0, Math.min(wanted, byQuota, byNodes));
    this.#add(session, realm, granted);
    return granted;
  }

  /** A returning session holds this much from before a restart. */
  restore(session: Session, realm: RealmId, bytes: number): void {
    this.#add(session, realm, Math.max(0, Math.min(bytes, GRANT_BYTES_MAX) - (session.space.get(realm) ?? 0)));
  }

  /** Bytes became used: they leave the grant. Answers how many of them it did not hold. */
  used(session: Session, realm: RealmId, bytes: number): number {
    const held = session.space.get(realm) ?? 0;
    const taken = Math.min(held, Math.max(0, bytes));
    this.#add(session, realm, -taken);
    return bytes - taken;
  }

  /** What the session does not use. */
  giveBack(session: Session, realm: RealmId, bytes: number): void {
    this.used(session, realm, bytes);
  }

  drop(session: Session): void {
    for (const [realm, bytes] of [...session.space]) this.#add(session, realm, -bytes);
  }

  #add(session: Session, realm: RealmId, bytes: number): void {
    if (bytes === 0) return;
    session.space.set(realm, (session.space.get(realm) ?? 0) + bytes);
    this.#byRealm.set(realm, this.outstanding(realm) + bytes);
    this.#all += bytes;
  }
}
