/**
 * `collective` as a process: real streams, signals and the exit code. Ctrl-C asks the command to end in order; a
 * second one ends it at once. Servers handle signals themselves (their stop has a deadline of its own).
 */
import { SystemClock } from '@collective/base/system-clock';
import { EXIT_INTERRUPTED, EXIT_PIPE_CLOSED } from './output/errors.ts';
import { isPipeClosed } from './output/pipe-closed.ts';
import type { Program } from './program.ts';
import { run } from './run.ts';
import { outputError, type Shell } from './shell.ts';

export async function runProcess(program?: Program): Promise<never> {
  const interrupted = new AbortController();
  const onSignal = (): void => {
    if (interrupted.signal.aborted) process.exit(EXIT_INTERRUPTED);
    interrupted.abort(new DOMException('Interrupted', 'AbortError'));
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);

  // Writes report their own errors; without a listener a closed pipe would be an exception that nobody can catch.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      if (isPipeClosed(error)) process.exitCode = EXIT_PIPE_CLOSED;
      interrupted.abort(outputError(error));
    });
  }

  const shell: Shell = {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    clock: new SystemClock(),
    signal: interrupted.signal,
    releaseSignals: () => {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };

  const exitCode = await run(process.argv.slice(2), shell, program);
  process.exitCode = process.exitCode === undefined ? exitCode : Math.max(exitCode, Number(process.exitCode));
  // Sessions are closed by now; what may linger (an idle pool, a pipe on stdin) must not keep a command from ending.
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  return process.exit();
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => stream.write('', () => resolve()));
}
