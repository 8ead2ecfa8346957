/** `kubectl collective`: members as the operator of a cluster runs them. What kubectl does already is not repeated. */
import type { CommandEntry } from '../command-table.ts';
import type { Program } from '../program.ts';
import { addKubeOptions } from './kube-verb.ts';

const LOOK = 'Look';
const CHANGE = 'Change';
const USE = 'Use and mend';

const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'status',
    group: LOOK,
    summary: 'show how members are, and why',
    load: async (shell) => (await import('./commands/status.ts')).statusCommand(shell),
  },
  {
    name: 'members',
    group: LOOK,
    summary: 'list members: health, nodes, room, authority, first expiry',
    load: async (shell) => (await import('./commands/members.ts')).membersCommand(shell),
  },
  {
    name: 'tree',
    group: LOOK,
    summary: 'draw Collectives, members and what they are made of',
    load: async (shell) => (await import('./commands/tree.ts')).treeCommand(shell),
  },
  {
    name: 'certs',
    group: LOOK,
    summary: 'show authorities and certificates of members, and when they end',
    load: async (shell) => (await import('./commands/certs.ts')).certsCommand(shell),
  },
  {
    name: 'backups',
    group: LOOK,
    summary: 'list the scheduled backups of a member that are kept',
    load: async (shell) => (await import('./commands/backups.ts')).backupsCommand(shell),
  },
  {
    name: 'rotate-ca',
    group: CHANGE,
    summary: 'replace the authority of a member by a new one, without an outage',
    load: async (shell) => (await import('./commands/rotate-ca.ts')).rotateCaCommand(shell),
  },
  {
    name: 'drain',
    group: CHANGE,
    summary: 'have storage nodes emptied and removed',
    load: async (shell) => (await import('./commands/drain.ts')).drainCommand(shell),
  },
  {
    name: 'restore',
    group: CHANGE,
    summary: "bring a member's metadata back from a backup, once their volume is lost",
    load: async (shell) => (await import('./commands/restore.ts')).restoreCommand(shell),
  },
  {
    name: 'context',
    group: USE,
    summary: "make contexts for 'collective' from members",
    load: async (shell) => (await import('./commands/context.ts')).contextCommand(shell),
  },
  {
    name: 'debug',
    group: USE,
    summary: 'gather what somebody needs who is to help',
    load: async (shell) => (await import('./commands/debug.ts')).debugCommand(shell),
  },
  {
    name: '__complete',
    group: LOOK,
    summary: 'complete a command line',
    hidden: true,
    load: async (shell) => (await import('./kubectl-complete.ts')).kubectlCompleteCommand(shell, KUBECTL_COLLECTIVE),
  },
];

export const KUBECTL_COLLECTIVE: Program = {
  name: 'kubectl collective',
  description: 'Members of a Collective in a cluster',
  commands: COMMANDS,
  helpEnd: `Members are made and changed by 'kubectl apply'; 'collective' works with the files in them.
'kubectl collective COMMAND --help' shows flags and examples of a command.`,
  addGlobalOptions: addKubeOptions,
  respell: (argv) => [...argv],
};
