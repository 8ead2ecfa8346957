/**
 * `collective up --detach`: the same command in a process of its own session, its talk in logs/up.log. Returns when the
 * member is ready; if the process ends before, its own words are shown.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { sleep } from '@collective/base/clock';
import { FileDisk } from '@collective/base/disk/file-disk';
import { CollectiveError } from '@collective/base/errors';
import { ExitWith } from '../exit-with.ts';
import { type Shell, say, writeOut } from '../shell.ts';
import type { UpFolder } from './layout.ts';
import { readState } from './state-file.ts';

const READY_WITHIN_MS = 120_000;
const LOOK_EVERY_MS = 100;

export async function startDetached(
  shell: Shell,
  folder: UpFolder,
  args: readonly string[],
  { quiet, stopCommand }: { readonly quiet: boolean; readonly stopCommand: string },
): Promise<void> {
  await mkdir(folder.logs, { recursive: true, mode: 0o700 });
  const logPath = folder.log('up');
  // Each start begins anew: what is said here is a page, and the last start is the one that matters.
  const log = await open(logPath, 'w', 0o600);
  const child = spawn(
    process.execPath,
    [...process.execArgv, fileURLToPath(new URL('../main.ts', import.meta.url)), ...args],
    { cwd: shell.cwd, env: { ...shell.env }, detached: true, stdio: ['ignore', log.fd, log.fd] },
  );
  await log.close();
  const ended = once(child, 'exit').then(([code]) => ({ code: typeof code === 'number' ? code : 1 }));
  const disk = await FileDisk.at(folder.root);
  const startedMs = shell.clock.bootMs();
  for (;;) {
    const state = await readState(disk);
    if (state?.pid === child.pid && state?.state === 'ready') break;
    const end = await Promise.race([ended, sleep(shell.clock, LOOK_EVERY_MS, shell.signal).then(() => undefined)]);
    if (end !== undefined) {
      await writeOut(shell.stderr, await readFile(logPath, 'utf8'));
      throw new ExitWith(end.code === 0 ? 1 : end.code);
    }
    if (shell.clock.bootMs() - startedMs > READY_WITHIN_MS) {
      child.kill('SIGTERM');
      throw new CollectiveError(
        'deadline_exceeded',
        `Wait for the member in ${folder.root} to be ready; its words are in ${logPath}`,
      );
    }
  }
  child.unref();
  if (quiet) return;
  await writeOut(shell.stderr, await readFile(logPath, 'utf8'));
  await say(
    shell,
    `It runs in the background as process ${child.pid}; '${stopCommand}' stops it. Logs: ${folder.logs}`,
  );
}
