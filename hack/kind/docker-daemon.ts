// Makes sure that a docker runs which can start kind's nodes. One that runs already is taken as it is; where none runs, one
// is started, with settings of its own and nothing written into /etc.

import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { docker, labFolder, run } from './lab.ts';

const CAP_SYS_RESOURCE = 24n;
const UP_WITHIN_MS = 60_000;
const ASK_EVERY_MS = 250;
const RUNTIME = 'runc-fit';

export async function ensureDocker(say: (line: string) => void): Promise<void> {
  const runtime = await defaultRuntime();
  if (runtime === undefined) {
    await startDaemon(say);
  } else if (needsFittingRuntime() && runtime !== RUNTIME) {
    throw new Error(
      `This machine grants no CAP_SYS_RESOURCE, so the docker that runs (runtime ${runtime}) can start no node: stop it, and this program starts one that can`,
    );
  }
}

export async function dockerAnswers(): Promise<boolean> {
  return (await defaultRuntime()) !== undefined;
}

/** The lab's own docker only; one that somebody else started is left alone. */
export function stopDocker(): boolean {
  if (!existsSync(pidFile())) return false;
  const pid = Number(readFileSync(pidFile(), 'utf8'));
  const commandLine = `/proc/${pid}/cmdline`;
  if (!existsSync(commandLine) || !readFileSync(commandLine, 'utf8').includes(pidFile())) return false;
  return process.kill(pid, 'SIGTERM');
}

async function startDaemon(say: (line: string) => void): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new Error(
      'docker does not answer this user, and only root can start one: run "sudo hack/node hack/kind/prepare-host.ts" once, and be in the group "docker" (or use sudo here too)',
    );
  }
  const known = await run('sh', ['-c', 'command -v dockerd iptables runc'], { mayFail: true });
  if (known.failed) {
    throw new Error('docker does not run and cannot be started: install it ("apt-get install docker.io iptables")');
  }
  const arguments_ = ['--storage-driver=overlay2', `--pidfile=${pidFile()}`];
  if (needsFittingRuntime()) {
    const wrapper = join(labFolder(), RUNTIME);
    copyFileSync(join(import.meta.dirname, 'image/runc-fit.sh'), wrapper);
    chmodSync(wrapper, 0o755);
    arguments_.push(`--add-runtime=${RUNTIME}=${wrapper}`, `--default-runtime=${RUNTIME}`);
  }
  const logFile = join(labFolder(), 'dockerd.log');
  writeFileSync(logFile, '');
  const log = openSync(logFile, 'a');
  say(`starting dockerd, its log is ${logFile}`);
  const daemon = spawn('dockerd', arguments_, { detached: true, stdio: ['ignore', log, log] });
  daemon.unref();
  let end: string | undefined;
  daemon.once('error', (error) => {
    end = error.message;
  });
  daemon.once('exit', (code, signal) => {
    end = `it ended with ${code ?? signal}`;
  });
  const deadline = AbortSignal.timeout(UP_WITHIN_MS);
  while ((await defaultRuntime()) === undefined) {
    if (end !== undefined || deadline.aborted) {
      throw new Error(
        `docker does not answer: ${end ?? 'no time left'}\n${readFileSync(logFile, 'utf8').slice(-2_000)}`,
      );
    }
    await sleep(ASK_EVERY_MS);
  }
}

async function defaultRuntime(): Promise<string | undefined> {
  const asked = await docker(['info', '--format', '{{.DefaultRuntime}}'], { mayFail: true });
  const runtime = String(asked.stdout ?? '').trim();
  return asked.failed || runtime === '' ? undefined : runtime;
}

function needsFittingRuntime(): boolean {
  const bounding = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  return ((BigInt(`0x${bounding}`) >> CAP_SYS_RESOURCE) & 1n) === 0n;
}

function pidFile(): string {
  return join(labFolder(), 'dockerd.pid');
}
