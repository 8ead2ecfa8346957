/**
 * A watch's answer, piece by piece as it arrives, into events. No I/O: bytes in, events out. One event is one line of JSON; a
 * line longer than any object may be is an error, so that a broken server costs a watch and not the memory.
 */
import type { WatchEvent } from './kube-api.ts';
import { KubeError, NO_ANSWER } from './kube-error.ts';
import type { KubeObject } from './kube-object.ts';

/** etcd holds objects of 1.5 MiB; as JSON with managed fields they may be some times larger. */
export const WATCH_LINE_BYTES_MAX = 16 * 1024 * 1024;
const NEWLINE = 0x0a;

export class WatchLines {
  readonly #what: string;
  #pieces: Buffer[] = [];
  #heldBytes = 0;

  constructor(what: string) {
    this.#what = what;
  }

  /** The events that end within this piece. An ERROR event, e.g. 410, is thrown once those before it were taken. */
  *take(piece: Buffer): Generator<WatchEvent, void, void> {
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end !== -1; end = piece.indexOf(NEWLINE, from)) {
      const line = Buffer.concat([...this.#pieces, piece.subarray(from, end)]);
      this.#pieces = [];
      this.#heldBytes = 0;
      from = end + 1;
      if (line.length > 0) yield this.#event(line);
    }
    const rest = piece.subarray(from);
    if (rest.length === 0) return;
    this.#heldBytes += rest.length;
    if (this.#heldBytes > WATCH_LINE_BYTES_MAX)
      throw this.#unreadable(`an event of over ${WATCH_LINE_BYTES_MAX} bytes`);
    this.#pieces.push(rest);
  }

  #event(line: Buffer): WatchEvent {
    const { type, object } = this.#parse(line);
    if (type === 'ERROR') throw statusError(this.#what, object);
    const resourceVersion = object.metadata?.resourceVersion;
    if (resourceVersion === undefined) throw this.#unreadable(`an event ${type} without a version`);
    if (type === 'BOOKMARK') return { type, resourceVersion };
    if (type !== 'ADDED' && type !== 'MODIFIED' && type !== 'DELETED') throw this.#unreadable(`an event ${type}`);
    return { type, object };
  }

  #parse(line: Buffer): { type: string; object: KubeObject } {
    let parsed: unknown;
    try {
      parsed = JSON.parse(line.toString('utf8'));
    } catch (thrown) {
      throw this.#unreadable('a line that is not JSON', thrown);
    }
    const { type, object } = (parsed ?? {}) as { type?: unknown; object?: unknown };
    if (typeof type !== 'string' || typeof object !== 'object' || object === null) throw this.#unreadable('no event');
    return { type, object: object as KubeObject };
  }

  #unreadable(message: string, cause?: unknown): KubeError {
    return new KubeError(this.#what, { status: 0, reason: NO_ANSWER.unreadable, message, cause });
  }
}

/** A `Status` object of the API, as an error. */
export function statusError(what: string, told: object, retryAfterMs?: number): KubeError {
  const { code = 500, reason = 'Unknown', message, details = {} } = told as Status;
  const { retryAfterSeconds } = details;
  const afterMs = retryAfterMs ?? (retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1000);
  return new KubeError(what, {
    status: code,
    reason,
    ...(message === undefined ? {} : { message }),
    ...(afterMs === undefined ? {} : { retryAfterMs: afterMs }),
    // What is missing by name is named; a path that is unknown as a whole names nothing.
    ...(code === 404 ? { missing: details.name === undefined ? 'kind' : 'object' } : {}),
  });
}

interface Status {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly name?: string; readonly retryAfterSeconds?: number };
}
