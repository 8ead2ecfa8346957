/**
 * The world of one invocation: streams, environment, clock and the signal that ends it. Commands take it as an argument,
 * so that tests run them in-process with streams of their own and nothing global is touched.
 */
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '@collective/base/clock';
import { localError } from './local-error.ts';
import { isPipeClosed } from './output/pipe-closed.ts';

export interface Shell {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  /** Data only. */
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  /** Talk only: progress, warnings, errors, hints. */
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly clock: Clock;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** For servers, whose stop has an order and a deadline of its own: from now on signals are theirs. */
  releaseSignals(): void;
}

/** Writes and waits while the reader is slow, so that `cat` of a large file into a slow pipe stays small in memory. */
export async function writeOut(stream: Writable, data: string | Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    stream.write(data, (error) => {
      if (error === undefined || error === null) resolve();
      else reject(outputError(error));
    });
  });
}

/** A reader that stops early is known by its own error; all else is told as what it is. */
export function outputError(error: unknown): unknown {
  return isPipeClosed(error) ? error : localError('Write the output', error);
}

export async function say(shell: Shell, line: string): Promise<void> {
  await writeOut(shell.stderr, `${line}\n`);
}
