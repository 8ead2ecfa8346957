/** `collective up`: a whole member on this machine, in the foreground or with --detach in the background. */
import { userInfo } from 'node:os';
import { resolve } from 'node:path';
import { parseByteSize } from '@collective/base/byte-size';
import { type Command, Option } from 'commander';
import { type Shell, say } from '../shell.ts';
import { defaultUpFolder, memberNameOf, NODES_MAX, PORT_BASE_DEFAULT, UpFolder } from '../up/layout.ts';
import { HOST_DEFAULT, type UpFlags } from '../up/up-plan.ts';
import { flag, globalOptions, IDLE_WITHOUT_DATA, verb, wholeNumber } from '../verb.ts';

export interface UpCommandOptions extends UpFlags {
  readonly memberId?: string;
  readonly data?: string;
  readonly detach?: boolean;
}

export function upCommand(shell: Shell): Command {
  return addUpOptions(
    verb('up', {
      summary: 'run a whole member on this machine',
      description: `One coordinator and several nodes as processes of their own, with certificates made on the first start. What is
stored lies in one folder (by default ~/.local/share/collective/MEMBER) and is found again by the next start.
Ctrl-C stops all of it; nothing that was acknowledged is lost.`,
      examples: [
        { line: 'collective up', says: 'a member called like you, with two nodes' },
        { line: 'collective up --member alice --nodes 3 --capacity 500GB', says: 'three nodes of 500 GB' },
        { line: 'collective up --detach', says: 'in the background; collective down stops it' },
        { line: 'collective up --port-base 8400', says: 'where other programs use the usual ports' },
      ],
      idle: IDLE_WITHOUT_DATA,
    }),
  )
    .option('--collective <name>', 'the collective it belongs to (default: home)')
    .option('--nodes <n>', 'storage nodes (default: 2)', flag(wholeNumber('--nodes', 1, NODES_MAX)))
    .option(
      '--capacity <size>',
      'room that each node gives (default: 20GiB)',
      flag((text) => parseByteSize(text, '--capacity')),
    )
    .option(
      '--port-base <port>',
      `coordinator here, the others above (default: ${PORT_BASE_DEFAULT})`,
      flag(wholeNumber('--port-base', 1, 65_000)),
    )
    .addOption(
      new Option('--host <address>', 'listen on this address; 0.0.0.0 for all').default(HOST_DEFAULT, HOST_DEFAULT),
    )
    .option('--advertise <host>', 'name or address under which others reach this machine')
    .option('-d, --detach', 'run in the background; returns when the member is ready')
    .action(async (options: UpCommandOptions, command: Command) => {
      const { quiet } = globalOptions(command);
      const folder = upFolder(shell, options);
      const flags = { ...options, member: options.member ?? options.memberId };
      if (options.detach) {
        const { startDetached } = await import('../up/detach.ts');
        await startDetached(shell, folder, detachedArguments(command), { quiet, stopCommand: stopCommand(options) });
        return;
      }
      const { runUp } = await import('../up/run-up.ts');
      await runUp(shell, folder, flags, userMemberName(), {
        tell: (line) => {
          // Nobody may be there to read it, or the disk of a log file be full: no reason to end a member.
          if (!quiet) say(shell, line).catch(() => undefined);
        },
      });
    });
}

/** Flags that say which member on this machine is meant: shared with `down`. */
export function addUpOptions(command: Command): Command {
  return command
    .option('--member <name>', 'the member (default: your user name, cleaned)')
    .option('--member-id <name>', 'the same')
    .option('--data <dir>', 'folder of all its data');
}

export function upFolder(shell: Shell, options: Pick<UpCommandOptions, 'data' | 'member' | 'memberId'>): UpFolder {
  if (options.data !== undefined) return new UpFolder(resolve(shell.cwd, options.data));
  return new UpFolder(defaultUpFolder(shell.env, options.member ?? options.memberId ?? userMemberName()));
}

function userMemberName(): string {
  return memberNameOf(userInfo().username);
}

/** What stops this member and not another. */
export function stopCommand({
  data,
  member,
  memberId,
}: Pick<UpCommandOptions, 'data' | 'member' | 'memberId'>): string {
  if (data !== undefined) return `collective down --data ${data}`;
  const name = member ?? memberId;
  return name === undefined ? 'collective down' : `collective down --member ${name}`;
}

/** The same command line for the process in the background, with what was given and without --detach. */
function detachedArguments(command: Command): string[] {
  const given = command.options
    .filter((option) => option.attributeName() !== 'detach' && option.long !== undefined)
    .filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
    .flatMap((option) => {
      const value: unknown = command.getOptionValue(option.attributeName());
      return value === true ? [option.long as string] : [option.long as string, String(value)];
    });
  return ['up', ...given];
}
