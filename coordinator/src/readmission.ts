/**
 * Back in without a context (T3, T3a): who has lost the last administrator's, and may write the coordinator's data folder, where
 * the authority's key lies too, asks there for a one-time token of an administrator and gets it from the coordinator that runs.
 * Where another authority signs (T5) it is refused: there the people come from elsewhere. An edge: files are read and written here.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import type { EventLog } from './events/event-log.ts';
import type { Enrolment } from './membership/enrolment.ts';
import { layAnswer, readAnswer, readWish, removeAnswer, removeWish } from './readmission-files.ts';

export interface ReadmissionParts {
  readonly dataFolder: string;
  readonly clock: Clock;
  readonly enrolment: Pick<Enrolment, 'createToken' | 'revokeToken'>;
  readonly signsHere: boolean;
  readonly events: Pick<EventLog, 'record'>;
  readonly log: Log;
}

const LOOK_EVERY_MS = 1_000;
/** Whoever asks waits for it. */
const TTL_SECONDS = 3_600;

export class Readmission implements AsyncDisposable {
  readonly #parts: ReadmissionParts;
  #timer: Timer | undefined;
  #look: Promise<void> = Promise.resolve();
  #hasEnded = false;
  #failure: string | undefined;

  /** An answer that nobody has fetched is good no more. */
  static async start(parts: ReadmissionParts): Promise<Readmission> {
    const { dataFolder, enrolment } = parts;
    try {
      const left = await readAnswer(dataFolder);
      if (left !== undefined && left.refusal === undefined) await enrolment.revokeToken(left.token);
    } catch (thrown) {
      if (!(thrown instanceof CollectiveError)) throw thrown;
      parts.log.warn({ err: thrown }, 'an answer to a readmission cannot be read, and is removed');
    }
    await removeAnswer(dataFolder);
    const readmission = new Readmission(parts);
    readmission.#again();
    return readmission;
  }

  private constructor(parts: ReadmissionParts) {
    this.#parts = parts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasEnded = true;
    this.#timer?.cancel();
    await this.#look;
  }

  #again(): void {
    if (this.#hasEnded) return;
    this.#timer = this.#parts.clock.setTimer(
      LOOK_EVERY_MS,
      () => {
        this.#look = this.#lookOnce().finally(() => this.#again());
      },
      { background: true },
    );
  }

  /** What cannot be done is told once; the coordinator serves on. */
  async #lookOnce(): Promise<void> {
    const { dataFolder, log } = this.#parts;
    try {
      const wished = await readWish(dataFolder);
      if (wished !== undefined) await this.#answer(wished);
      this.#failure = undefined;
    } catch (thrown) {
      const failure = thrown instanceof Error ? thrown.message : String(thrown);
      if (failure !== this.#failure) log.error({ err: thrown }, 'a wish to be let in again is not answered');
      this.#failure = failure;
    }
  }

  async #answer(user: string): Promise<void> {
    const { dataFolder, enrolment, signsHere, events, log } = this.#parts;
    // First: one that cannot be answered must not be tried for ever.
    await removeWish(dataFolder);
    if (!signsHere) {
      const refusal =
        'this coordinator does not sign certificates itself. In Kubernetes name the person in spec.users of the Member';
      return await layAnswer(dataFolder, { user, refusal });
    }
    try {
      const { token, subject } = await enrolment.createToken({
        role: 'user',
        name: user,
        ttlSeconds: TTL_SECONDS,
        admin: true,
        trusted: true,
        realms: [],
        uid: undefined,
      });
      // Told before anybody can use it.
      log.warn({ subject }, 'an administrator is let in by the data folder');
      events.record(
        'readmitted',
        `Somebody who may write the coordinator's data folder got a one-time token for ${subject} as administrator`,
        { subject },
      );
      await layAnswer(dataFolder, { user, token });
    } catch (thrown) {
      if (!(thrown instanceof CollectiveError)) throw thrown;
      await layAnswer(dataFolder, { user, refusal: thrown.message });
    }
  }
}
