/**
 * Logs are events: a constant message, facts in fields, one line a state change, the hot path silent. One JSON object a
 * line on stderr (stdout belongs to data). What could be a secret is cut out by name before it is written, so that a
 * careless field costs a line of log and not a key.
 */
import { type DestinationStream, destination, pino } from 'pino';
import { CollectiveError, errorChain } from './errors/index.ts';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type LogFields = Readonly<Record<string, unknown>>;

/** Fields first, then the event: `log.info({ node, disk }, 'node registered')`. An error goes into the field `err`. */
export interface Log {
  debug(fields: LogFields, event: string): void;
  info(fields: LogFields, event: string): void;
  warn(fields: LogFields, event: string): void;
  error(fields: LogFields, event: string): void;
  fatal(fields: LogFields, event: string): void;
  /** A log whose lines all carry these fields. */
  child(fields: LogFields): Log;
}

/** Lines that wait to be written; more are dropped. */
const HELD_BYTES_MAX = 1024 * 1024;
/** Field names whose values never reach a log, also one object further in. */
const SECRET_FIELDS = [
  'token',
  'ticket',
  'ticketKey',
  'key',
  'keyPem',
  'privateKey',
  'secret',
  'password',
  'csr',
  'authorization',
] as const;

export interface LogOptions {
  /** Which program speaks, e.g. `coordinator`. */
  readonly program: string;
  readonly level?: LogLevel;
  /** Default: stderr, written at once, so that the last line before a crash is there. */
  readonly destination?: DestinationStream;
  readonly fields?: LogFields;
}

export function createLog({ program, level = 'info', destination: to, fields = {} }: LogOptions): Log {
  return pino(
    {
      level,
      base: { program, pid: process.pid, ...fields },
      messageKey: 'event',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
      redact: { paths: SECRET_FIELDS.flatMap((name) => [name, `*.${name}`]), censor: '[cut out]' },
    },
    to ?? standardError(),
  );
}

/** What cannot be written now (a full disk) is held and written later; the program does not end for it. */
function standardError(): DestinationStream {
  const stderr = destination({ dest: 2, sync: true, maxLength: HELD_BYTES_MAX });
  stderr.on('error', ignore);
  return stderr;
}

/** For tests and for parts that run where nobody listens. */
export const silentLog: Log = {
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
  fatal: ignore,
  child: () => silentLog,
};

function ignore(): void {
  // A silent log keeps nothing.
}

function describeError(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return { message: String(thrown) };
  return {
    ...(thrown instanceof CollectiveError ? { code: thrown.code, details: thrown.details } : {}),
    chain: errorChain(thrown),
    // Expected errors carry a code and need no stack; for the others the stack is what leads to the defect.
    ...(thrown instanceof CollectiveError && thrown.code !== 'internal' ? {} : { stack: thrown.stack }),
  };
}
