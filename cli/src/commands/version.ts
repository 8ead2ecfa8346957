/** `collective version`: of this program, and of the coordinator if one can be asked quickly. */
import type { Command } from 'commander';
import { chosenContext, connectTo } from '../member-session.ts';
import { printOne } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { globalOptions, verb } from '../verb.ts';
import { VERSION } from '../version.ts';
import { openWay } from '../way.ts';

interface Versions {
  readonly program: string;
  readonly node: string;
  readonly coordinator?: string;
}

const COORDINATOR_WITHIN_MS = 3_000;

export function versionCommand(shell: Shell): Command {
  return verb('version', {
    summary: 'show the versions of this program and of the coordinator',
    examples: [
      { line: 'collective version', says: 'both' },
      { line: 'collective version --client', says: 'this program only, nothing is dialled' },
    ],
  })
    .option('--client', 'do not ask the coordinator')
    .action(async (options: { client?: boolean }, command: Command) => {
      const globals = globalOptions(command);
      const coordinator = options.client ? undefined : await coordinatorVersion(shell, command);
      const versions: Versions = { program: VERSION, node: process.versions.node, coordinator };
      await printOne(shell, globals.output, versions, {
        columns: [
          { header: 'Program', cell: ({ program }) => program },
          { header: 'Node', cell: ({ node }) => node },
          ...(options.client
            ? []
            : [{ header: 'Coordinator', cell: (one: Versions): string => one.coordinator ?? '<not reached>' }]),
        ],
        name: ({ program }) => program,
      });
    });
}

/** A version that cannot be had is no failure of this command. */
async function coordinatorVersion(shell: Shell, command: Command): Promise<string | undefined> {
  const late = new AbortController();
  const timer = shell.clock.setTimer(COORDINATOR_WITHIN_MS, () => late.abort());
  try {
    const context = await chosenContext(shell, globalOptions(command));
    const signal = AbortSignal.any([shell.signal, late.signal]);
    await using way = await openWay(shell, context, signal);
    await using member = await connectTo(context, signal, way.changes);
    return member.session.version;
  } catch (thrown) {
    if (shell.signal.aborted) throw thrown;
    return undefined;
  } finally {
    timer.cancel();
  }
}
