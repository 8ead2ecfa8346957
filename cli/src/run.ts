/**
 * One invocation: find the verb, load only its file, run it, turn what it throws into an exit code. `--help` of the root
 * and completion read the table of names alone, so they stay fast however many commands there are.
 */

import { CollectiveError } from '@collective/base/errors';
import { type Command, CommanderError } from 'commander';
import { COMMANDS, type CommandEntry } from './command-table.ts';
import { ExitWith } from './exit-with.ts';
import { EXIT_INTERRUPTED, reportError } from './output/errors.ts';
import type { Shell } from './shell.ts';
import { addGlobalOptions, exitCodesHelp, plainCommand } from './verb.ts';
import { VERSION } from './version.ts';

const EXIT_USAGE = 2;

export async function run(argv: readonly string[], shell: Shell): Promise<number> {
  const root = await buildRoot(shell, new Set(argv));
  const output = { json: wantsJson(argv), verbose: argv.includes('-v') || argv.includes('--verbose') };
  try {
    await root.parseAsync([...argv], { from: 'user' });
    return 0;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return endOfParsing(shell, thrown, root, argv, output);
    if (thrown instanceof ExitWith) return thrown.exit;
    if (shell.signal.aborted && isAbort(thrown, shell.signal)) return EXIT_INTERRUPTED;
    return reportError(shell, thrown, output);
  }
}

/** Loads what the words could mean: a context or file may be called like a command. */
async function buildRoot(shell: Shell, words: ReadonlySet<string>): Promise<Command> {
  const root = plainCommand('collective')
    .description('One shared file space over storage that each member owns')
    .usage('[flags] COMMAND')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'show the help of a command')
    .version(VERSION, '--version', 'show the version of this program');
  addGlobalOptions(root, []);
  root.addHelpText(
    'after',
    `${exitCodesHelp()}

Remote paths begin with '/'; cp tells them from local ones by the prefix 'collective:'.
'collective COMMAND --help' shows flags and examples of a command.`,
  );
  for (const entry of COMMANDS) {
    const command = words.has(entry.name) ? await entry.load(shell) : placeholder(entry);
    root.commandsGroup(`${entry.group}:`);
    root.addCommand(command, { hidden: entry.hidden ?? false });
  }
  for (const command of allCommands(root)) writeHelpTo(command, shell);
  return root;
}

/** Stands for a command that this invocation does not need: name and summary for the list of all commands. */
function placeholder(entry: CommandEntry): Command {
  return plainCommand(entry.name).description(entry.summary);
}

function allCommands(root: Command): Command[] {
  return [root, ...root.commands.flatMap(allCommands)];
}

function writeHelpTo(command: Command, shell: Shell): void {
  command.configureOutput({
    writeOut: (text) => void shell.stdout.write(text),
    writeErr: (text) => void shell.stderr.write(text),
    outputError: () => undefined,
    getOutHelpWidth: () => shell.stdout.columns ?? 100,
    getErrHelpWidth: () => shell.stderr.columns ?? 100,
  });
}

/** Help and version end parsing in order; the rest is wrong usage. */
function endOfParsing(
  shell: Shell,
  end: CommanderError,
  root: Command,
  argv: readonly string[],
  output: { json: boolean; verbose: boolean },
): number {
  if (end.exitCode === 0) return 0;
  // A noun without a verb, or nothing at all: commander has shown the help on stderr.
  if (end.code === 'commander.help') return EXIT_USAGE;
  const message = end.message.replace(/^error: /, '');
  const path = argv.filter((argument) => root.commands.some((command) => command.name() === argument)).slice(0, 1);
  const error = new CollectiveError('invalid_argument', `Read the command line: ${message.replaceAll('\n', ' ')}`);
  if (output.json) return reportError(shell, error, output);
  reportError(shell, error, output);
  shell.stderr.write(`  '${['collective', ...path, '--help'].join(' ')}' shows what there is.\n`);
  return EXIT_USAGE;
}

function wantsJson(argv: readonly string[]): boolean {
  return (
    argv.includes('--json') ||
    argv.some((argument, i) => (argument === '-o' || argument === '--output') && argv[i + 1] === 'json') ||
    argv.includes('-ojson') ||
    argv.includes('--output=json')
  );
}

function isAbort(thrown: unknown, signal: AbortSignal): boolean {
  for (let at: unknown = thrown, depth = 0; at instanceof Error && depth < 10; at = at.cause, depth++) {
    if (at === signal.reason || at.name === 'AbortError') return true;
    if (at instanceof CollectiveError && (at.code === 'interrupted' || at.code === 'shutting_down')) return true;
  }
  return false;
}
