/** `collective`: a member as its users and administrators see it, whatever it runs on. */
import { COMMANDS } from './command-table.ts';
import type { Program } from './program.ts';
import { withLongSpellings } from './spellings.ts';
import { addGlobalOptions } from './verb.ts';

export const COLLECTIVE: Program = {
  name: 'collective',
  description: 'One shared file space over storage that each member owns',
  commands: COMMANDS,
  helpEnd: `Remote paths begin with '/'; cp tells them from local ones by the prefix 'collective:'.
'collective COMMAND --help' shows flags and examples of a command.`,
  addGlobalOptions: (command) => addGlobalOptions(command),
  respell: withLongSpellings,
};
