/**
 * How a context's member is reached from here. Most are dialled; others lead through something that this program opens for
 * the time of one command, and closes with it.
 */
import { CollectiveError } from '@collective/base/errors';
import type { ConnectOptions, ResolvedContext } from '@collective/client';
import type { Shell } from './shell.ts';

export interface Way extends AsyncDisposable {
  /** What is different for the client: addresses of this machine that lead there. */
  readonly changes: Partial<Pick<ConnectOptions, 'coordinator' | 'reachNode'>>;
  /** What failed on the way itself explains what failed behind it. */
  explain(thrown: unknown): unknown;
}

const DIRECT: Way = {
  changes: {},
  explain: (thrown) => thrown,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};

export async function openWay(
  shell: Shell,
  context: Pick<ResolvedContext, 'name' | 'via'>,
  signal: AbortSignal,
): Promise<Way> {
  const { via, name } = context;
  if (via === undefined) return DIRECT;
  if (via.kind === 'kubernetes') {
    const { MemberForwards } = await import('./kubectl/member-forwards.ts');
    return await MemberForwards.open(shell, via.settings, signal);
  }
  throw new CollectiveError(
    'unsupported',
    `Use context '${name}': it leads through ${via.kind}, which is not known here`,
    {
      todo: 'A newer version of this program may know it.',
    },
  );
}
