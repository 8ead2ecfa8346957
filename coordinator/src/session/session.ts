/**
 * One session (M5, M6): who it is, what it may do, which answers are kept for it, until when it lives. It outlives its
 * stream: a client that comes back within the session lease takes it up again with the next incarnation.
 */
import type { InodeNumber, RealmId, SessionId } from '@collective/base/ids';
import type { Reply, ServerMessage, Credential as WireCredential } from '@collective/protocol/gen/session';
import { Reply as ReplyType } from '@collective/protocol/gen/session';
import type { ShownLeaf } from '../membership/node-link.ts';
import type { Caller, Credential } from '../ops/context.ts';
import type { SessionRow, SubjectRow } from '../tables/gen/tables.ts';
import { SessionChunkIds } from './chunk-ids.ts';
import { realmRight, type SharedRights } from './realm-rights.ts';

export interface KeptAnswer {
  readonly step: number;
  readonly reply: Uint8Array;
}

/** Where a session's messages go at the moment. */
export interface Outlet {
  send(message: ServerMessage): void;
  /** Ends the stream with a reason. */
  refuse(error: Error): void;
}

export class Session {
  readonly id: SessionId;
  readonly clientId: Buffer;
  readonly subject: string;
  readonly caches: boolean;
  program: string;
  incarnation: number;
  rights: SubjectRow;
  listener = 'internal';
  bundleHash = '';
  /** Of its stream; undefined where streams have no certificates. */
  leaf: ShownLeaf | undefined;
  /** Boot time in ms until which promises hold (M6). */
  promisesUntilMs = 0;
  /** Boot time in ms until which the session holds. */
  expiresMs = 0;
  outlet: Outlet | undefined;
  /** Since its last attach the session has sent again what was lost (M4). */
  replayed = false;
  /** Version of the realms that the client was told of last. */
  realmsTold = 0;
  /** Its end has begun: nothing is run for it any more. */
  ended = false;
  readonly chunkIds: SessionChunkIds;
  accessExpiresSeconds = 0;
  /** M10: bytes granted and not yet used, by realm. */
  readonly space = new Map<RealmId, number>();
  /** It gives back what it does not use of them when it is asked. */
  givesSpaceBack = false;
  readonly openInodes = new Set<InodeNumber>();
  defaultCredential: Credential;
  readonly #shared: SharedRights;
  readonly #answers = new Map<number, KeptAnswer[]>();
  #acknowledged: { number: number; step: number }[] = [];

  constructor(id: SessionId, row: SessionRow, rights: SubjectRow, shared: SharedRights) {
    this.#shared = shared;
    this.id = id;
    this.clientId = row.clientId;
    this.subject = row.subject;
    this.caches = row.caches;
    this.program = row.program;
    this.incarnation = row.incarnation;
    this.rights = rights;
    this.chunkIds = new SessionChunkIds(row.chunkIds);
    this.defaultCredential = { uid: rights.uid, gid: rights.gid, groups: [] };
  }

  row(now: SessionRow['renewed']): SessionRow {
    return {
      clientId: this.clientId,
      subject: this.subject,
      incarnation: this.incarnation,
      renewed: now,
      caches: this.caches,
      program: this.program,
      chunkIds: this.chunkIds.rows(),
    };
  }

  get keptAnswers(): number {
    return this.#answers.size;
  }

  keepAnswer(number: number, answer: KeptAnswer): void {
    const kept = this.#answers.get(number);
    if (kept === undefined) this.#answers.set(number, [answer]);
    else kept.push(answer);
  }

  keptAnswer(number: number, step: number): Reply | undefined {
    const kept = this.#answers.get(number)?.find((answer) => answer.step === step);
    return kept === undefined ? undefined : ReplyType.decode(kept.reply);
  }

  /** The client has the answers of these numbers; their rows go with the next batch. */
  acknowledge(numbers: readonly number[]): void {
    for (const number of numbers) {
      for (const { step } of this.#answers.get(number) ?? []) this.#acknowledged.push({ number, step });
      this.#answers.delete(number);
    }
  }

  get acknowledgedWaiting(): number {
    return this.#acknowledged.length;
  }

  /** The oldest of them; `dropAcknowledged` follows when their rows are gone. */
  acknowledgedFirst(count: number): readonly { number: number; step: number }[] {
    return this.#acknowledged.slice(0, count);
  }

  dropAcknowledged(count: number): void {
    if (count > 0) this.#acknowledged = this.#acknowledged.slice(count);
  }

  takeAcknowledged(): { number: number; step: number }[] {
    const taken = this.#acknowledged;
    this.#acknowledged = [];
    return taken;
  }

  realmRight(realm: RealmId): 'rw' | 'ro' | undefined {
    return realmRight(this.rights, realm, this.#shared);
  }

  /** The uid rule (T3a): a trusted session is believed, any other runs as its own uid. */
  caller(credential: WireCredential | undefined): Caller {
    const own: Credential = { uid: this.rights.uid, gid: this.rights.gid, groups: [] };
    return {
      session: this.id,
      subject: this.subject,
      credential: this.rights.trusted ? (credential ?? this.defaultCredential) : own,
      realmRight: (realm) => this.realmRight(realm),
      ownsChunk: (chunk) => this.chunkIds.has(chunk),
    };
  }
}
