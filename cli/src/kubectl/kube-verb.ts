/**
 * How every command of `kubectl collective` is made: kubectl's own flags with kubectl's meaning, before or after the verb.
 * `--context` is a context of the kubeconfig here, not one of ours.
 */
import { parseDurationMs } from '@collective/base/duration';
import { type Command, Option } from 'commander';
import { FORMATS, type Format, parseFormat } from '../output/format.ts';
import {
  addHelp,
  type Example,
  examplesHelp,
  filled,
  flag,
  GLOBAL_GROUP,
  givenOptions,
  globalOptions,
  plainCommand,
} from '../verb.ts';

export interface KubeOptions {
  /** A file, or several as in KUBECONFIG. */
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
  readonly allNamespaces: boolean;
  readonly selector?: string;
  readonly output: Format;
  readonly quiet: boolean;
  /** Of each request; unset: the default; 0: as long as it takes. */
  readonly requestTimeoutMs?: number;
}

export interface KubeVerbOptions {
  readonly summary: string;
  readonly description?: string;
  readonly examples: readonly Example[];
  /** `-A` and `-l`: for verbs that look at many. */
  readonly many?: boolean;
}

const KUBE_FLAGS = new Set([
  'kubeconfig',
  'context',
  'namespace',
  'allNamespaces',
  'selector',
  'requestTimeout',
  'output',
]);

export function kubeVerb(name: string, { summary, description, examples, many }: KubeVerbOptions): Command {
  const command = plainCommand(name).description(
    description === undefined ? summary : `${summary}\n\n${filled(description)}`,
  );
  command.summary(summary);
  addKubeOptions(command);
  if (many) {
    command.option('-A, --all-namespaces', 'in all namespaces');
    command.option('-l, --selector <selector>', 'only Members with these labels, as in -l tier=gold');
  }
  addHelp(command, '-h, --help');
  command.addHelpText('after', examplesHelp(examples));
  return command;
}

/** A noun that only holds verbs. */
export function kubeNoun(
  name: string,
  summary: string,
  verbs: readonly Command[],
  examples: readonly Example[],
): Command {
  const command = plainCommand(name).description(summary).usage('COMMAND [flags]');
  command.summary(summary);
  addKubeOptions(command);
  addHelp(command, '-h, --help');
  command.helpCommand('help [command]', 'show the help of a command');
  for (const child of verbs) command.addCommand(child);
  command.addHelpText('after', examplesHelp(examples));
  return command;
}

export function addKubeOptions(command: Command): void {
  const add = (option: Option): unknown => command.addOption(option.helpGroup(GLOBAL_GROUP));
  add(new Option('-n, --namespace <name>', 'the namespace; default: that of the context'));
  add(new Option('--context <name>', 'use this context of the kubeconfig'));
  add(new Option('--kubeconfig <file>', 'use this kubeconfig (also: KUBECONFIG)'));
  add(new Option('-o, --output <format>', `print as ${FORMATS.join(', ')}`).argParser(flag(parseFormat)));
  const timeout = new Option('--request-timeout <duration>', 'give up a request after this time, e.g. 10s; 0: never');
  add(timeout.argParser(flag(parseRequestTimeout)));
  add(new Option('-v, --verbose', 'show all causes of an error'));
  add(new Option('-q, --quiet', 'no progress and no hints'));
  add(new Option('--no-color', 'no colours (also: NO_COLOR)'));
}

/** As kubectl reads it: a bare number is seconds. */
export function parseRequestTimeout(text: string): number {
  return /^[0-9]+$/.test(text) ? Number(text) * 1000 : parseDurationMs(text, '--request-timeout');
}

export function kubeOptions(command: Command): KubeOptions {
  const given = givenOptions(command, KUBE_FLAGS);
  const text = (name: string): string | undefined => {
    const value = given.get(name);
    return typeof value === 'string' ? value : undefined;
  };
  const timeout = given.get('requestTimeout');
  return {
    kubeconfig: text('kubeconfig'),
    context: text('context'),
    namespace: text('namespace'),
    allNamespaces: given.get('allNamespaces') === true,
    selector: text('selector'),
    output: FORMATS.find((format) => format === given.get('output')) ?? 'table',
    quiet: globalOptions(command).quiet,
    requestTimeoutMs: typeof timeout === 'number' ? timeout : undefined,
  };
}
