/** `--watch`: the same look again and again; on a terminal in place of the last one. */
import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type Shell, say, writeOut } from '../shell.ts';

export const LOOK_EVERY_MS = 2_000;
const CLEAR_SCREEN = '\u001b[H\u001b[2J\u001b[3J';

/** `look` answers what is to be shown; the first failure is the command's, a later one is told and outlived. */
export async function watching<Seen>(
  shell: Shell,
  { watch, everyMs = LOOK_EVERY_MS }: { readonly watch: boolean; readonly everyMs?: number },
  look: () => Promise<Seen>,
  show: (seen: Seen) => Promise<void>,
): Promise<void> {
  for (let looked = false; ; looked = true) {
    let seen: Seen;
    try {
      seen = await look();
    } catch (thrown) {
      if (!looked || !isPassing(thrown)) throw thrown;
      await say(shell, thrown.message);
      await sleep(shell.clock, everyMs, shell.signal);
      continue;
    }
    if (watch && shell.stdout.isTTY) await writeOut(shell.stdout, CLEAR_SCREEN);
    else if (looked) await writeOut(shell.stdout, '\n');
    await show(seen);
    if (!watch) return;
    await sleep(shell.clock, everyMs, shell.signal);
  }
}

/** An apiserver that restarts is waited for. */
export function isPassing(thrown: unknown): thrown is CollectiveError {
  return thrown instanceof CollectiveError && (thrown.code === 'unavailable' || thrown.code === 'deadline_exceeded');
}
