/**
 * What a power loss of the coordinator does to an explanation: which changes it can have taken, and how they come again.
 *
 * The log loses its end. Clients that live send again what they had been answered (M4), in their order; until one lease after
 * the restart nobody else changes anything (M6), so it comes again with the same outcome, but whoever only reads may miss it
 * until then. A client that comes later still finds what others did meanwhile: its changes are owed, and may end otherwise.
 */
import { type Explanation, type Fate, type Moment, NOT_YET, type Owed, type Progress, tipOf } from './explanation.ts';
import { endsAlike, match } from './model-answers.ts';
import type { FileSystem } from './model-files.ts';
import type { StepOutcome } from './model-operation.ts';

export type Fates = ReadonlyMap<string, Fate>;

/** What becomes of the lost changes of a client that had been answered. */
export type Afterwards = 'again' | 'late' | 'never';

/**
 * Sets of moments that a power loss can have taken together. Operations that ran at once may lie in the log in another order
 * than here; but one that was called after another had been answered lies behind it. Undefined: there are too many.
 */
export function possibleLosses({ moments }: Explanation, fates: Fates, most: number): Set<number>[] | undefined {
  const unstable = new Map<string, number[]>();
  for (const [at, { operation, firm }] of moments.entries()) {
    const fate = fates.get(operation);
    if (at === 0 || fate === undefined || fate.stable || firm) continue;
    const { client } = fate.operation;
    unstable.set(client, [...(unstable.get(client) ?? []), at]);
  }
  let losses: number[][] = [[]];
  for (const changes of unstable.values()) {
    losses = losses.flatMap((loss) =>
      Array.from({ length: changes.length + 1 }, (_, kept) => [...loss, ...changes.slice(kept)]),
    );
    if (losses.length > most) return undefined;
  }
  const began = moments.map(({ operation, againAfter }) =>
    againAfter > 0 ? againAfter : (fates.get(operation)?.invokedAt ?? 0),
  );
  const ended = moments.map(({ operation, againAfter }) => {
    const fate = fates.get(operation);
    return fate === undefined || againAfter > 0 ? (fate?.settledAt ?? 0) : fate.answeredAt;
  });
  return losses
    .map((loss) => new Set(loss))
    .filter((loss) =>
      began.every((keptBegan, kept) => loss.has(kept) || [...loss].every((gone) => (ended[gone] ?? 0) >= keptBegan)),
    );
}

/** The changes without the lost ones, and what came again of these; all ways in which it can be. */
export function withoutLost(
  explanation: Explanation,
  lost: ReadonlySet<number>,
  { fates, afterwards, at }: { fates: Fates; afterwards: (client: string) => Afterwards; at: number },
): Explanation[] {
  const [base, ...rest] = explanation.moments;
  if (base === undefined) return [];
  const again = new Map<string, Moment[]>();
  const late: Moment[] = [];
  const progress = new Map(explanation.progress);
  let kept: readonly Moment[] = [base];
  const firstLost = Math.min(...lost);
  for (const [i, moment] of rest.entries()) {
    const fate = fates.get(moment.operation);
    // What had no answer is sent again by whoever lives, and takes effect when it does.
    if (fate?.answer === undefined) progress.delete(moment.operation);
    if (!lost.has(i + 1)) {
      const longer = withMoment(kept, moment, fates, progress);
      // Before the first that is lost all is as it was, with what disks have shown and lost since.
      if (i + 1 < firstLost) kept = [...kept, moment];
      else if (longer === undefined) return [];
      else kept = longer;
    } else if (fate?.answer !== undefined) {
      const { client } = fate.operation;
      const how = afterwards(client);
      if (how === 'again') again.set(client, [...(again.get(client) ?? []), moment]);
      if (how === 'late') late.push(moment);
    }
  }
  const found: Explanation[] = [];
  for (const clients of permutations([...again.keys()])) {
    let moments: readonly Moment[] | undefined = kept;
    for (const client of clients)
      for (const moment of again.get(client) ?? [])
        moments &&= withMoment(moments, { ...moment, seenAt: NOT_YET, againAfter: at, firm: false }, fates, progress);
    if (moments !== undefined) found.push(withLate({ ...explanation, moments, progress }, late, fates, at));
  }
  return found;
}

/** Puts the late changes off. That a file is open is told at every attach: it is known as soon as the file is there. */
function withLate(explanation: Explanation, late: readonly Moment[], fates: Fates, at: number): Explanation {
  let { moments } = explanation;
  const owed: Owed[] = [];
  for (const moment of late) {
    const { fs } = tipOf({ ...explanation, moments });
    const opened = fates.get(moment.operation)?.operation.steps[moment.step]?.(fs, moment.bound);
    if (opened !== undefined && opened.fs !== fs && opened.fs.nodes === fs.nodes)
      moments = [...moments, { ...moment, fs: opened.fs, seenAt: NOT_YET, againAfter: at, firm: false }];
    else owed.push(moment);
  }
  return { ...explanation, moments, owed: [...owed, ...explanation.owed] };
}

/** Makes a change again, which must end as it was answered; undefined if it does not. Notes how far an open operation is. */
function withMoment(
  moments: readonly Moment[],
  moment: Moment,
  fates: Fates,
  progress: Map<string, Progress>,
): Moment[] | undefined {
  const before = moments.at(-1);
  const fate = fates.get(moment.operation);
  if (before === undefined || fate === undefined)
    throw new Error(`Nothing is known of the operation ${moment.operation}, which a moment names`);
  const outcome: StepOutcome | undefined = fate.operation.steps[moment.step]?.(before.fs, moment.bound);
  // It was a change: one that changes nothing now ends otherwise. A sync alone does not: disks may show by themselves, in all
  // states at once, that what it had to make stable is stable (D3).
  if (outcome === undefined || (outcome.fs === before.fs && !fate.operation.syncs)) return undefined;
  let { fs } = outcome;
  const expected = 'bound' in outcome ? undefined : outcome.expected;
  if (fate.answer === undefined) {
    const bound = 'bound' in outcome ? outcome.bound : moment.bound;
    progress.set(moment.operation, { step: moment.step + 1, bound, expected });
  } else if (expected !== undefined) {
    const matched: FileSystem | string = match(fs, expected, fate.answer);
    if (typeof matched === 'string') return undefined;
    fs = matched;
  }
  return [...moments, { ...moment, fs }];
}

/** The client makes the first of its owed changes again, with whatever outcome; none if it owes none. */
export function withOwedMade(explanation: Explanation, client: string, fates: Fates, at: number): Explanation[] {
  const { owed, moments, differing } = explanation;
  const index = owed.findIndex(({ operation }) => fates.get(operation)?.operation.client === client);
  const first = owed[index];
  const fate = fates.get(first?.operation ?? '');
  if (first === undefined || fate === undefined) return [];
  const rest = owed.filter((_, i) => i !== index);
  const tip = tipOf(explanation);
  const outcome: StepOutcome | undefined = fate.operation.steps[first.step]?.(tip.fs, first.bound);
  if (outcome === undefined) return [{ ...explanation, owed: rest }];
  const { operation, step, bound } = first;
  const withDiffering = differing.includes(operation) ? differing : [...differing, operation];
  const alike = 'bound' in outcome || fate.answer === undefined || endsAlike(outcome.fs, outcome.expected, fate.answer);
  const made = {
    ...explanation,
    moments:
      outcome.fs === tip.fs
        ? moments
        : [...moments, { fs: outcome.fs, operation, step, bound, seenAt: NOT_YET, againAfter: at, firm: false }],
    owed: rest,
    differing: alike ? differing : withDiffering,
  };
  return fate.operation.mayBeRefused ? [made, { ...explanation, owed: rest, differing: withDiffering }] : [made];
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, i) => permutations(items.filter((_, j) => j !== i)).map((rest) => [item, ...rest]));
}
