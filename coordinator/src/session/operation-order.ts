/**
 * Operations of one session on one inode keep their order (M3), also when one of them stops for a prefetch or a recall. An
 * operation enters the queue of each inode that it touches and runs when it is the head of all of them.
 */
export class OperationOrder {
  readonly #queues = new Map<number, Turn[]>();

  /** Takes places in the queues. The turn is `ready` at once when nobody is ahead. */
  enter(inodes: readonly number[]): Turn {
    const distinct = inodes.length < 2 || inodes[0] !== inodes[1] ? inodes : [inodes[0] ?? 0];
    const turn = new Turn(distinct, (done) => this.#leave(done));
    let ahead = 0;
    for (const inode of distinct) {
      const queue = this.#queues.get(inode);
      if (queue === undefined) {
        this.#queues.set(inode, [turn]);
      } else {
        queue.push(turn);
        ahead += 1;
      }
    }
    turn.waitFor(ahead);
    return turn;
  }

  #leave(turn: Turn): void {
    for (const inode of turn.inodes) {
      const queue = this.#queues.get(inode);
      if (queue === undefined) continue;
      const at = queue.indexOf(turn);
      if (at < 0) continue;
      queue.splice(at, 1);
      if (queue.length === 0) this.#queues.delete(inode);
      else if (at === 0) queue[0]?.oneLess();
    }
  }
}

export class Turn {
  readonly inodes: readonly number[];
  readonly #leave: (turn: Turn) => void;
  #ahead = 0;
  #resolve: (() => void) | undefined;
  #left = false;

  constructor(inodes: readonly number[], leave: (turn: Turn) => void) {
    this.inodes = inodes;
    this.#leave = leave;
  }

  get ready(): boolean {
    return this.#ahead === 0;
  }

  waitFor(ahead: number): void {
    this.#ahead = ahead;
  }

  oneLess(): void {
    this.#ahead -= 1;
    if (this.#ahead === 0) this.#resolve?.();
  }

  /** Resolves when this turn has come; rejects with the signal's reason. */
  async come(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.ready) return;
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      this.#resolve = () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
    });
  }

  /** Lets the next ones run. Safe to call twice. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#leave(this);
  }
}
