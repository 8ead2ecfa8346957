/**
 * What a test says to an apiserver: plain objects over HTTPS with one client certificate. It knows nothing of types, so that
 * a test sees every field as the server has it. The resource name of a kind is asked from the server once.
 */
import assert from 'node:assert/strict';
import { Agent, request } from 'node:https';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { until } from '../until.ts';

const ANSWER_WITHIN_MS = 30_000;
const LEVEL_WITHIN_MS = 60_000;
/** From when a kind is Established until the server tells of it: another one of its controllers does that. */
const KIND_TOLD_WITHIN_MS = 30_000;
const KIND_ASKED_EVERY_MS = 100;
const FIELD_MANAGER = 'test';
const clock = new SystemClock();

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly generation?: number;
    readonly deletionTimestamp?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly finalizers?: readonly string[];
  };
  readonly [field: string]: unknown;
}

/** Names an object: enough of it to ask for the rest. */
export type KubeReference = Pick<KubeObject, 'apiVersion' | 'kind' | 'metadata'>;

export interface ApiAccess {
  readonly url: string;
  readonly caPem: string;
  readonly certificatePem: string;
  readonly keyPem: string;
}

export interface ApplyOptions {
  readonly dryRun?: boolean;
  readonly strict?: boolean;
  /** "test" unless said. */
  readonly fieldManager?: string;
}

export class ApiError extends Error {
  readonly status: number;
  /** As the server names it: NotFound, Forbidden, Invalid, Conflict. */
  readonly reason: string;
  /** Field by field, where the server says so. */
  readonly faults: readonly { readonly field: string; readonly message: string }[];

  constructor(what: string, status: number, { reason = '', message = '', details }: Refusal) {
    super(`${what}: ${status} ${reason}: ${message}`);
    this.status = status;
    this.reason = reason;
    this.faults = (details?.causes ?? []).map(({ field = '', message: fault = '' }) => ({ field, message: fault }));
  }
}

/** Somebody changed the object meanwhile, or a server that restarts or is busy gave no answer: the next look sees it as it is. */
export function isPassing(thrown: unknown): boolean {
  if (thrown instanceof ApiError) return [404, 409, 429].includes(thrown.status) || thrown.status >= 500;
  const { code = '' } = thrown as NodeJS.ErrnoException;
  return ['ABORT_ERR', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(code);
}

/** What of a meta/v1 Status is read. */
interface Refusal {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: readonly { readonly field?: string; readonly message?: string }[] };
}

interface Resource {
  readonly name: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

export class ApiClient implements Disposable {
  readonly #url: string;
  readonly #agent: Agent;
  readonly #resources = new Map<string, readonly Resource[]>();

  constructor({ url, caPem, certificatePem, keyPem }: ApiAccess) {
    this.#url = url;
    this.#agent = new Agent({ keepAlive: true, ca: caPem, cert: certificatePem, key: keyPem });
  }

  /**
   * Server-side apply; the answer is the object as it is now. A dry run is judged and answered in the same way, and stored
   * nowhere. Strict: a field that the server does not know is an error.
   */
  async apply<Kind extends KubeObject>(
    object: Kind,
    { dryRun = false, strict = false, fieldManager = FIELD_MANAGER }: ApplyOptions = {},
  ): Promise<Kind> {
    const options = `${dryRun ? '&dryRun=All' : ''}${strict ? '&fieldValidation=Strict' : ''}`;
    const path = `${await this.#path(object)}?fieldManager=${fieldManager}&force=true${options}`;
    return (await this.#call('PATCH', path, object, 'application/apply-patch+yaml')) as Kind;
  }

  /** A merge patch, also of a subresource such as "status". */
  async patch(reference: KubeReference, change: object, subresource = ''): Promise<KubeObject> {
    const path = `${await this.#path(reference)}${subresource === '' ? '' : `/${subresource}`}`;
    return (await this.#call('PATCH', path, change, 'application/merge-patch+json')) as KubeObject;
  }

  /** Undefined when there is no such object. */
  async find(reference: KubeReference): Promise<KubeObject | undefined> {
    try {
      return (await this.#call('GET', await this.#path(reference))) as KubeObject;
    } catch (thrown) {
      if (thrown instanceof ApiError && thrown.status === 404) return undefined;
      throw thrown;
    }
  }

  async list(apiVersion: string, kind: string, namespace?: string): Promise<readonly KubeObject[]> {
    const collection = await this.#collection(apiVersion, kind, namespace);
    return ((await this.#call('GET', collection)) as { items: readonly KubeObject[] }).items;
  }

  /** What a scheduler says: where a pod is to run. */
  async bindPod(pod: KubeReference, machine: string): Promise<void> {
    const target = { apiVersion: 'v1', kind: 'Node', name: machine };
    const binding = { apiVersion: 'v1', kind: 'Binding', metadata: { name: pod.metadata.name }, target };
    await this.#call('POST', `${await this.#path(pod)}/binding`, binding);
  }

  /** What a kubelet says of a pod whose processes have ended: nothing more is waited for. */
  async removeNow(reference: KubeReference): Promise<void> {
    const preconditions = { uid: reference.metadata.uid };
    await this.#call('DELETE', await this.#path(reference), { gracePeriodSeconds: 0, preconditions });
  }

  async remove(reference: KubeReference): Promise<void> {
    await this.#call('DELETE', await this.#path(reference));
  }

  /** The object once it holds; fails with the object as it was last seen. */
  async when(
    reference: KubeReference,
    holds: (object: KubeObject) => boolean,
    what: string,
    withinMs = LEVEL_WITHIN_MS,
  ): Promise<KubeObject> {
    let seen: KubeObject | undefined;
    await until(
      async () => {
        seen = await this.find(reference);
        return seen !== undefined && holds(seen);
      },
      `${reference.kind} ${reference.metadata.name} ${what}`,
      withinMs,
      () => (seen === undefined ? 'no such object' : JSON.stringify(seen, undefined, 2)),
    );
    assert.ok(seen !== undefined);
    return seen;
  }

  /** Status and text of any path, whatever the status. */
  async ask(path: string): Promise<{ readonly status: number; readonly text: string }> {
    return await this.#exchange('GET', path);
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async #path({ apiVersion, kind, metadata }: KubeReference): Promise<string> {
    return `${await this.#collection(apiVersion, kind, metadata.namespace)}/${metadata.name}`;
  }

  async #collection(apiVersion: string, kind: string, namespace?: string): Promise<string> {
    const base = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const resource = await this.#resource(base, kind);
    return `${base}${resource.namespaced && namespace !== undefined ? `/namespaces/${namespace}` : ''}/${resource.name}`;
  }

  async #resource(base: string, kind: string): Promise<Resource> {
    const wanted = (one: Resource): boolean => one.kind === kind && !one.name.includes('/');
    const known = this.#resources.get(base)?.find(wanted);
    if (known !== undefined) return known;
    for (const untilMs = clock.bootMs() + KIND_TOLD_WITHIN_MS; ; ) {
      const isLate = clock.bootMs() >= untilMs;
      const resources = await this.#resourcesBelow(base, isLate);
      const found = resources.find(wanted);
      if (found !== undefined) return found;
      assert.ok(!isLate, `the server has no kind ${kind} below ${base}`);
      await sleep(clock, KIND_ASKED_EVERY_MS);
    }
  }

  /** None for a group that the server does not tell of (yet), unless that is to be an error. */
  async #resourcesBelow(base: string, mustBe: boolean): Promise<readonly Resource[]> {
    try {
      const { resources } = (await this.#call('GET', base)) as { resources: readonly Resource[] };
      this.#resources.set(base, resources);
      return resources;
    } catch (thrown) {
      if (mustBe || !(thrown instanceof ApiError) || thrown.status !== 404) throw thrown;
      return [];
    }
  }

  async #call(method: string, path: string, body?: object, contentType?: string): Promise<unknown> {
    const { status, text } = await this.#exchange(method, path, body, contentType);
    if (status < 300) return JSON.parse(text);
    // What no handler of the server takes is refused in plain text.
    const refusal = text.startsWith('{') ? (JSON.parse(text) as Refusal) : {};
    throw new ApiError(`${method} ${path}`, status, { message: text, ...refusal });
  }

  #exchange(
    method: string,
    path: string,
    body?: object,
    contentType = 'application/json',
  ): Promise<{ status: number; text: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
    const text = body === undefined ? '' : JSON.stringify(body);
    const asking = request(new URL(path, this.#url), {
      method,
      agent: this.#agent,
      // A DELETE says no length by itself, and its body would be taken for the next request.
      headers: body === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(text) },
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    asking.once('error', reject);
    asking.once('response', (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString('utf8') }),
      );
    });
    asking.end(text);
    return promise;
  }
}

export interface SeenCondition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

/** Empty while nothing is said of it. */
export function conditionOf(object: KubeObject | undefined, type: string): SeenCondition {
  const { conditions } = (object?.status ?? {}) as { readonly conditions?: readonly SeenCondition[] };
  return conditions?.find((condition) => condition.type === type) ?? { type, status: '', reason: '', message: '' };
}

/** Whether a condition of an object says True, for its present generation where it names one. */
export function hasCondition(object: KubeObject, type: string, status = 'True'): boolean {
  const { conditions } = (object.status ?? {}) as {
    conditions?: readonly { type: string; status: string; observedGeneration?: number }[] | null;
  };
  return (conditions ?? []).some(
    (condition) =>
      condition.type === type &&
      condition.status === status &&
      (condition.observedGeneration ?? object.metadata.generation) === object.metadata.generation,
  );
}
