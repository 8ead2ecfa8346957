/**
 * The hidden `collective __complete -- WORDS... CURRENT`: what could stand where the cursor is. Commands and flags come
 * from the command tree itself, so nothing is listed twice; contexts from the config file; remote paths from the
 * coordinator, which is asked for 300 ms at most. Completion never fails and never says a word on stderr.
 */
import { LOG_LEVELS } from '@collective/base/log';
import type { Command, Option } from 'commander';
import { COLLECTIVE } from '../collective-program.ts';
import { FORMATS } from '../output/format.ts';
import type { Program } from '../program.ts';
import { REMOTE_PREFIX } from '../remote-path.ts';
import { type Shell, writeOut } from '../shell.ts';
import { SORT_KEYS } from '../sort-entries.ts';
import { plainCommand } from '../verb.ts';
import { completeRemotePath } from './remote-candidates.ts';
import { COMPLETION_SHELLS } from './scripts.ts';

export interface Candidate {
  readonly value: string;
  readonly description?: string;
}

export interface Candidates {
  readonly candidates: readonly Candidate[];
  readonly directive?: 'nospace' | 'files';
}

/** Where a line is in the tree of commands. `before`: the words that stand already; `current`: what there is of the next. */
export interface Place {
  /** Of the table. */
  readonly entry: string;
  readonly command: Command;
  readonly before: readonly string[];
  readonly current: string;
}

/** What a program knows beyond its own commands and flags. */
export interface Knowledge {
  readonly program: Program;
  argumentsOf(shell: Shell, place: Place): Promise<Candidates>;
  valuesOf(shell: Shell, option: Option, before: readonly string[], current: string): Promise<Candidates>;
}

/** Letters of find --type. */
const FIND_TYPES = ['f', 'd', 'l', 'p', 's'];
export const NOTHING: Candidates = { candidates: [] };
export const LOCAL_FILES: Candidates = { candidates: [], directive: 'files' };

/** Commands whose arguments are remote paths. */
const REMOTE_COMMANDS = new Set([
  'ls',
  'cat',
  'read',
  'write',
  'mkdir',
  'mv',
  'rm',
  'ln',
  'chmod',
  'stat',
  'find',
  'tree',
  'usage',
  'df',
  'du',
  'verify',
]); // prettier-ignore

export function completeCommand(shell: Shell): Command {
  return plainCommand('__complete')
    .argument('[words...]', 'the words of the line, the one under the cursor last')
    .allowUnknownOption()
    .action(async (words: string[]) => {
      const { candidates, directive } = await complete(shell, words).catch(() => NOTHING);
      const lines = candidates.map(({ value, description }) => (description ? `${value}\t${description}` : value));
      if (directive !== undefined) lines.push(`:${directive}`);
      if (lines.length > 0) await writeOut(shell.stdout, `${lines.join('\n')}\n`);
    });
}

export async function complete(
  shell: Shell,
  words: readonly string[],
  knowledge: Knowledge = OF_COLLECTIVE,
): Promise<Candidates> {
  const { program } = knowledge;
  const current = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const entry = program.commands.find(({ name, hidden }) => !hidden && before.includes(name));
  if (entry === undefined) {
    const root = plainCommand(program.name);
    program.addGlobalOptions(root);
    const waiting = optionOf(root, before.at(-1) ?? '');
    if (waiting?.required) return await knowledge.valuesOf(shell, waiting, before, current);
    if (current.startsWith('-')) return flagsOf(root, current);
    return matching(
      current,
      program.commands
        .filter(({ hidden }) => !hidden)
        .map(({ name, summary }) => ({ value: name, description: summary })),
    );
  }
  let command = await entry.load(shell);
  const rest = before.slice(before.indexOf(entry.name) + 1);
  for (const word of rest) command = command.commands.find((child) => child.name() === word) ?? command;

  const previous = before.at(-1) ?? '';
  const waiting = optionOf(command, previous);
  if (waiting?.required) return await knowledge.valuesOf(shell, waiting, before, current);
  if (current.startsWith('--') && current.includes('=')) {
    const [name = '', value = ''] = current.split(/=(.*)/s);
    const option = optionOf(command, name);
    if (option === undefined) return NOTHING;
    const found = await knowledge.valuesOf(shell, option, before, value);
    return { ...found, candidates: found.candidates.map((one) => ({ ...one, value: `${name}=${one.value}` })) };
  }
  if (current.startsWith('-')) return flagsOf(command, current);
  if (command.commands.length > 0) {
    return matching(
      current,
      command.commands.map((child) => ({ value: child.name(), description: child.summary() })),
    );
  }
  return await knowledge.argumentsOf(shell, { entry: entry.name, command, before, current });
}

function flagsOf(command: Command, current: string): Candidates {
  const flags = command.options
    .filter(({ hidden }) => !hidden)
    .flatMap(({ long, description }) => (long ? [{ value: long, description }] : []));
  return matching(current, [...flags, { value: '--help', description: 'show help' }]);
}

const OF_COLLECTIVE: Knowledge = { program: COLLECTIVE, argumentsOf, valuesOf };

async function argumentsOf(shell: Shell, { entry: entryName, command, before, current }: Place): Promise<Candidates> {
  if (entryName === 'completion')
    return matching(
      current,
      COMPLETION_SHELLS.map((value) => ({ value })),
    );
  if (entryName === 'config') return await contexts(shell, current);
  // The context of a certificate is named by --context; what stands alone is a path of this machine.
  if (entryName === 'auth') return command.name() === 'info' ? LOCAL_FILES : NOTHING;
  if (entryName === 'cp') {
    if (!current.startsWith(REMOTE_PREFIX)) {
      const prefix = REMOTE_PREFIX.startsWith(current) && current !== '' ? [{ value: `${REMOTE_PREFIX}/` }] : [];
      return prefix.length > 0 ? { candidates: prefix, directive: 'nospace' } : LOCAL_FILES;
    }
    const found = await completeRemotePath(shell, before, current.slice(REMOTE_PREFIX.length));
    return { ...found, candidates: found.candidates.map(({ value }) => ({ value: REMOTE_PREFIX + value })) };
  }
  if (REMOTE_COMMANDS.has(entryName) || entryName === 'trash' || entryName === 'realm')
    return await completeRemotePath(shell, before, current);
  return NOTHING;
}

async function valuesOf(shell: Shell, option: Option, before: readonly string[], current: string): Promise<Candidates> {
  switch (option.attributeName()) {
    case 'context':
      return await contexts(shell, current);
    case 'output':
      return option.description.startsWith('print as')
        ? matching(
            current,
            FORMATS.map((value) => ({ value })),
          )
        : LOCAL_FILES;
    case 'type':
      return matching(current, choices(FIND_TYPES));
    case 'sort':
      return matching(current, choices(SORT_KEYS));
    case 'logLevel':
      return matching(current, choices(LOG_LEVELS));
    case 'listener':
      return matching(current, choices(['external', 'internal']));
    case 'rights':
      return matching(current, choices(['around', 'own']));
    case 'id':
    case 'realm':
    case 'to':
      return await completeRemotePath(shell, before, current);
    case 'for':
      return {
        ...matching(
          current,
          ['user/', 'client/', 'node/'].map((value) => ({ value })),
        ),
        directive: 'nospace',
      };
    case 'credentials':
    case 'tls':
    case 'caCert':
    case 'cert':
    case 'key':
    case 'file':
    case 'config':
    case 'data':
      return LOCAL_FILES;
    default:
      return NOTHING;
  }
}

async function contexts(shell: Shell, current: string): Promise<Candidates> {
  const { ContextStore, contextLocation } = await import('@collective/client');
  const known = await new ContextStore(contextLocation(shell.env)).list();
  return matching(
    current,
    known.map(({ name, coordinator }) => ({ value: name, description: coordinator })),
  );
}

export function choices(values: readonly string[]): Candidate[] {
  return values.map((value) => ({ value }));
}

function optionOf(command: Command, word: string): Option | undefined {
  return command.options.find(({ long, short }) => word !== '' && (word === long || word === short));
}

export function matching(current: string, candidates: readonly Candidate[]): Candidates {
  return { candidates: candidates.filter(({ value }) => value.startsWith(current)) };
}
