/**
 * Statuses for a kind whose CRD may be older than this operator, as where CRDs are installed apart and come after it: the apiserver
 * refuses a status with one field that it does not know as a whole, so nothing would be told any more. Such fields are left out,
 * and tried again after a while, since the CRD may have been brought up to date.
 *
 * Server-side apply answers 500 here, with no reason but a sentence (structured-merge-diff, "field not declared in schema"), so
 * this is the one place that reads a sentence.
 */
import type { Clock } from '@collective/base/clock';
import type { CallOptions, KubeApi } from '../kube/kube-api.ts';
import { isKubeError } from '../kube/kube-error.ts';
import type { KubeObject, ResourceKind } from '../kube/kube-object.ts';

export interface DeclaredStatusParts {
  readonly api: Pick<KubeApi, 'applyStatus'>;
  readonly clock: Pick<Clock, 'bootMs'>;
  /** Once for each set of fields that was found: "status.coordinator.nodePort". */
  onUndeclared(object: KubeObject, fields: readonly string[]): void;
}

interface Undeclared {
  readonly paths: readonly string[];
  readonly untilMs: number;
}

const TRIED_AGAIN_AFTER_MS = 10 * 60_000;
const SENTENCE = /\.(status(?:\.\w+|\[[^\]]*\])+): field not declared in schema/g;

export class DeclaredStatus {
  readonly #parts: DeclaredStatusParts;
  readonly #undeclared = new Map<string, Undeclared>();

  constructor(parts: DeclaredStatusParts) {
    this.#parts = parts;
  }

  /** What of a status can be written; the same object when all can. */
  declared<Status extends object>({ plural }: ResourceKind, status: Status): Status {
    const known = this.#undeclared.get(plural);
    if (known === undefined) return status;
    if (known.untilMs > this.#parts.clock.bootMs())
      return known.paths.reduce<unknown>((left, path) => without(left, path.split('.').slice(1)), status) as Status;
    this.#undeclared.delete(plural);
    return status;
  }

  async apply(
    resource: ResourceKind,
    object: KubeObject & { readonly status: object },
    options: CallOptions,
  ): Promise<KubeObject> {
    const { api } = this.#parts;
    const declared = (): KubeObject =>
      ({ ...object, status: this.declared(resource, object.status) }) as unknown as KubeObject;
    try {
      return await api.applyStatus(resource, declared(), options);
    } catch (thrown) {
      if (!this.#learns(resource, object, thrown)) throw thrown;
      return await api.applyStatus(resource, declared(), options);
    }
  }

  #learns({ plural }: ResourceKind, object: KubeObject, thrown: unknown): boolean {
    if (!isKubeError(thrown) || thrown.status !== 500) return false;
    const named = [...thrown.message.matchAll(SENTENCE)].map(([, path = '']) => path.replace(/\[[^\]]*\]/g, ''));
    if (named.length === 0) return false;
    const { clock, onUndeclared } = this.#parts;
    const paths = [...new Set([...(this.#undeclared.get(plural)?.paths ?? []), ...named])].sort();
    this.#undeclared.set(plural, { paths, untilMs: clock.bootMs() + TRIED_AGAIN_AFTER_MS });
    onUndeclared(object, paths);
    return true;
  }
}

/** Of every item, where a list is on the way. */
function without(value: unknown, path: readonly string[]): unknown {
  const [first, ...rest] = path;
  if (first === undefined || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => without(item, path));
  const { [first]: inner, ...others } = value as Record<string, unknown>;
  if (inner === undefined || rest.length === 0) return others;
  return { ...value, [first]: without(inner, rest) };
}
