/** Waiting for a job of the coordinator, also while that restarts: the job goes on with it, and so does the wait. */
import { type Clock, sleep } from '@collective/base/clock';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import type { Job } from './api.ts';

/** How often it is asked how far the job is. */
const LOOK_MS = 300;
/** A coordinator that is away for longer is one that somebody should look at. */
const AWAY_MS_MAX = 60_000;
const AWAY: readonly ErrorCode[] = ['unavailable', 'deadline_exceeded'];

export interface JobWait {
  readonly signal?: AbortSignal;
  readonly onProgress?: (job: Job) => void;
}

/** Throws `cross_realm` with the reason of a job that has failed, `not_found`, `unavailable` when the coordinator stays away. */
export async function waitForJob(
  clock: Clock,
  jobs: () => Promise<readonly Job[]>,
  id: number,
  { signal, onProgress }: JobWait = {},
): Promise<Job> {
  let seenMs = clock.bootMs();
  for (;;) {
    const all = await jobs().catch((thrown: unknown) => {
      const isAway = thrown instanceof CollectiveError && AWAY.includes(thrown.code);
      if (!isAway) throw thrown;
      if (clock.bootMs() - seenMs < AWAY_MS_MAX) return undefined;
      throw new CollectiveError('unavailable', `Wait for job ${id}: the coordinator has been away for a minute`, {
        cause: thrown,
        todo: 'Start the coordinator: the job goes on by itself, and collective realm jobs shows how far it is.',
      });
    });
    if (all !== undefined) {
      seenMs = clock.bootMs();
      const job = all.find((each) => each.id === id);
      if (job === undefined) throw new CollectiveError('not_found', `Wait for job ${id}: there is none`);
      onProgress?.(job);
      if (job.state === 'done') return job;
      if (job.state === 'failed') {
        const todo = 'All is as it was before; collective realm jobs -o wide shows the reason again.';
        throw new CollectiveError('cross_realm', job.failure, { todo });
      }
    }
    await sleep(clock, LOOK_MS, signal);
  }
}
