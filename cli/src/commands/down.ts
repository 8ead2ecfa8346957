/** `collective down`: stops a member that `collective up` runs, and returns when all of it has stopped. */

import { sleep } from '@collective/base/clock';
import { FileDisk } from '@collective/base/disk/file-disk';
import { CollectiveError } from '@collective/base/errors';
import type { Command } from 'commander';
import { type Shell, say } from '../shell.ts';
import { readState } from '../up/state-file.ts';
import { globalOptions, IDLE_WITHOUT_DATA, verb } from '../verb.ts';
import { addUpOptions, type UpCommandOptions, upFolder } from './up.ts';

/** `up` gives its parts five seconds. */
const STOP_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 50;

export function downCommand(shell: Shell): Command {
  return addUpOptions(
    verb('down', {
      summary: 'stop a member that runs in the background',
      description: 'Its data stays; the next start finds it.',
      examples: [
        { line: 'collective down', says: 'the member called like you' },
        { line: 'collective down --member alice', says: 'another one' },
        { line: 'collective down --data /mnt/disk/alice', says: 'the one in this folder' },
      ],
      idle: IDLE_WITHOUT_DATA,
    }),
  ).action(async (options: UpCommandOptions, command: Command) => {
    const { quiet } = globalOptions(command);
    const folder = upFolder(shell, options);
    const tell = async (line: string): Promise<void> => {
      if (!quiet) await say(shell, line);
    };
    const disk = await FileDisk.at(folder.root);
    if (await isFree(disk)) return await tell(`Nothing runs in ${folder.root}.`);
    const state = await readState(disk);
    if (state === undefined) {
      throw new CollectiveError(
        'busy',
        `Stop what runs in ${folder.root}: it has just begun or does not say its process id`,
      );
    }
    process.kill(state.pid, 'SIGTERM');
    const startedMs = shell.clock.bootMs();
    while (!(await isFree(disk))) {
      if (shell.clock.bootMs() - startedMs > STOP_WITHIN_MS) {
        throw new CollectiveError('deadline_exceeded', `Stop process ${state.pid} in ${folder.root}: it still runs`);
      }
      await sleep(shell.clock, LOOK_EVERY_MS, shell.signal);
    }
    await tell(`Stopped ${state.member}.${state.collective}.`);
  });
}

/** The lock tells who runs, whatever process ids have become. */
async function isFree(disk: FileDisk): Promise<boolean> {
  try {
    const lock = await disk.lock('');
    await lock.release();
    return true;
  } catch (thrown) {
    if (thrown instanceof CollectiveError && thrown.code === 'data_in_use') return false;
    throw thrown;
  }
}
