/**
 * Looks at the nodes again and again and tells what changed since the last look, as far as plans depend on it: a level that is
 * compared, so that no event can be missed. It also notices when this process itself did not run for a while.
 */
import type { Clock, Timer } from '@collective/base/clock';
import type { NodeName } from '@collective/base/ids';
import type { NodePicture, PicturedNode } from '../placement/node-picture.ts';

export interface NodeWatchParts {
  readonly clock: Clock;
  readonly everyMs: number;
  picture(): NodePicture;
  /** Nothing was heard in a time in which this process did not run. */
  wasDeaf(): void;
  /** What rows were judged by is not so any more. */
  onJudgementChanged(): void;
  /** What could not be done before may be possible now. */
  onMorePossible(): void;
  onGivenUp(node: PicturedNode): void;
  onReturned(node: PicturedNode): void;
}

/** Later than it should be by more than this: suspended, or stopped. */
const DEAF_AFTER_MS = 4_000;

export class NodeWatch implements Disposable {
  readonly #parts: NodeWatchParts;
  #before: NodePicture;
  #lookedAtMs: number;
  #timer: Timer;

  constructor(parts: NodeWatchParts) {
    this.#parts = parts;
    this.#lookedAtMs = parts.clock.bootMs();
    this.#before = parts.picture();
    this.#timer = this.#again();
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
  }

  /** The nodes as of the last look. */
  get seen(): NodePicture {
    return this.#before;
  }

  look(): void {
    const { clock, everyMs, picture, wasDeaf } = this.#parts;
    const nowMs = clock.bootMs();
    if (nowMs - this.#lookedAtMs > everyMs + DEAF_AFTER_MS) wasDeaf();
    this.#lookedAtMs = nowMs;
    const now = picture();
    const before = this.#before;
    this.#before = now;
    this.#compare(before, now);
  }

  #compare(before: NodePicture, now: NodePicture): void {
    const { onJudgementChanged, onMorePossible, onGivenUp, onReturned } = this.#parts;
    let isJudgedAnew = [...before.keys()].some((name) => !now.has(name as NodeName));
    let isMorePossible = isJudgedAnew;
    for (const [name, node] of now) {
      const was = before.get(name);
      if (was?.lost !== true && node.lost) onGivenUp(node);
      if (was?.lost === true && !node.lost) onReturned(node);
      if (was?.lost !== node.lost || was.disk !== node.disk || was.duty !== node.duty || was.zone !== node.zone)
        isJudgedAnew = true;
      if (was?.heard !== node.heard && node.heard !== 'away') isMorePossible = true;
    }
    if (isJudgedAnew) onJudgementChanged();
    if (isJudgedAnew || isMorePossible) onMorePossible();
  }

  #again(): Timer {
    const { clock, everyMs } = this.#parts;
    return clock.setTimer(
      everyMs,
      () => {
        this.look();
        this.#timer = this.#again();
      },
      { background: true },
    );
  }
}
