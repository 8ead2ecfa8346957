/**
 * What bash, zsh and fish need to ask us: each script hands the words so far to `collective __complete` and offers what
 * comes back, one candidate a line, `value<TAB>description`. A last line `:nospace` says that a candidate goes on (a
 * directory); `:files` asks the shell to complete local files itself.
 */
import { readFile } from 'node:fs/promises';

export const COMPLETION_SHELLS = ['bash', 'zsh', 'fish'] as const;
export type CompletionShell = (typeof COMPLETION_SHELLS)[number];

export async function completionScript(shell: CompletionShell): Promise<string> {
  return await readFile(new URL(`collective.${shell}`, import.meta.url), 'utf8');
}
