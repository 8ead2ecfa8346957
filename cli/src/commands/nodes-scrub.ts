/** `collective nodes scrub`: has nodes read and verify all that they hold now, rather than within the period. */
import { CollectiveError } from '@collective/base/errors';
import type { NodeStatus } from '@collective/client';
import type { Command } from 'commander';
import { ExitWith } from '../exit-with.ts';
import { type AdminSession, withAdmin } from '../member-session.ts';
import { nodeView } from '../output/node-view.ts';
import { Progress } from '../output/progress.ts';
import { printRows } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { verb } from '../verb.ts';

/** As `verify` does. */
const EXIT_DAMAGED = 7;

export function scrubVerb(shell: Shell): Command {
  return verb('scrub', {
    summary: 'have nodes read and verify all that they hold, now',
    description:
      'At full speed; a pass that is under way is begun anew. What is found damaged is repaired from other copies. With --wait the command\nends when all is read, with exit code 7 if damage was found.',
    examples: [
      { line: 'collective nodes scrub node-2 --wait', says: 'after its disk was moved' },
      { line: 'collective nodes scrub --all', says: 'begin on every node that is there' },
    ],
  })
    .argument('[name...]', 'the nodes')
    .option('-a, --all', 'every node that is not away')
    .option('-w, --wait', 'until all is read')
    .action(async (names: string[], { all = false, wait = false }: { all?: boolean; wait?: boolean }, command) => {
      if (all === names.length > 0)
        throw new CollectiveError('invalid_argument', 'Scrub nodes: name some, or give --all');
      await withAdmin(shell, command as Command, async (session) => {
        const { admin, globals, signal } = session;
        const chosen = all
          ? (await admin.nodes({ signal })).filter(({ state }) => state !== 'away').map(({ name }) => name)
          : names;
        const scrubbed = await scrub(shell, session, chosen, wait);
        await printRows(shell, globals.output, scrubbed, nodeView(shell.clock.now()));
        if (wait && scrubbed.some((node) => (node.scrub?.lastDamaged ?? 0) > 0)) throw new ExitWith(EXIT_DAMAGED);
      });
    });
}

async function scrub(
  shell: Shell,
  { admin, globals, signal }: AdminSession,
  names: readonly string[],
  wait: boolean,
): Promise<NodeStatus[]> {
  const progress = new Progress(shell, { quiet: globals.quiet });
  const seen = new Map<string, NodeStatus>();
  const onProgress = (node: NodeStatus): void => {
    seen.set(node.name, node);
    const all = [...seen.values()];
    const sum = (of: (node: NodeStatus) => number): number => all.reduce((total, each) => total + of(each), 0);
    progress.update({
      doneBytes: sum(({ scrub }) => scrub?.verifiedBytes ?? 0),
      totalBytes: sum(({ scrub }) => scrub?.totalBytes ?? 0),
      doneFiles: 0,
    });
  };
  try {
    return await Promise.all(names.map((name) => admin.scrubNode(name, { wait, signal, onProgress })));
  } finally {
    progress.clear();
  }
}
