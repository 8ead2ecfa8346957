/**
 * Every command by name, with what the list of commands says about it and how to load it. Only the command that is
 * called is loaded; this table is all that `--help` and completion of names need.
 */
import type { Command } from 'commander';
import type { Shell } from './shell.ts';

export interface CommandEntry {
  readonly name: string;
  readonly group: string;
  readonly summary: string;
  readonly hidden?: boolean;
  load(shell: Shell): Promise<Command>;
}

const MEMBER = 'Run a member';
const ACCESS = 'Contexts and access';
const FILES = 'Files';
const STATE = 'State';
const OTHER = 'Other';

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'up',
    group: MEMBER,
    summary: 'run a whole member on this machine',
    load: async (shell) => (await import('./commands/up.ts')).upCommand(shell),
  },
  {
    name: 'down',
    group: MEMBER,
    summary: 'stop a member that runs in the background',
    load: async (shell) => (await import('./commands/down.ts')).downCommand(shell),
  },
  {
    name: 'coordinator',
    group: MEMBER,
    summary: 'run a coordinator alone',
    load: async (shell) => (await import('./commands/coordinator.ts')).coordinatorCommand(shell),
  },
  {
    name: 'node',
    group: MEMBER,
    summary: 'run a storage node alone',
    load: async (shell) => (await import('./commands/node.ts')).nodeCommand(shell),
  },
  {
    name: 'compose',
    group: MEMBER,
    summary: 'make compose files, to run members as containers',
    load: async (shell) => (await import('./commands/compose.ts')).composeCommand(shell),
  },
  {
    name: 'backup',
    group: MEMBER,
    summary: 'save what the coordinator knows, check a backup, restore one',
    load: async (shell) => (await import('./commands/backup.ts')).backupCommand(shell),
  },
  {
    name: 'init',
    group: ACCESS,
    summary: 'make a context: how to reach a member, and a certificate for it',
    load: async (shell) => (await import('./commands/init.ts')).initCommand(shell),
  },
  {
    name: 'config',
    group: ACCESS,
    summary: 'list, choose and change contexts',
    load: async (shell) => (await import('./commands/config.ts')).configCommand(shell),
  },
  {
    name: 'auth',
    group: ACCESS,
    summary: 'look at, test and renew certificates',
    load: async (shell) => (await import('./commands/auth.ts')).authCommand(shell),
  },
  {
    name: 'token',
    group: ACCESS,
    summary: 'create one-time tokens that let users and nodes in',
    load: async (shell) => (await import('./commands/token.ts')).tokenCommand(shell),
  },
  {
    name: 'users',
    group: ACCESS,
    summary: 'list who is let in, and take that away',
    load: async (shell) => (await import('./commands/users.ts')).usersCommand(shell),
  },
  {
    name: 'realm',
    group: ACCESS,
    summary: 'create, change and list realms: directories with a quota and rights of their own',
    load: async (shell) => (await import('./commands/realm.ts')).realmCommand(shell),
  },
  {
    name: 'status',
    group: STATE,
    summary: 'show member, coordinator, nodes, replication and certificates',
    load: async (shell) => (await import('./commands/status.ts')).statusCommand(shell),
  },
  {
    name: 'nodes',
    group: STATE,
    summary: 'list the storage nodes',
    load: async (shell) => (await import('./commands/nodes.ts')).nodesCommand(shell),
  },
  {
    name: 'events',
    group: STATE,
    summary: 'show what happened: disks lost, chunks repaired, settings changed',
    load: async (shell) => (await import('./commands/events.ts')).eventsCommand(shell),
  },
  {
    name: 'doctor',
    group: STATE,
    summary: 'examine the member end to end and say what to do',
    load: async (shell) => (await import('./commands/doctor.ts')).doctorCommand(shell),
  },
  {
    name: 'maintenance',
    group: STATE,
    summary: 'show and change how the member looks after itself',
    load: async (shell) => (await import('./commands/maintenance.ts')).maintenanceCommand(shell),
  },
  {
    name: 'garbage',
    group: STATE,
    summary: 'see and collect what nothing names any more',
    load: async (shell) => (await import('./commands/garbage.ts')).garbageCommand(shell),
  },
  {
    name: 'usage',
    group: STATE,
    summary: 'count files and bytes below a path',
    load: async (shell) => (await import('./commands/usage.ts')).usageCommand(shell),
  },
  {
    name: 'df',
    group: STATE,
    summary: 'show the room that is left',
    load: async (shell) => (await import('./commands/df.ts')).dfCommand(shell),
  },
  {
    name: 'du',
    group: STATE,
    summary: 'show what directories occupy',
    load: async (shell) => (await import('./commands/du.ts')).duCommand(shell),
  },
  {
    name: 'verify',
    group: STATE,
    summary: 're-read every replica of files and name the bad ones',
    load: async (shell) => (await import('./commands/verify.ts')).verifyCommand(shell),
  },
  {
    name: 'cp',
    group: FILES,
    summary: 'copy files to, from and within the member',
    load: async (shell) => (await import('./commands/cp.ts')).cpCommand(shell),
  },
  {
    name: 'ls',
    group: FILES,
    summary: 'list directories',
    load: async (shell) => (await import('./commands/ls.ts')).lsCommand(shell),
  },
  {
    name: 'cat',
    group: FILES,
    summary: 'print files',
    load: async (shell) => (await import('./commands/cat.ts')).catCommand(shell),
  },
  {
    name: 'read',
    group: FILES,
    summary: 'print a part of a file',
    load: async (shell) => (await import('./commands/read.ts')).readCommand(shell),
  },
  {
    name: 'write',
    group: FILES,
    summary: 'store standard input as a file',
    load: async (shell) => (await import('./commands/write.ts')).writeCommand(shell),
  },
  {
    name: 'mkdir',
    group: FILES,
    summary: 'make directories',
    load: async (shell) => (await import('./commands/mkdir.ts')).mkdirCommand(shell),
  },
  {
    name: 'mv',
    group: FILES,
    summary: 'rename or move files and directories',
    load: async (shell) => (await import('./commands/mv.ts')).mvCommand(shell),
  },
  {
    name: 'rm',
    group: FILES,
    summary: 'remove files and directories',
    load: async (shell) => (await import('./commands/rm.ts')).rmCommand(shell),
  },
  {
    name: 'trash',
    group: FILES,
    summary: 'list, restore and destroy what was removed',
    load: async (shell) => (await import('./commands/trash.ts')).trashCommand(shell),
  },
  {
    name: 'ln',
    group: FILES,
    summary: 'make hard or symbolic links',
    load: async (shell) => (await import('./commands/ln.ts')).lnCommand(shell),
  },
  {
    name: 'chmod',
    group: FILES,
    summary: 'change permission bits',
    load: async (shell) => (await import('./commands/chmod.ts')).chmodCommand(shell),
  },
  {
    name: 'stat',
    group: FILES,
    summary: 'show everything about a path',
    load: async (shell) => (await import('./commands/stat.ts')).statCommand(shell),
  },
  {
    name: 'find',
    group: FILES,
    summary: 'find files by name, type, size or time',
    load: async (shell) => (await import('./commands/find.ts')).findCommand(shell),
  },
  {
    name: 'tree',
    group: FILES,
    summary: 'draw a directory tree',
    load: async (shell) => (await import('./commands/tree.ts')).treeCommand(shell),
  },
  {
    name: 'client',
    group: OTHER,
    summary: 'short forms: client store, client retrieve',
    load: async (shell) => (await import('./commands/client.ts')).clientCommand(shell),
  },
  {
    name: 'completion',
    group: OTHER,
    summary: 'print the completion script of bash, zsh or fish',
    load: async (shell) => (await import('./commands/completion.ts')).completionCommand(shell),
  },
  {
    name: 'version',
    group: OTHER,
    summary: 'show the versions of this program and of the coordinator',
    load: async (shell) => (await import('./commands/version.ts')).versionCommand(shell),
  },
  {
    name: '__complete',
    group: OTHER,
    summary: 'complete a command line',
    hidden: true,
    load: async (shell) => (await import('./completion/complete.ts')).completeCommand(shell),
  },
];
