/**
 * Brings planned objects to the apiserver, and makes no call for those that are there already: intent and object must both be as
 * they were after our last apply (`applied-marks.ts`). What others have put into fields that are ours as a whole is taken away
 * (`foreign-fields.ts`).
 *
 * An object that the server refuses (a quota, a policy, a field) does not keep the others from being applied: refusals are the
 * outcome, for the planner's conditions. A server that cannot be asked, and conflicts, are thrown: looking again is the cure.
 */
import type { Log } from '@collective/base/log';
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError, type KubeError } from '../kube/kube-error.ts';
import type { KubeObject, ObjectReference } from '../kube/kube-object.ts';
import { describeReference } from '../kube/resource-path.ts';
import type { Apply, Removal } from '../member/plan-types.ts';
import { AppliedMarks } from './applied-marks.ts';
import { withoutForeignFields } from './foreign-fields.ts';
import { keyOf } from './object-store.ts';

export interface ApplierOptions {
  readonly api: Pick<KubeApi, 'apply' | 'patch' | 'delete'>;
  /** As the caches have it; undefined when it is not there, or when its kind is not watched (it is then applied each time). */
  readonly observed: (reference: ObjectReference) => KubeObject | undefined;
  readonly log: Log;
}

export interface Refused {
  readonly intent: Apply;
  readonly error: KubeError;
}

export interface ApplyOutcome {
  /** As the server answered, or as the cache has those that needed no call; without the refused ones. */
  readonly objects: readonly KubeObject[];
  /** Calls that were made. */
  readonly writes: number;
  readonly refused: readonly Refused[];
}

export class Applier {
  readonly #options: ApplierOptions;
  readonly #marks = new AppliedMarks();

  constructor(options: ApplierOptions) {
    this.#options = options;
  }

  /** In the given order. Throws the first conflict once all have been tried, any other failure at once. */
  async apply(intents: readonly Apply[], signal?: AbortSignal): Promise<ApplyOutcome> {
    const objects: KubeObject[] = [];
    const refused: Refused[] = [];
    const conflicts: KubeError[] = [];
    let writes = 0;
    for (const intent of intents) {
      try {
        const { object, calls } = await this.#one(intent, signal);
        objects.push(object);
        writes += calls;
      } catch (thrown) {
        if (!isKubeError(thrown) || !(thrown.isRefusal || thrown.isConflict)) throw thrown;
        writes++;
        if (thrown.isConflict) conflicts.push(thrown);
        else refused.push({ intent, error: thrown });
      }
    }
    const [conflict] = conflicts;
    if (conflict !== undefined) throw conflict;
    return { objects, writes, refused };
  }

  /** How many were there. One that is by now another object of that name is a conflict, and is left alone. */
  async remove(removals: readonly Removal[], signal?: AbortSignal): Promise<number> {
    const { api, log } = this.#options;
    let removed = 0;
    for (const { reference, uid } of removals) {
      this.#marks.forget(reference);
      if (!(await api.delete(reference, { uid, ...(signal === undefined ? {} : { signal }) }))) continue;
      removed++;
      log.info({ object: describeReference(reference) }, 'object removed');
    }
    return removed;
  }

  async #one(
    { resource, object: intent }: Apply,
    signal?: AbortSignal,
  ): Promise<{ object: KubeObject; calls: number }> {
    const { api, observed, log } = this.#options;
    const reference = { resource, ...keyOf(intent) };
    const seen = observed(reference);
    if (seen !== undefined && this.#marks.isUnchanged(reference, intent, seen)) return { object: seen, calls: 0 };
    const options = signal === undefined ? {} : { signal };
    let answer = await api.apply(resource, intent, options);
    let calls = 1;
    const patch = withoutForeignFields(intent, answer);
    if (patch !== undefined) {
      log.warn({ object: describeReference(reference), foreign: patch }, 'foreign fields are taken away');
      const { resourceVersion } = answer.metadata;
      answer = await api.patch(reference, { ...patch, metadata: { resourceVersion } }, options);
      calls++;
    }
    this.#marks.set(reference, intent, answer);
    if (seen?.metadata.resourceVersion !== answer.metadata.resourceVersion) {
      log.debug({ object: describeReference(reference), existed: seen !== undefined }, 'object applied');
    }
    return { object: answer, calls };
  }
}
