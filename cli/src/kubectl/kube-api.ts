/**
 * What the plugin asks of an apiserver: plain objects over HTTPS, as the server has them. The library's own classes would
 * drop fields that they do not know, and the Members' are such.
 *
 * Sketch: a command makes one to ten requests over one connection; the costly part is to load the library (0.2 s of CPU).
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest, type RequestOptions } from 'node:https';
import { type Clock, sleep } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { refusalError, unreachableError } from './kube-errors.ts';
import type { KubeObject, Resource } from './kube-object.ts';
import type { ClusterChoice } from './kubeconfig.ts';

export const REQUEST_WITHIN_MS = 30_000;
const PAGE = 500;
/** Of one answer: 500 objects of 1.5 MiB would be more, and are none that we ask for. */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

export interface KubeApiOptions {
  readonly cluster: ClusterChoice;
  readonly clock: Clock;
  /** 0: as long as it takes. */
  readonly requestTimeoutMs?: number;
}

export interface ListOptions {
  /** Unset: of the cluster. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** The server leaves everything out but metadata. */
  readonly metadataOnly?: boolean;
  readonly signal: AbortSignal;
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

interface Asking {
  readonly method?: 'GET' | 'PATCH';
  readonly accept?: string;
  readonly contentType?: string;
  readonly body?: string;
  readonly bytesMax?: number;
  readonly signal: AbortSignal;
}

const ONLY_METADATA = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';

export class KubeApi implements Disposable {
  readonly cluster: ClusterChoice;
  readonly #clock: Clock;
  readonly #withinMs: number;
  #agent: Agent | undefined;

  constructor({ cluster, clock, requestTimeoutMs = REQUEST_WITHIN_MS }: KubeApiOptions) {
    this.cluster = cluster;
    this.#clock = clock;
    this.#withinMs = requestTimeoutMs;
  }

  async get(resource: Resource, namespace: string, name: string, signal: AbortSignal): Promise<KubeObject> {
    const what = `Read ${resource.kind} ${namespace}/${name}`;
    return parsed(await this.#asked(what, `${pathOf(resource, namespace)}/${encodeURIComponent(name)}`, { signal }));
  }

  async find(
    resource: Resource,
    namespace: string,
    name: string,
    signal: AbortSignal,
  ): Promise<KubeObject | undefined> {
    return await this.get(resource, namespace, name, signal).catch((thrown: unknown) => {
      if (isMissingObject(thrown)) return undefined;
      throw thrown;
    });
  }

  /** All pages of it. */
  async list(resource: Resource, options: ListOptions): Promise<KubeObject[]> {
    const { namespace, labelSelector, fieldSelector, metadataOnly, signal } = options;
    const what = `List ${resource.plural}${namespace === undefined ? ' in all namespaces' : ` in namespace ${namespace}`}`;
    const found: KubeObject[] = [];
    for (let next: string | undefined = ''; next !== undefined; ) {
      const query = new URLSearchParams({ limit: String(PAGE) });
      if (labelSelector) query.set('labelSelector', labelSelector);
      if (fieldSelector) query.set('fieldSelector', fieldSelector);
      if (next !== '') query.set('continue', next);
      const accept = metadataOnly ? ONLY_METADATA : undefined;
      const answer = await this.#asked(what, `${pathOf(resource, namespace)}?${query}`, { accept, signal });
      const page = JSON.parse(answer.body.toString('utf8')) as Page;
      // Items of a list do not say what they are.
      const { apiVersion, kind } = resource;
      for (const item of page.items ?? []) found.push({ ...item, apiVersion, kind });
      next = page.metadata?.continue || undefined;
    }
    return found;
  }

  /** A merge patch; with a resourceVersion in it, `busy` when the object is another by now. */
  async patch(resource: Resource, object: KubeObject, change: object, signal: AbortSignal): Promise<KubeObject> {
    const { name, namespace = '' } = object.metadata;
    return parsed(
      await this.#asked(`Change ${resource.kind} ${namespace}/${name}`, `${pathOf(resource, namespace)}/${name}`, {
        method: 'PATCH',
        contentType: 'application/merge-patch+json',
        body: JSON.stringify(change),
        signal,
      }),
    );
  }

  /** Any path that answers text, as logs do. */
  async text(what: string, path: string, signal: AbortSignal, bytesMax?: number): Promise<string> {
    return (await this.#asked(what, path, { accept: '*/*', signal, bytesMax })).body.toString('utf8');
  }

  /** What a connection to the apiserver needs: address, certificates, headers. Credential plugins run here. */
  async connectionOptions(path: string): Promise<{ readonly url: URL; readonly options: RequestOptions }> {
    const { config, server, context } = this.cluster;
    const options: RequestOptions = {};
    try {
      await config.applyToHTTPSOptions(options as Parameters<typeof config.applyToHTTPSOptions>[0]);
    } catch (cause) {
      const user = config.getCurrentUser();
      const by = user?.exec?.command ? ` by '${user.exec.command}'` : '';
      throw new CollectiveError(
        'unauthenticated',
        `Get credentials of user '${user?.name}' of context '${context}'${by}`,
        {
          cause,
          todo: "See whether 'kubectl get pods' works: it asks for the same credentials.",
        },
      );
    }
    // The library's agent closes its connection after each request; where it leads through a proxy it stays.
    if (!config.getCurrentCluster()?.proxyUrl && server.startsWith('https:')) {
      const { ca, cert, key, servername, rejectUnauthorized } = options;
      this.#agent ??= new Agent({ keepAlive: true, ca, cert, key, servername, rejectUnauthorized });
      options.agent = this.#agent;
    }
    return { url: new URL(`${server}${path}`), options };
  }

  [Symbol.dispose](): void {
    this.#agent?.destroy();
  }

  async #asked(what: string, path: string, asking: Asking): Promise<Answer> {
    const answer = await this.#within(what, asking.signal, (signal) => this.#ask(what, path, { ...asking, signal }));
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw refusalError(what, { ...refusalOf(answer.body), status: answer.status });
  }

  async #within<T>(what: string, signal: AbortSignal, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    if (this.#withinMs === 0) return await act(signal);
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const tooLate = sleep(this.#clock, this.#withinMs, either).then(() => {
      throw new CollectiveError('deadline_exceeded', `${what}: no answer within ${formatDurationMs(this.#withinMs)}`, {
        todo: "--request-timeout gives it more; see whether 'kubectl cluster-info' works.",
      });
    });
    try {
      return await Promise.race([act(either), tooLate]);
    } finally {
      stop.abort();
      tooLate.catch(() => undefined);
    }
  }

  async #ask(what: string, path: string, asking: Asking): Promise<Answer> {
    const { method = 'GET', accept = 'application/json', contentType, body, signal } = asking;
    const { bytesMax = ANSWER_BYTES_MAX } = asking;
    const { url, options } = await this.connectionOptions(path);
    const request = url.protocol === 'http:' ? httpRequest : httpsRequest;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const headers = {
      ...options.headers,
      accept,
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
    };
    const asked = request(url, { ...options, method, headers, signal });
    asked.once('error', (cause: unknown) =>
      reject(signal.aborted ? signal.reason : unreachableError(what, this.cluster.server, cause)),
    );
    asked.once('response', (response: IncomingMessage) => {
      const pieces: Buffer[] = [];
      let bytes = 0;
      response.on('data', (piece: Buffer) => {
        bytes += piece.length;
        if (bytes <= bytesMax) pieces.push(piece);
        else response.destroy(new Error(`the answer has more than ${bytesMax} bytes`));
      });
      response.once('error', (cause) =>
        reject(signal.aborted ? signal.reason : unreachableError(what, this.cluster.server, cause)),
      );
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces) }));
    });
    asked.end(body);
    return await promise;
  }
}

interface Page {
  readonly metadata?: { readonly continue?: string };
  readonly items?: readonly KubeObject[] | null;
}

function pathOf({ apiVersion, plural }: Resource, namespace?: string): string {
  const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  return `${base}${namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`}/${plural}`;
}

function parsed(answer: Answer): KubeObject {
  return JSON.parse(answer.body.toString('utf8')) as KubeObject;
}

/** A Status object, or what a proxy in between has to say. */
function refusalOf(body: Buffer): { reason?: string; message?: string } {
  const text = body.toString('utf8');
  try {
    const { reason, message } = JSON.parse(text) as { reason?: string; message?: string };
    return { reason, message };
  } catch {
    return { message: text.trim().slice(0, 200) || undefined };
  }
}

/** There is no such object, though its kind is known. */
function isMissingObject(thrown: unknown): boolean {
  return isRefused(thrown, 404) && thrown.details.unknownKind === undefined;
}

/** The apiserver answered, and so. */
export function isRefused(thrown: unknown, ...statuses: readonly number[]): thrown is CollectiveError {
  return thrown instanceof CollectiveError && statuses.includes(Number(thrown.details.status));
}
