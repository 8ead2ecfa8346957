/**
 * How every command is made: the same global flags, help with examples, errors that suggest, exit codes from the
 * catalogue. Flags that all commands know may stand before or after the verb; the one nearest to the end wins.
 */

import { parseDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { Command, Help, InvalidArgumentError, Option } from 'commander';
import { EXIT_CODES } from './output/errors.ts';
import { FORMATS, type Format, parseFormat } from './output/format.ts';

export interface GlobalOptions {
  readonly context?: string;
  readonly coordinator?: string;
  readonly output: Format;
  /** The format was asked for, not taken by default. */
  readonly outputGiven: boolean;
  readonly verbose: boolean;
  readonly quiet: boolean;
  /** Ends the whole command. */
  readonly timeoutMs?: number;
}

export interface Example {
  readonly line: string;
  readonly says: string;
}

export interface VerbOptions {
  readonly summary: string;
  /** More than the summary, for `--help` only. */
  readonly description?: string;
  readonly examples: readonly Example[];
  /** Global flags whose letters this verb uses for something else. */
  readonly without?: readonly ('output' | 'help-letter')[];
}

export function verb(name: string, options: VerbOptions): Command {
  const command = plainCommand(name).description(
    options.description === undefined ? options.summary : `${options.summary}\n\n${options.description}`,
  );
  command.summary(options.summary);
  addGlobalOptions(command, options.without ?? []);
  command.helpOption(options.without?.includes('help-letter') ? '--help' : '-h, --help', 'show this help');
  const width = Math.max(...options.examples.map(({ line }) => line.length));
  command.addHelpText(
    'after',
    `\nExamples:\n${options.examples.map(({ line, says }) => `  ${line.padEnd(width)}  # ${says}`).join('\n')}`,
  );
  return command;
}

/** A noun that only holds verbs: `config`, `token`, `auth`. */
export function noun(name: string, summary: string, verbs: readonly Command[]): Command {
  const command = plainCommand(name).description(summary);
  command.summary(summary);
  addGlobalOptions(command, []);
  for (const child of verbs) command.addCommand(child);
  return command;
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
    .configureHelp({ sortSubcommands: false, visibleOptions: optionsWithGlobalsLast });
}

const GLOBAL_FLAGS = new Set([
  'context',
  'coordinator',
  'output',
  'json',
  'verbose',
  'quiet',
  'timeout',
  'color',
  'help',
]);

/** Own flags first: that is what the reader of `ls --help` came for. */
function optionsWithGlobalsLast(this: Help, command: Command): Option[] {
  const visible = Help.prototype.visibleOptions.call(this, command);
  const isGlobal = (option: Option): boolean => GLOBAL_FLAGS.has(option.attributeName());
  return [...visible.filter((option) => !isGlobal(option)), ...visible.filter(isGlobal)];
}

export function addGlobalOptions(command: Command, without: readonly string[]): void {
  const own = new Set(command.options.map((option) => option.attributeName()));
  const add = (option: Option): void => {
    if (!own.has(option.attributeName())) command.addOption(option);
  };
  add(new Option('--context <name>', 'use this context instead of the current one'));
  add(new Option('--coordinator <host:port>', 'dial this address instead of the one in the context'));
  if (!without.includes('output')) {
    add(new Option('-o, --output <format>', `print as ${FORMATS.join(', ')}`).argParser(flag(parseFormat)));
  }
  add(new Option('--json', 'the same as -o json'));
  add(new Option('--timeout <duration>', 'give up after this time, e.g. 30s').argParser(flag(parseDurationMs)));
  add(new Option('-v, --verbose', 'show all causes of an error'));
  add(new Option('-q, --quiet', 'no progress and no hints'));
  add(new Option('--no-color', 'no colours (also: NO_COLOR)'));
}

/** Global flags of the command and its parents. */
export function globalOptions(command: Command): GlobalOptions {
  const given = new Map<string, unknown>();
  const chain: Command[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) chain.unshift(at);
  for (const at of chain) {
    for (const [key, value] of Object.entries(at.opts())) {
      if (GLOBAL_FLAGS.has(key) && at.getOptionValueSource(key) === 'cli') given.set(key, value);
    }
  }
  const output = given.get('json') === true ? 'json' : given.get('output');
  return {
    context: stringOf(given.get('context')),
    coordinator: stringOf(given.get('coordinator')),
    output: FORMATS.find((format) => format === output) ?? 'table',
    outputGiven: output !== undefined,
    verbose: given.get('verbose') === true,
    quiet: given.get('quiet') === true,
    timeoutMs: typeof given.get('timeout') === 'number' ? (given.get('timeout') as number) : undefined,
  };
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
