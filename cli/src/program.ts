/** What a name that this program is called by stands for: `collective`, or `kubectl collective`. */
import type { Command } from 'commander';
import type { CommandEntry } from './command-table.ts';

export interface Program {
  /** As people type it. */
  readonly name: string;
  readonly description: string;
  readonly commands: readonly CommandEntry[];
  /** Last words of its own help. */
  readonly helpEnd: string;
  /** Flags that may stand before the command as well. */
  addGlobalOptions(command: Command): void;
  /** Spellings that commander would read as something else. */
  respell(argv: readonly string[]): string[];
}
