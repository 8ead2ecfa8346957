/**
 * Room that sessions were granted and do not use comes back when somebody else finds none (M10): they are asked, give back at
 * once what they do not use, and the one that asked looks again. So what is granted ahead never makes a quota or a
 * disk seem full. Who has no stream now cannot be asked: its room is as good as used until it comes back or its session ends.
 */
import type { Clock, Timer } from '@collective/base/clock';
import type { RealmId, SessionId } from '@collective/base/ids';
import type { GiveBack } from '@collective/protocol/gen/session';
import type { Session } from './session.ts';
import type { SpaceGrants } from './space-grants.ts';

/** A client answers at once: later it is stuck, and nobody waits for it. */
export const SPACE_RECALL_WITHIN_MS = 2_000;
/** Who gave all back that it could and was granted nothing since is not asked again so soon: many may find no room at once. */
const ASKED_AGAIN_MS = 250;

interface Asked {
  readonly answered: Promise<void>;
  readonly end: () => void;
}

interface Answer {
  readonly atMs: number;
  readonly heldBytes: number;
}

export interface SpaceRecallParts {
  readonly clock: Clock;
  readonly space: SpaceGrants;
  sessions(): Iterable<Session>;
}

export class SpaceRecalls {
  readonly #parts: SpaceRecallParts;
  readonly #asked = new Map<Session, Map<RealmId, Asked>>();
  readonly #answers = new WeakMap<Session, Map<RealmId, Answer>>();

  constructor(parts: SpaceRecallParts) {
    this.#parts = parts;
  }

  /** Resolves when all others that hold room there, and can be asked, have answered or had their time. Undefined: in all realms. */
  async recall(realms: readonly RealmId[] | undefined, asker: SessionId): Promise<void> {
    const answers: Promise<void>[] = [];
    for (const session of this.#parts.sessions()) {
      if (session.id === asker || !session.givesSpaceBack) continue;
      for (const [realm, bytes] of session.space)
        if (bytes > 0 && (realms === undefined || realms.includes(realm))) answers.push(this.#ask(session, realm));
    }
    await Promise.all(answers);
  }

  gaveBack(session: Session, { realm: value, bytes }: GiveBack): void {
    const { clock, space } = this.#parts;
    const realm = value as RealmId;
    space.giveBack(session, realm, bytes);
    const answers = this.#answers.get(session) ?? new Map<RealmId, Answer>();
    answers.set(realm, { atMs: clock.bootMs(), heldBytes: session.space.get(realm) ?? 0 });
    this.#answers.set(session, answers);
    this.#asked.get(session)?.get(realm)?.end();
  }

  /** Nothing more comes of what it was asked on its stream. */
  streamEnded(session: Session): void {
    for (const { end } of [...(this.#asked.get(session)?.values() ?? [])]) end();
  }

  #ask(session: Session, realm: RealmId): Promise<void> {
    const { clock } = this.#parts;
    const answer = this.#answers.get(session)?.get(realm);
    const isSame = answer !== undefined && answer.heldBytes === session.space.get(realm);
    if (session.outlet === undefined || (isSame && clock.bootMs() - answer.atMs < ASKED_AGAIN_MS))
      return Promise.resolve();
    const ofSession = this.#asked.get(session) ?? new Map<RealmId, Asked>();
    const underWay = ofSession.get(realm);
    if (underWay !== undefined) return underWay.answered;
    const { promise: answered, resolve } = Promise.withResolvers<void>();
    let timer: Timer | undefined;
    const end = (): void => {
      timer?.cancel();
      ofSession.delete(realm);
      if (ofSession.size === 0) this.#asked.delete(session);
      resolve();
    };
    timer = clock.setTimer(SPACE_RECALL_WITHIN_MS, end);
    ofSession.set(realm, { answered, end });
    this.#asked.set(session, ofSession);
    session.outlet.send({ message: { $case: 'spaceRecall', value: { realm } } });
    return answered;
  }
}
