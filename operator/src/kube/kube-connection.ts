/**
 * One request to an apiserver and its answer, over connections that are kept. An edge: only here is `node:https`. A request
 * ends with its signal or its deadline, whatever the network does; the connection of one that ended so is not used again.
 *
 * A peer that is gone without a word is noticed by TCP keepalive (30 s idle, then probes each second, as Node sets them),
 * also below a watch that has nothing to say.
 */
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import type { Clock } from '@collective/base/clock';
import type { CredentialSource, KubeCredentials } from './kube-access.ts';
import { KubeError, NO_ANSWER, noAnswer } from './kube-error.ts';

const KEEPALIVE_AFTER_MS = 30_000;
/** Of calls: those above the bound wait, within their deadlines. */
const CALL_CONNECTIONS_MAX = 64;
/** A watch has one for itself for minutes, so they are counted apart: watches must never keep calls from being made. */
const WATCH_CONNECTIONS_MAX = 4_096;
const IDLE_CONNECTIONS_MAX = 8;
/** A page of objects, each of at most 1.5 MiB. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

export interface KubeRequest {
  /** For errors. */
  readonly what: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly body?: object;
  readonly contentType?: string;
}

export interface KubeAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

interface Agents {
  /** The fingerprint of what their connections were made with. */
  readonly of: string;
  readonly calls: Agent;
  readonly watches: Agent;
}

export interface KubeConnectionOptions {
  readonly access: CredentialSource;
  readonly clock: Clock;
  readonly userAgent: string;
}

export class KubeConnection implements Disposable {
  readonly #access: CredentialSource;
  readonly #clock: Clock;
  readonly #userAgent: string;
  #agents: Agents | undefined;
  readonly #fingerprints = new WeakMap<KubeCredentials, string>();

  constructor({ access, clock, userAgent }: KubeConnectionOptions) {
    this.#access = access;
    this.#clock = clock;
    this.#userAgent = userAgent;
  }

  /** The whole answer, whatever its status; `KubeError` when there is none. */
  async exchange(asked: KubeRequest, deadlineMs: number, signal?: AbortSignal): Promise<KubeAnswer> {
    using limit = new Limit(asked.what, this.#clock, deadlineMs, signal);
    const response = await this.#ask(asked, 'calls', limit);
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      text: await readText(asked, response, limit),
    };
  }

  /**
   * The head of a good answer within the deadline; its body comes as long as the signal lets it, and whoever gets it destroys it.
   * Of any other answer all of it within the deadline.
   */
  async open(asked: KubeRequest, deadlineMs: number, signal?: AbortSignal): Promise<IncomingMessage | KubeAnswer> {
    using limit = new Limit(asked.what, this.#clock, deadlineMs, signal);
    const response = await this.#ask(asked, 'watches', limit);
    const { statusCode: status = 0, headers } = response;
    if (status !== 200) return { status, headers, text: await readText(asked, response, limit) };
    // Whoever reads it is told; until then nobody listens, and an error without a listener would end the process.
    response.on('error', () => undefined);
    return response;
  }

  [Symbol.dispose](): void {
    this.#agents?.calls.destroy();
    this.#agents?.watches.destroy();
  }

  /** Credentials that were refused are read once more: they may have been replaced. */
  async #ask(asked: KubeRequest, over: 'calls' | 'watches', limit: Limit): Promise<IncomingMessage> {
    const credentials = await this.#credentials(asked);
    const response = await this.#send(asked, { credentials, over }, limit);
    if (response.statusCode !== 401) return response;
    const others = await this.#credentials(asked, credentials);
    if (this.#same(others, credentials)) return response;
    response.destroy();
    return await this.#send(asked, { credentials: others, over }, limit);
  }

  async #credentials({ what }: KubeRequest, refused?: KubeCredentials): Promise<KubeCredentials> {
    try {
      return await this.#access.credentials(refused);
    } catch (thrown) {
      throw noAnswer(`${what}: read credentials`, thrown, false);
    }
  }

  #send(
    asked: KubeRequest,
    { credentials, over }: { credentials: KubeCredentials; over: 'calls' | 'watches' },
    limit: Limit,
  ): Promise<IncomingMessage> {
    const { what, method, path, body, contentType = 'application/json' } = asked;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const base = this.#access.server.pathname.replace(/\/$/, '');
    const asking = request({
      host: this.#access.server.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: this.#access.server.port === '' ? 443 : Number(this.#access.server.port),
      path: `${base}${path}`,
      method,
      agent: this.#agentsFor(credentials)[over],
      headers: {
        ...credentials.headers,
        accept: 'application/json',
        'user-agent': this.#userAgent,
        ...(sent === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(sent) }),
      },
    });
    let connected = false;
    asking.once('socket', (socket) => {
      // Over a connection that was kept the server may have read what was sent.
      if (asking.reusedSocket) connected = true;
      else {
        socket.once('secureConnect', () => {
          connected = true;
        });
      }
    });
    asking.on('error', (thrown) => reject(limit.error ?? noAnswer(what, thrown, connected)));
    asking.once('response', resolve);
    limit.onEnd((error) => asking.destroy(error));
    asking.end(sent);
    return promise;
  }

  /** Connections belong to a CA and a client certificate; tokens may change over the same ones. */
  #agentsFor(credentials: KubeCredentials): Agents {
    const of = this.#fingerprint(credentials);
    if (this.#agents?.of === of) return this.#agents;
    // Those in use end with their requests.
    for (const agent of [this.#agents?.calls, this.#agents?.watches]) {
      for (const socket of Object.values(agent?.freeSockets ?? {}).flat()) socket?.destroy();
    }
    // `keepAliveMsecs` is when probes begin, on connections in use too (seen with ss).
    const keeping = { keepAlive: true, keepAliveMsecs: KEEPALIVE_AFTER_MS, maxFreeSockets: IDLE_CONNECTIONS_MAX };
    const options = { ...credentials.tls, ...keeping };
    this.#agents = {
      of,
      calls: new Agent({ ...options, maxSockets: CALL_CONNECTIONS_MAX }),
      watches: new Agent({ ...options, maxSockets: WATCH_CONNECTIONS_MAX }),
    };
    return this.#agents;
  }

  #same(a: KubeCredentials, b: KubeCredentials): boolean {
    return JSON.stringify(a.headers) === JSON.stringify(b.headers) && this.#fingerprint(a) === this.#fingerprint(b);
  }

  #fingerprint(credentials: KubeCredentials): string {
    const known = this.#fingerprints.get(credentials);
    if (known !== undefined) return known;
    const made = createHash('sha256').update(JSON.stringify(credentials.tls)).digest('base64');
    this.#fingerprints.set(credentials, made);
    return made;
  }
}

/** What ends a request early: the caller's signal, or the deadline. */
class Limit implements Disposable {
  readonly #signal: AbortSignal | undefined;
  readonly #cancel: () => void;
  readonly #enders: ((error: Error) => void)[] = [];
  #error: Error | undefined;

  constructor(what: string, clock: Clock, deadlineMs: number, signal?: AbortSignal) {
    signal?.throwIfAborted();
    const timer = clock.setTimer(deadlineMs, () => {
      const message = `none in ${deadlineMs} ms`;
      this.#end(new KubeError(what, { status: 0, reason: NO_ANSWER.timeout, message }));
    });
    this.#cancel = () => timer.cancel();
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Why the request was ended. */
  get error(): Error | undefined {
    return this.#error;
  }

  onEnd(ender: (error: Error) => void): void {
    this.#enders.push(ender);
    if (this.#error !== undefined) ender(this.#error);
  }

  [Symbol.dispose](): void {
    this.#cancel();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#enders.length = 0;
  }

  readonly #onAbort = (): void => this.#end(abortError(this.#signal));

  #end(error: Error): void {
    this.#error ??= error;
    for (const ender of this.#enders) ender(this.#error);
  }
}

/** What was given to abort(), which is thrown to the caller as it is. */
export function abortError(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error('Aborted', { cause: reason });
}

async function readText({ what }: KubeRequest, response: IncomingMessage, limit: Limit): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  limit.onEnd((error) => response.destroy(error));
  try {
    for await (const piece of response as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > ANSWER_BYTES_MAX) {
        const message = `over ${ANSWER_BYTES_MAX} bytes`;
        throw new KubeError(what, { status: 0, reason: NO_ANSWER.unreadable, message });
      }
      pieces.push(piece);
    }
  } catch (thrown) {
    throw limit.error ?? noAnswer(what, thrown, true);
  }
  return Buffer.concat(pieces).toString('utf8');
}
