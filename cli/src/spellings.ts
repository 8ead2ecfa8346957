/**
 * Spellings that people have in their fingers and commander would read as something else: find's `-name` would be `-n ame`,
 * chmod's `-x` an unknown flag, `help config use-context` the help of `config`.
 */
import { COMMANDS } from './command-table.ts';

/** Flags of every command that take a value as the next word. */
const WITH_VALUE = new Set(['--context', '--coordinator', '-o', '--output', '--timeout']);
const FIND_CONDITION = /^-(name|iname|path|type|size|empty|maxdepth|mindepth|print0)$/;
const TAKEN_BITS = /^-[rwxXst]+$/;

export function withLongSpellings(argv: readonly string[]): string[] {
  const at = commandIndex(argv);
  const command = argv[at];
  const rest = argv.slice(at + 1);
  const [asked] = rest;
  if (command === 'help' && asked !== undefined) {
    return COMMANDS.some(({ name }) => name === asked) ? [...argv.slice(0, at), ...rest, '--help'] : rest;
  }
  const end = rest.indexOf('--') < 0 ? rest.length : rest.indexOf('--');
  const respell = (spell: (word: string) => string): string[] => [
    ...argv.slice(0, at + 1),
    ...rest.map((word, i) => (i < end ? spell(word) : word)),
  ];
  if (command === 'find') return respell((word) => (FIND_CONDITION.test(word) ? `-${word}` : word));
  if (command === 'chmod') return respell((word) => (TAKEN_BITS.test(word) ? `a${word}` : word));
  return [...argv];
}

function commandIndex(argv: readonly string[]): number {
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? '';
    if (WITH_VALUE.has(word)) i++;
    else if (!word.startsWith('-')) return i;
  }
  return argv.length;
}
