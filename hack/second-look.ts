// A test file of real processes that failed beside others runs once more, with nothing beside it. When it passes then, its failure is not
// forgotten: the file counts as unsteady, and the end of the run shows what went wrong. Why: docs/decisions/a-second-look.md.

import type { FileOutcome } from './test-file-run.ts';
import type { TestLevel } from './test-levels.ts';

/** Where the machine decides what happens first. What runs on a fake clock, or alone in one room, has no such excuse. */
export const LEVELS_LOOKED_AT_TWICE: ReadonlySet<TestLevel> = new Set(['integration', 'apiserver', 'e2e']);

/** In a run as a whole. More than these is no matter of chance. */
export const SECOND_LOOKS_MAX = 3;

/**
 * Runs each file that failed once more, one after the other, unless there are more than `most` of them. An outcome that passed at the second time
 * has the failures of the first as `unsteady`; one that failed again is the second, so that what is shown has a machine of its own.
 */
export async function lookAgain(
  outcomes: readonly FileOutcome[],
  most: number,
  run: (path: string) => Promise<FileOutcome>,
): Promise<FileOutcome[]> {
  const failed = outcomes.filter(({ failures }) => failures.length > 0);
  if (failed.length > most) return [...outcomes];
  const looked: FileOutcome[] = [];
  for (const outcome of outcomes) {
    if (!failed.includes(outcome)) {
      looked.push(outcome);
      continue;
    }
    const second = await run(outcome.path);
    looked.push(second.failures.length > 0 ? second : { ...second, unsteady: outcome.failures });
  }
  return looked;
}
