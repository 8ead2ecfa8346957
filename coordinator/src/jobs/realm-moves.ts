/**
 * Runs the jobs that move inodes between realms (`ops/realm-moves.ts`), one step after the other, each a commit of its own.
 * A step that is lost with the power is made again, so it need not be stable before the next; the last one is.
 */
import type { Engine } from '../engine/engine.ts';
import type { Caller, OperationContext } from '../ops/context.ts';
import { allJobs, hasEnded, JOB_DONE, type RunningJob, stepOfMove } from '../ops/realm-moves.ts';
import { THE_MEMBER } from '../session/realm-rights.ts';
import type { JobRow } from '../tables/gen/tables.ts';
import type { Round } from './keeper.ts';

export interface RealmMoverParts {
  readonly engine: Engine;
  change<T>(
    caller: Caller,
    operation: (context: OperationContext) => T,
    options?: { readonly durability?: 'written' | 'stable' },
  ): Promise<T>;
  event(kind: string, message: string, details: Readonly<Record<string, string>>): void;
}

export class RealmMover {
  readonly #parts: RealmMoverParts;

  constructor(parts: RealmMoverParts) {
    this.#parts = parts;
  }

  async work(round: Round): Promise<void> {
    const running = await this.#parts.engine.run((tx) => allJobs({ tx }).filter(({ row }) => !hasEnded(row)));
    for (const job of running) await this.#work(job, round);
  }

  async #work({ job }: RunningJob, { signal, progress }: Round): Promise<void> {
    const { change, engine } = this.#parts;
    while (!signal.aborted) {
      const row = await change(THE_MEMBER, (context) => stepOfMove(context, job), { durability: 'written' });
      progress(row.moved, undefined, 'files');
      if (!hasEnded(row)) continue;
      await engine.stableThrough(engine.lastPosition);
      this.#tell(row);
      return;
    }
  }

  #tell({ kind, path, state, moved, passes, failure }: JobRow): void {
    const { event } = this.#parts;
    const details = { path, moved: String(moved), passes: String(passes) };
    if (state !== JOB_DONE) event('realm-refused', failure, details);
    else if (kind === 'make-realm') event('realm-made', `Directory ${path} is a realm`, details);
    else event('realm-dissolved', `Realm ${path} is a part of the realm around it`, details);
  }
}
