/**
 * Calling promises back (M7). A recall ends when the holder acknowledges it, when the holder's session ends, or when the
 * promise lease that it had at the start of the recall has passed: renewals during a recall do not stretch it, and a
 * client that received one after the recall has received the recall too (one stream, in order).
 */
import type { Clock, Timer } from '@collective/base/clock';
import type { InodeNumber, SessionId } from '@collective/base/ids';
import type { RecallDone } from '@collective/protocol/gen/session';
import { OPEN } from '../ops/context.ts';
import type { PromiseTable } from './promises.ts';
import type { Session } from './session.ts';

export interface RecallOutcome {
  readonly session: SessionId;
  /** Answer to a recall of OPEN; true also when the holder did not answer in time. */
  readonly open: boolean;
}

interface Outstanding {
  readonly session: SessionId;
  readonly inode: InodeNumber;
  readonly kinds: number;
  readonly timer: Timer;
  readonly done: (outcome: RecallOutcome) => void;
}

export class Recalls {
  readonly #clock: Clock;
  readonly #promises: PromiseTable;
  readonly #drawSequence: () => number;
  readonly #outstanding = new Map<number, Outstanding>();
  readonly counters = { sent: 0, timedOut: 0 };

  constructor(options: { clock: Clock; promises: PromiseTable; drawSequence: () => number }) {
    this.#clock = options.clock;
    this.#promises = options.promises;
    this.#drawSequence = options.drawSequence;
  }

  get outstanding(): number {
    return this.#outstanding.size;
  }

  /** Recalls `kinds` on the inode from one session. Resolves when the promise no longer holds. */
  recall(
    session: Session,
    inode: InodeNumber,
    kinds: number,
    names: readonly Uint8Array[],
    sequence = this.#drawSequence(),
  ): Promise<RecallOutcome> {
    if ((kinds & OPEN) !== 0) this.#promises.askOpen(inode, session.id);
    return new Promise((done) => {
      const leftMs = Math.max(0, session.promisesUntilMs - this.#clock.bootMs());
      const timer = this.#clock.setTimer(leftMs, () => {
        this.counters.timedOut += 1;
        this.#end(sequence, true);
      });
      this.#outstanding.set(sequence, { session: session.id, inode, kinds, timer, done });
      this.counters.sent += 1;
      session.outlet?.send({
        message: { $case: 'recall', value: { sequence, inode, kinds, names: names.map((name) => Buffer.from(name)) } },
      });
    });
  }

  acknowledged(session: SessionId, { sequence, open }: RecallDone): void {
    if (this.#outstanding.get(sequence)?.session === session) this.#end(sequence, open);
  }

  /** The session is no more: what it was promised holds no longer. Whether it had files open does not matter either. */
  sessionEnded(session: SessionId): void {
    for (const [sequence, recall] of this.#outstanding) if (recall.session === session) this.#end(sequence, false);
  }

  /** A session came back with another incarnation: recalls that its old stream may have lost are sent again. */
  resend(session: Session): void {
    for (const [sequence, { session: id, inode, kinds }] of this.#outstanding)
      if (id === session.id)
        session.outlet?.send({ message: { $case: 'recall', value: { sequence, inode, kinds, names: [] } } });
  }

  /** The coordinator stops: nobody waits for an answer any more. */
  close(): void {
    for (const sequence of [...this.#outstanding.keys()]) this.#end(sequence, true);
  }

  #end(sequence: number, open: boolean): void {
    const recall = this.#outstanding.get(sequence);
    if (recall === undefined) return;
    this.#outstanding.delete(sequence);
    recall.timer.cancel();
    // Interest in an open inode ends only when its holder says that it is closed, and has not seen the inode again since.
    const mayBeOpen = open || this.#promises.seenSinceAsked(recall.inode, recall.session);
    const ended = mayBeOpen ? recall.kinds & ~OPEN : recall.kinds;
    this.#promises.drop(recall.session, recall.inode, ended);
    recall.done({ session: recall.session, open });
  }
}
