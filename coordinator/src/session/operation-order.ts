/**
 * Operations of one session on one inode keep their order (M3), also when one of them stops for a prefetch or a recall. An
 * operation enters the queue of each inode that it touches and runs when nobody is ahead of it who minds. Two that only read
 * do not mind each other: else a hundred lookups in one directory would wait for each other's prefetches.
 */
export class OperationOrder {
  readonly #queues = new Map<number, Turn[]>();

  /** Takes places in the queues. The turn is `ready` at once when nobody is ahead, or reads as it does. */
  enter(inodes: readonly number[], reads = false): Turn {
    const distinct = inodes.length < 2 || inodes[0] !== inodes[1] ? inodes : [inodes[0] ?? 0];
    const turn = new Turn(distinct, reads, (done) => this.#leave(done));
    let ahead = 0;
    for (const inode of distinct) {
      const queue = this.#queues.get(inode);
      if (queue === undefined) {
        this.#queues.set(inode, [turn]);
      } else {
        if (!reads || queue.some((other) => !other.reads)) ahead += 1;
        queue.push(turn);
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
      else letIn(queue, at, turn);
    }
  }
}

/** Who may run now that `gone` no longer stands at `at`: the head of the queue, and with a reader the readers behind it. */
function letIn(queue: readonly Turn[], at: number, gone: Turn): void {
  if (gone.reads) {
    // Readers behind it did not wait for it; a change waits for all that are ahead.
    const head = queue[0];
    if (at === 0 && head !== undefined && !head.reads) head.oneLess();
    return;
  }
  // A change that gives up in the middle frees readers only if those ahead of it are all readers.
  for (let i = 0; i < at; i++) if (queue[i]?.reads !== true) return;
  for (let i = at; i < queue.length; i++) {
    const next = queue[i];
    if (next === undefined) return;
    if (!next.reads) {
      if (i === 0) next.oneLess();
      return;
    }
    next.oneLess();
  }
}

export class Turn {
  readonly inodes: readonly number[];
  readonly reads: boolean;
  readonly #leave: (turn: Turn) => void;
  #ahead = 0;
  #resolve: (() => void) | undefined;
  #left = false;

  constructor(inodes: readonly number[], reads: boolean, leave: (turn: Turn) => void) {
    this.inodes = inodes;
    this.reads = reads;
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
