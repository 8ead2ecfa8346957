/**
 * One invocation: find the verb, load only its file, run it, turn what it throws into an exit code. `--help` of the root
 * and completion read the table of names alone, so they stay fast however many commands there are.
 */

import { CollectiveError } from '@collective/base/errors';
import { type Command, CommanderError, Option } from 'commander';
import { COLLECTIVE } from './collective-program.ts';
import type { CommandEntry } from './command-table.ts';
import { ExitWith } from './exit-with.ts';
import { type ErrorOutput, EXIT_INTERRUPTED, reportError } from './output/errors.ts';
import type { Program } from './program.ts';
import type { Shell } from './shell.ts';
import { errorOutputOf, exitCodesHelp, globalOptions, plainCommand } from './verb.ts';
import { VERSION } from './version.ts';

const EXIT_USAGE = 2;
/** In a pipe, and of terminals that do not know their width. */
const COLUMNS_DEFAULT = 100;
const OTHER_GROUP = 'Other:';

export async function run(argv: readonly string[], shell: Shell, program: Program = COLLECTIVE): Promise<number> {
  const words = program.respell(argv);
  const root = await buildRoot(program, shell, new Set(words));
  let called: Command | undefined;
  root.hook('preAction', (_root, action) => {
    called = action;
  });
  // Before a command is found, its flags are words like others.
  const output = (): ErrorOutput =>
    called === undefined ? guessedOutput(words) : errorOutputOf(globalOptions(called));
  try {
    await root.parseAsync(words, { from: 'user' });
    return 0;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return endOfParsing(shell, thrown, root, words, output());
    if (thrown instanceof ExitWith) return thrown.exit;
    if (shell.signal.aborted && isAbort(thrown, shell.signal)) {
      // Our own output could not be written: that is the failure, whatever the command was doing.
      const { reason } = shell.signal;
      return reason instanceof CollectiveError ? reportError(shell, reason, output()) : EXIT_INTERRUPTED;
    }
    return reportError(shell, thrown, output());
  }
}

/** Loads what the words could mean: a context or file may be called like a command. */
async function buildRoot(program: Program, shell: Shell, words: ReadonlySet<string>): Promise<Command> {
  const root = plainCommand(program.name)
    .description(program.description)
    .usage('[flags] COMMAND')
    .addHelpOption(new Option('-h, --help', 'show this help'))
    .version(VERSION, '--version', 'show the version of this program');
  program.addGlobalOptions(root);
  const help = plainCommand('help').argument('[command]').description('show the help of a command');
  root.addHelpCommand(help.helpGroup(OTHER_GROUP));
  root.addHelpText('after', `${exitCodesHelp()}\n\n${program.helpEnd}`);
  for (const entry of program.commands) {
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
    getOutHelpWidth: () => shell.stdout.columns || COLUMNS_DEFAULT,
    getErrHelpWidth: () => shell.stderr.columns || COLUMNS_DEFAULT,
  });
}

/** Help and version end parsing in order; the rest is wrong usage. */
function endOfParsing(
  shell: Shell,
  end: CommanderError,
  root: Command,
  argv: readonly string[],
  output: ErrorOutput,
): number {
  if (end.exitCode === 0) return 0;
  // A noun without a verb, or nothing at all: commander has shown the help on stderr.
  if (end.code === 'commander.help') return EXIT_USAGE;
  return reportError(
    shell,
    new CollectiveError('invalid_argument', messageOf(end), {
      todo: `'${[root.name(), ...commandsNamed(root, argv), '--help'].join(' ')}' shows what there is.`,
    }),
    output,
  );
}

/** What our own parsers say of a value names flag and value already; commander's words are said about the line. */
function messageOf(end: CommanderError): string {
  const message = end.message.replace(/^error: /, '').replaceAll('\n', ' ');
  const ours = /^(?:option|command-argument) '.*?'.*? is invalid\. (.+)$/.exec(message)?.[1];
  return end.code === 'commander.invalidArgument' && ours !== undefined ? ours : `Read the command line: ${message}`;
}

function commandsNamed(root: Command, argv: readonly string[]): string[] {
  const path: string[] = [];
  let at = root;
  for (const word of argv) {
    const child = at.commands.find((command) => command.name() === word || command.aliases().includes(word));
    if (child === undefined) continue;
    path.push(child.name());
    at = child;
  }
  return path;
}

function guessedOutput(argv: readonly string[]): ErrorOutput {
  const json =
    argv.includes('--json') ||
    argv.some((argument, i) => (argument === '-o' || argument === '--output') && argv[i + 1] === 'json') ||
    argv.includes('-ojson') ||
    argv.includes('--output=json');
  const verbose = argv.includes('-v') || argv.includes('--verbose');
  return { json, verbose, color: !argv.includes('--no-color') };
}

function isAbort(thrown: unknown, signal: AbortSignal): boolean {
  for (let at: unknown = thrown, depth = 0; at instanceof Error && depth < 10; at = at.cause, depth++) {
    if (at === signal.reason || at.name === 'AbortError') return true;
    if (at instanceof CollectiveError && (at.code === 'interrupted' || at.code === 'shutting_down')) return true;
  }
  return false;
}
