/** `--wait`: looks at a Member until it is as wanted, and tells each step as it is first seen. Every wait has an end. */
import { sleep } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { type Shell, say } from '../shell.ts';
import type { MemberObject } from './member-object.ts';
import { isPassing } from './watching.ts';
import { type ClusterSession, memberOf } from './with-cluster.ts';

const LOOK_EVERY_MS = 1_000;

export interface Waiting {
  readonly member: string;
  /** "Rotate the authority of alice". */
  readonly what: string;
  readonly withinMs: number;
  readonly everyMs?: number;
  isDone(member: MemberObject): boolean;
  /** What there is to tell now; told once until it is another. */
  step(member: MemberObject): string | undefined;
}

export async function awaitMember(shell: Shell, session: ClusterSession, waiting: Waiting): Promise<MemberObject> {
  const { member: name, what, withinMs, everyMs = LOOK_EVERY_MS } = waiting;
  const startedMs = shell.clock.bootMs();
  for (let told: string | undefined; ; ) {
    let step = told;
    try {
      const member = await memberOf(session, name);
      if (waiting.isDone(member)) return member;
      step = waiting.step(member);
    } catch (thrown) {
      // Who waits for an hour outlives an apiserver that restarts.
      if (!isPassing(thrown)) throw thrown;
      step = thrown.message;
    }
    if (step !== told && step !== undefined && !session.options.quiet) await say(shell, step);
    told = step;
    if (shell.clock.bootMs() - startedMs >= withinMs) {
      throw new CollectiveError(
        'deadline_exceeded',
        `${what}: not done within ${formatDurationMs(withinMs)}${told === undefined ? '' : `; last seen: ${told}`}`,
        { todo: `It goes on by itself: 'kubectl collective status ${name}' shows it, --timeout waits longer.` },
      );
    }
    await sleep(shell.clock, everyMs, session.signal);
  }
}
