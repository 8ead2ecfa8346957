/** A shell in memory for tests: what a command prints is text afterwards. */
import { PassThrough, Readable, Writable } from 'node:stream';
import type { Clock } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import type { Shell } from './shell.ts';

export interface TestShell extends Shell {
  out(): string;
  err(): string;
}

export interface TestShellOptions {
  readonly env?: Record<string, string>;
  readonly stdin?: string | Buffer;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
  readonly cwd?: string;
}

export function testShell(options: TestShellOptions = {}): TestShell {
  const stdout = new Kept(options);
  const stderr = new Kept(options);
  const stdin = options.stdin === undefined ? new PassThrough().end() : Readable.from([Buffer.from(options.stdin)]);
  return {
    stdin,
    stdout,
    stderr,
    env: options.env ?? {},
    cwd: options.cwd ?? process.cwd(),
    clock: options.clock ?? new SystemClock(),
    signal: options.signal ?? new AbortController().signal,
    releaseSignals: () => undefined,
    out: () => stdout.text,
    err: () => stderr.text,
  };
}

class Kept extends Writable {
  readonly isTTY: boolean;
  readonly columns: number;
  text = '';

  constructor({ isTTY = false, columns = 100 }: TestShellOptions) {
    super({ decodeStrings: true });
    this.isTTY = isTTY;
    this.columns = columns;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}
