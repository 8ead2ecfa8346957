/** Waits for the /readyz of a part: a level that is looked at, not an event that could be missed. */
import { type Clock, sleep } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';

const LOOK_EVERY_MS = 50;
const ANSWER_WITHIN_MS = 2_000;

export async function waitReady(
  clock: Clock,
  part: { readonly name: string; readonly healthPort: number },
  withinMs: number,
  signal: AbortSignal,
): Promise<void> {
  const url = `http://127.0.0.1:${part.healthPort}/readyz`;
  const startedMs = clock.bootMs();
  let last = 'it does not listen yet';
  for (;;) {
    signal.throwIfAborted();
    try {
      const answer = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_WITHIN_MS)]) });
      const text = (await answer.text()).trim();
      if (answer.ok) return;
      last = `/readyz answers ${answer.status}${text === '' ? '' : `: ${text.slice(0, 200)}`}`;
    } catch (thrown) {
      signal.throwIfAborted();
      if (thrown instanceof Error && thrown.name === 'TimeoutError') last = 'it does not answer';
    }
    if (clock.bootMs() - startedMs > withinMs) {
      throw new CollectiveError(
        'deadline_exceeded',
        `Wait ${formatDurationMs(withinMs)} for ${part.name} to be ready: ${last}`,
      );
    }
    await sleep(clock, LOOK_EVERY_MS, signal);
  }
}
