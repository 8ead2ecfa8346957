/**
 * How every command is made: the same global flags, help with examples, errors that suggest, exit codes from the
 * catalogue. Flags that all commands know may stand before or after the verb; the one nearest to the end wins.
 */

import { formatDurationMs, parseDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { type Argument, Command, Help, InvalidArgumentError, Option } from 'commander';
import { parseMode } from './mode.ts';
import { type ErrorOutput, EXIT_CODES } from './output/errors.ts';
import { FORMATS, type Format, parseFormat } from './output/format.ts';

export interface GlobalOptions {
  readonly context?: string;
  readonly coordinator?: string;
  readonly output: Format;
  /** The format was asked for, not taken by default. */
  readonly outputGiven: boolean;
  readonly verbose: boolean;
  readonly quiet: boolean;
  readonly color: boolean;
  /** Ends the whole command. */
  readonly timeoutMs?: number;
}

export interface Example {
  readonly line: string;
  readonly says: string;
}

export interface VerbOptions {
  readonly summary: string;
  /** More than the summary, for `--help` only: paragraphs, whose lines are filled again. */
  readonly description?: string;
  readonly examples: readonly Example[];
  /** Global flags whose letters this verb uses for something else. */
  readonly without?: readonly ('output' | 'help-letter')[];
  /** Global flags that are accepted, since every command has them, but mean nothing here. */
  readonly idle?: readonly GlobalFlag[];
}

/** For commands of this machine alone. */
export const IDLE_WITHOUT_MEMBER: readonly GlobalFlag[] = ['context', 'coordinator', 'timeout'];
/** And for those that print no data either. */
export const IDLE_WITHOUT_DATA: readonly GlobalFlag[] = [...IDLE_WITHOUT_MEMBER, 'output', 'json'];

/** Wider examples have what they say in a line above, as kubectl has it. */
const EXAMPLE_COLUMNS_MAX = 96;

export function verb(name: string, options: VerbOptions): Command {
  const { summary, description, examples, without = [], idle = [] } = options;
  const command = plainCommand(name).description(
    description === undefined ? summary : `${summary}\n\n${filled(description)}`,
  );
  command.summary(summary);
  addGlobalOptions(command, { without, idle });
  addHelp(command, without.includes('help-letter') ? '--help' : '-h, --help');
  command.addHelpText('after', examplesHelp(examples));
  return command;
}

/** A noun that only holds verbs: `config`, `token`, `auth`. */
export function noun(
  name: string,
  summary: string,
  verbs: readonly Command[],
  examples: readonly Example[],
  idle: readonly GlobalFlag[] = [],
): Command {
  const command = plainCommand(name).description(summary).usage('COMMAND [flags]');
  command.summary(summary);
  addGlobalOptions(command, { idle });
  addHelp(command, '-h, --help');
  command.helpCommand('help [command]', 'show the help of a command');
  for (const child of verbs) command.addCommand(child);
  command.addHelpText('after', examplesHelp(examples));
  return command;
}

export function addHelp(command: Command, flags: string): void {
  command.addHelpOption(new Option(flags, 'show this help').helpGroup(GLOBAL_GROUP));
}

/** A line break within a paragraph is one of the source, not of the text; an indented line is one of a list. */
export function filled(text: string): string {
  return text.replace(/(?<!\n)\n(?![\n ])/g, ' ');
}

export function examplesHelp(examples: readonly Example[]): string {
  const width = Math.max(...examples.map(({ line }) => line.length));
  const fits = examples.every(({ says }) => width + says.length <= EXAMPLE_COLUMNS_MAX);
  const lines = examples.map(({ line, says }) =>
    fits ? `  ${line.padEnd(width)}  # ${says}` : `  # ${says}\n  ${line}\n`,
  );
  return `\nExamples:\n${lines.join('\n').trimEnd()}`;
}

export function exitCodesHelp(): string {
  return `\nExit codes:\n${EXIT_CODES.map(({ exit, meaning }) => `  ${String(exit).padEnd(4)}${meaning}`).join('\n')}`;
}

/** A command that throws instead of ending the process, and leaves the printing of errors to the caller. */
export function plainCommand(name: string): Command {
  return new Command(name)
    .exitOverride()
    .enablePositionalOptions()
    .allowExcessArguments(false)
    .showHelpAfterError(false)
    .showSuggestionAfterError(true)
    .configureOutput({ writeErr: () => undefined, outputError: () => undefined })
    .configureHelp({ sortSubcommands: false, groupItems: globalGroupLast, subcommandTerm });
}

/** `rename-context <name> <new-name>`: every verb has flags, which need not be said each time. */
function subcommandTerm(command: Command): string {
  return [command.name(), ...command.registeredArguments.map((argument) => humanReadable(argument))].join(' ');
}

function humanReadable(argument: Argument): string {
  const name = argument.name() + (argument.variadic ? '...' : '');
  return argument.required ? `<${name}>` : `[${name}]`;
}

export type GlobalFlag = 'context' | 'coordinator' | 'output' | 'json' | 'timeout' | 'verbose' | 'quiet' | 'color';

const GLOBAL_FLAGS = new Set<string>([
  'context',
  'coordinator',
  'output',
  'json',
  'timeout',
  'verbose',
  'quiet',
  'color',
  'help',
]);
export const GLOBAL_GROUP = 'Flags of every command:';

/** Own flags first: that is what the reader of `ls --help` came for. */
function globalGroupLast<Item extends Command | Option>(
  this: Help,
  all: Item[],
  visible: Item[],
  groupOf: (item: Item) => string,
): Map<string, Item[]> {
  const groups = Help.prototype.groupItems.call<Help, [Item[], Item[], (item: Item) => string], Map<string, Item[]>>(
    this,
    all,
    visible,
    groupOf,
  );
  const globals = groups.get(GLOBAL_GROUP);
  groups.delete(GLOBAL_GROUP);
  return globals === undefined ? groups : groups.set(GLOBAL_GROUP, globals);
}

/** `--coordinator` where it is a setting of the command itself. */
export function ownCoordinatorFlag(command: Command, description: string): Command {
  const option = command.options.find(({ long }) => long === '--coordinator');
  if (option === undefined) return command;
  option.description = description;
  option.helpGroup('Options:').hideHelp(false);
  return command;
}

export function addGlobalOptions(
  command: Command,
  { without = [], idle = [] }: Pick<VerbOptions, 'without' | 'idle'> = {},
): void {
  const own = new Set(command.options.map((option) => option.attributeName()));
  const add = (option: Option): void => {
    const name = option.attributeName();
    if (own.has(name)) return;
    option.helpGroup(GLOBAL_GROUP).hideHelp(idle.some((flag) => flag === name));
    command.addOption(option);
  };
  add(new Option('--context <name>', 'use this context instead of the current one'));
  add(new Option('--coordinator <host:port>', 'dial this address instead of the one in the context'));
  if (!without.includes('output')) {
    add(new Option('-o, --output <format>', `print as ${FORMATS.join(', ')}`).argParser(flag(parseFormat)));
  }
  add(new Option('--json', 'the same as -o json'));
  add(duration('--timeout <duration>', 'give up after this time, e.g. 30s'));
  add(new Option('-v, --verbose', 'show all causes of an error'));
  add(new Option('-q, --quiet', 'no progress and no hints'));
  add(new Option('--no-color', 'no colours (also: NO_COLOR)'));
}

/** Global flags of the command and its parents. */
export function globalOptions(command: Command): GlobalOptions {
  const given = givenOptions(command, GLOBAL_FLAGS);
  const output = given.get('json') === true ? 'json' : given.get('output');
  return {
    context: stringOf(given.get('context')),
    coordinator: withHost(stringOf(given.get('coordinator'))),
    output: FORMATS.find((format) => format === output) ?? 'table',
    outputGiven: output !== undefined,
    verbose: given.get('verbose') === true,
    quiet: given.get('quiet') === true,
    color: given.get('color') !== false,
    timeoutMs: typeof given.get('timeout') === 'number' ? (given.get('timeout') as number) : undefined,
  };
}

/** How a command that was called with these reports its errors. */
export function errorOutputOf({ output, verbose, color }: GlobalOptions): ErrorOutput {
  return { json: output === 'json', verbose, color };
}

/** `:7420` is a port of this machine. */
function withHost(coordinator: string | undefined): string | undefined {
  return coordinator?.startsWith(':') ? `localhost${coordinator}` : coordinator;
}

/** What was said of these flags before or after the verb. */
export function givenOptions(command: Command, names: ReadonlySet<string>): ReadonlyMap<string, unknown> {
  const given = new Map<string, unknown>();
  const chain: Command[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) chain.unshift(at);
  for (const at of chain) {
    for (const [key, value] of Object.entries(at.opts())) {
      if (names.has(key) && at.getOptionValueSource(key) === 'cli') given.set(key, value);
    }
  }
  return given;
}

function stringOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Lets a parser of ours refuse a flag in commander's way, with our message. */
export function flag<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (thrown) {
      if (thrown instanceof CollectiveError) throw new InvalidArgumentError(thrown.message);
      throw thrown;
    }
  };
}

/** A flag whose value is a duration; the default is shown as people write it. */
export function duration(flags: string, description: string, defaultMs?: number): Option {
  const name = flags.split(' ')[0];
  const option = new Option(flags, description).argParser(flag((text) => parseDurationMs(text, name)));
  return defaultMs === undefined ? option : option.default(defaultMs, formatDurationMs(defaultMs));
}

/** A flag whose value is permission bits, shown in octal. */
export function modeOption(description: string, defaultMode?: number): Option {
  const option = new Option('-m, --mode <octal>', description).argParser(flag(parseMode));
  return defaultMode === undefined ? option : option.default(defaultMode, defaultMode.toString(8));
}

/** A whole number within bounds, for flags such as `--nodes`. */
export function wholeNumber(what: string, minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < minimum || value > maximum) {
      throw new CollectiveError(
        'invalid_argument',
        `Read '${text}' as ${what}: it is a whole number between ${minimum} and ${maximum}`,
      );
    }
    return value;
  };
}
