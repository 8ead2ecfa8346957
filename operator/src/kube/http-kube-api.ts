/**
 * The port to the apiserver as HTTPS calls: raw JSON objects, so that no field is lost that a typed client does not know. All
 * writes carry one field manager; each call has a deadline, and is made again only where that is safe (`retry-policy.ts`).
 *
 * A watch ends by the server's hand after 5 to 10 minutes. It is alive as long as bytes come: bookmarks about each minute. One
 * that is silent for longer is cut from here, so that a connection that is dead but open costs minutes and no event.
 */
import type { IncomingMessage } from 'node:http';
import { type Clock, sleep } from '@collective/base/clock';
import type { Log } from '@collective/base/log';
import { type Random, randomUnit, SystemRandom } from '@collective/base/random';
import { FIELD_MANAGER } from '../api/group.ts';
import type { CredentialSource } from './kube-access.ts';
import type { CallOptions, KubeApi, Listed, ListOptions, WatchEvent, WatchOptions } from './kube-api.ts';
import { abortError, type KubeAnswer, KubeConnection, type KubeRequest } from './kube-connection.ts';
import { isKubeError, KubeError, NO_ANSWER, noAnswer } from './kube-error.ts';
import type { KubeObject, ObjectReference, ResourceKind } from './kube-object.ts';
import { collectionPath, describeReference, objectPath } from './resource-path.ts';
import { parseRetryAfter, retryDelayMs } from './retry-policy.ts';
import { ServerWarnings } from './server-warnings.ts';
import { statusError, WatchLines } from './watch-lines.ts';

/** Of one try; slow webhooks may take 10 s each. */
const ANSWER_WITHIN_MS = 30_000;
/** A page may hold much. */
const PAGE_WITHIN_MS = 60_000;
const PAGE_OBJECTS = 500;
const WATCH_SECONDS_MIN = 300;
/** Beyond three bookmarks that did not come. */
const WATCH_SILENT_MS_MAX = 200_000;
const PLAIN_CHARACTERS_SHOWN = 500;

/** Counted once an answer is there, as client-go does: code is the status, or "<error>". */
export interface RequestMetrics {
  requestDone(method: string, host: string, code: string): void;
}

export interface HttpKubeApiOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics?: RequestMetrics;
  readonly random?: Random;
  readonly userAgent?: string;
  readonly bounds?: Partial<WatchBounds>;
}

/** What a test makes shorter. */
export interface WatchBounds {
  readonly pageObjects: number;
  readonly watchSecondsMin: number;
  readonly watchSilentMsMax: number;
  readonly answerWithinMs: number;
}

export class HttpKubeApi implements KubeApi, Disposable {
  readonly #host: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #metrics: RequestMetrics | undefined;
  readonly #random: Random;
  readonly #connection: KubeConnection;
  readonly #warnings: ServerWarnings;
  readonly #bounds: WatchBounds;

  constructor(access: CredentialSource, options: HttpKubeApiOptions) {
    const { clock, log, metrics, random = new SystemRandom(), userAgent = FIELD_MANAGER } = options;
    this.#host = access.server.host;
    this.#clock = clock;
    this.#log = log;
    this.#metrics = metrics;
    this.#random = random;
    this.#connection = new KubeConnection({ access, clock, userAgent });
    this.#warnings = new ServerWarnings(log);
    this.#bounds = {
      pageObjects: PAGE_OBJECTS,
      watchSecondsMin: WATCH_SECONDS_MIN,
      watchSilentMsMax: WATCH_SILENT_MS_MAX,
      answerWithinMs: ANSWER_WITHIN_MS,
      ...options.bounds,
    };
  }

  async get(reference: ObjectReference, options: CallOptions = {}): Promise<KubeObject | undefined> {
    const what = `Get ${describeReference(reference)}`;
    try {
      return (await this.#call({ what, method: 'GET', path: objectPath(reference) }, options)) as KubeObject;
    } catch (thrown) {
      if (isKubeError(thrown) && thrown.missing === 'object') return undefined;
      throw thrown;
    }
  }

  /** By pages; when what the pages go on from is forgotten in the middle, once more in one piece. */
  async list(resource: ResourceKind, options: ListOptions = {}): Promise<Listed> {
    try {
      return await this.#pages(resource, options, this.#bounds.pageObjects);
    } catch (thrown) {
      if (!isKubeError(thrown) || !thrown.isGone) throw thrown;
      this.#log.info({ resource: resource.plural }, 'pages of a list were forgotten, listing in one piece');
      return await this.#pages(resource, options, 0);
    }
  }

  async *watch(resource: ResourceKind, options: WatchOptions): AsyncGenerator<WatchEvent, void, void> {
    const what = `Watch ${resource.plural}`;
    const { watchSecondsMin } = this.#bounds;
    const seconds = Math.round(watchSecondsMin * (1 + randomUnit(this.#random)));
    const query = selectorQuery(options);
    query.set('watch', 'true');
    query.set('allowWatchBookmarks', 'true');
    query.set('timeoutSeconds', String(seconds));
    query.set('resourceVersion', options.resourceVersion);
    const path = `${collectionPath(resource, options.namespace)}?${query}`;
    const response = await this.#open({ what, method: 'GET', path }, options.signal);
    options.onOpen?.();
    yield* this.#events(what, response, options.signal);
  }

  async apply(resource: ResourceKind, object: KubeObject, options: CallOptions = {}): Promise<KubeObject> {
    return await this.#apply(resource, object, options);
  }

  async applyStatus(resource: ResourceKind, object: KubeObject, options: CallOptions = {}): Promise<KubeObject> {
    return await this.#apply(resource, object, options, 'status');
  }

  async create(resource: ResourceKind, object: KubeObject, options: CallOptions = {}): Promise<KubeObject> {
    const { namespace = '', name } = object.metadata;
    const what = `Create ${describeReference({ resource, namespace, name })}`;
    const path = `${collectionPath(resource, namespace)}?fieldManager=${FIELD_MANAGER}`;
    // Not repeatable: after a lost answer the second would be told AlreadyExists.
    return (await this.#call({ what, method: 'POST', path, body: object }, options, false)) as KubeObject;
  }

  async patch(
    reference: ObjectReference,
    change: object,
    options: CallOptions & { readonly subresource?: string } = {},
  ): Promise<KubeObject> {
    const { subresource } = options;
    const what = `Patch ${describeReference(reference)}${subresource === undefined ? '' : `/${subresource}`}`;
    const path = `${objectPath(reference, subresource)}?fieldManager=${FIELD_MANAGER}`;
    const contentType = 'application/merge-patch+json';
    // Bound to a version, the second would be told Conflict after a lost answer.
    const { metadata } = change as { metadata?: { resourceVersion?: string } };
    const repeatable = metadata?.resourceVersion === undefined;
    return (await this.#call(
      { what, method: 'PATCH', path, body: change, contentType },
      options,
      repeatable,
    )) as KubeObject;
  }

  async delete(
    reference: ObjectReference,
    options: CallOptions & { readonly uid?: string; readonly propagation?: string } = {},
  ): Promise<boolean> {
    const { uid, propagation = 'Background' } = options;
    const what = `Delete ${describeReference(reference)}`;
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: propagation,
      ...(uid === undefined ? {} : { preconditions: { uid } }),
    };
    try {
      await this.#call({ what, method: 'DELETE', path: objectPath(reference), body }, options);
      return true;
    } catch (thrown) {
      if (isKubeError(thrown) && thrown.missing === 'object') return false;
      throw thrown;
    }
  }

  async schemas(apiVersion: string, options: CallOptions = {}): Promise<Readonly<Record<string, unknown>> | undefined> {
    const asked: KubeRequest = {
      what: `Get the schemas of ${apiVersion}`,
      method: 'GET',
      path: `/openapi/v3/apis/${apiVersion}`,
    };
    try {
      const { components } = (await this.#call(asked, options)) as { readonly components?: { schemas?: object } };
      return { ...components?.schemas };
    } catch (thrown) {
      if (isKubeError(thrown) && thrown.isNotFound) return undefined;
      throw thrown;
    }
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  async #apply(
    resource: ResourceKind,
    object: KubeObject,
    options: CallOptions,
    subresource?: string,
  ): Promise<KubeObject> {
    const { namespace = '', name } = object.metadata;
    const reference = { resource, namespace, name };
    const what = `Apply ${describeReference(reference)}${subresource === undefined ? '' : `/${subresource}`}`;
    const path = `${objectPath(reference, subresource)}?fieldManager=${FIELD_MANAGER}&force=true`;
    const contentType = 'application/apply-patch+yaml';
    return (await this.#call({ what, method: 'PATCH', path, body: object, contentType }, options)) as KubeObject;
  }

  async #pages(resource: ResourceKind, options: ListOptions, limit: number): Promise<Listed> {
    const what = `List ${resource.plural}`;
    const objects: KubeObject[] = [];
    for (let next: string | undefined; ; ) {
      const query = selectorQuery(options);
      if (limit > 0) query.set('limit', String(limit));
      if (next !== undefined) query.set('continue', next);
      const path = `${collectionPath(resource, options.namespace)}?${query}`;
      const page = (await this.#call({ what, method: 'GET', path }, options, true, PAGE_WITHIN_MS)) as ListPage;
      // Items of built-in kinds do not say what they are.
      for (const item of page.items ?? []) {
        objects.push({ ...item, apiVersion: resource.apiVersion, kind: resource.kind });
      }
      const { continue: more = '', resourceVersion } = page.metadata;
      if (more === '') return { objects, resourceVersion };
      next = more;
    }
  }

  async *#events(
    what: string,
    response: IncomingMessage,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<WatchEvent, void, void> {
    const lines = new WatchLines(what);
    const { watchSilentMsMax } = this.#bounds;
    const onAbort = (): void => void response.destroy(abortError(signal));
    const cut = (): void => {
      const message = `no byte for ${watchSilentMsMax} ms`;
      response.destroy(new KubeError(what, { status: 0, reason: NO_ANSWER.timeout, message }));
    };
    let silence = this.#clock.setTimer(watchSilentMsMax, cut);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      signal?.throwIfAborted();
      for await (const piece of response as AsyncIterable<Buffer>) {
        silence.cancel();
        yield* lines.take(piece);
        silence = this.#clock.setTimer(watchSilentMsMax, cut);
      }
    } catch (thrown) {
      if (signal?.aborted || isKubeError(thrown)) throw thrown;
      throw noAnswer(what, thrown, true);
    } finally {
      silence.cancel();
      signal?.removeEventListener('abort', onAbort);
      response.destroy();
    }
  }

  /** The head of a watch's answer. Not made again from here: whoever watches has a backoff of its own. */
  async #open(asked: KubeRequest, signal: AbortSignal | undefined): Promise<IncomingMessage> {
    const { answerWithinMs } = this.#bounds;
    const answer = await this.#counted(
      'WATCH',
      () => this.#connection.open(asked, answerWithinMs, signal),
      (given) => ('status' in given ? given.status : given.statusCode),
    );
    if ('status' in answer) throw errorOf(asked.what, answer);
    return answer;
  }

  async #call(
    asked: KubeRequest,
    { signal }: CallOptions,
    repeatable = true,
    withinMs = this.#bounds.answerWithinMs,
  ): Promise<unknown> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#once(asked, withinMs, signal);
      } catch (thrown) {
        if (!isKubeError(thrown)) throw thrown;
        const delayMs = retryDelayMs({ error: thrown, repeatable, tries }, this.#random);
        if (delayMs === undefined) throw thrown;
        this.#log.debug({ err: thrown, tries, delayMs }, 'call to the apiserver is tried again');
        await sleep(this.#clock, delayMs, signal);
      }
    }
  }

  async #once(asked: KubeRequest, withinMs: number, signal: AbortSignal | undefined): Promise<unknown> {
    const answer = await this.#counted(
      asked.method,
      () => this.#connection.exchange(asked, withinMs, signal),
      ({ status }) => status,
    );
    this.#warnings.hear(asked.what, answer.headers.warning);
    if (answer.status >= 200 && answer.status < 300) return parse(asked.what, answer);
    throw errorOf(asked.what, answer);
  }

  async #counted<Answer>(
    method: string,
    ask: () => Promise<Answer>,
    statusOf: (answer: Answer) => number | undefined,
  ): Promise<Answer> {
    try {
      const answer = await ask();
      this.#metrics?.requestDone(method, this.#host, String(statusOf(answer)));
      return answer;
    } catch (thrown) {
      this.#metrics?.requestDone(method, this.#host, '<error>');
      throw thrown;
    }
  }
}

interface ListPage {
  readonly items: readonly KubeObject[] | null;
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
}

function selectorQuery({ labelSelector, fieldSelector }: ListOptions): URLSearchParams {
  return new URLSearchParams({
    ...(labelSelector === undefined ? {} : { labelSelector }),
    ...(fieldSelector === undefined ? {} : { fieldSelector }),
  });
}

function parse(what: string, { status, text }: KubeAnswer): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message = `${status} with a body that is not JSON`;
    throw new KubeError(what, { status: 0, reason: NO_ANSWER.unreadable, message, cause });
  }
}

/** A Status object where the API itself answers; plain text where something before it does. */
function errorOf(what: string, { status, headers, text }: KubeAnswer): KubeError {
  const told = { message: text.trim().slice(0, PLAIN_CHARACTERS_SHOWN), ...statusIn(text), code: status };
  return statusError(what, told, parseRetryAfter(headers['retry-after']));
}

function statusIn(text: string): object {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null ? parsed : {};
  } catch {
    return {};
  }
}
