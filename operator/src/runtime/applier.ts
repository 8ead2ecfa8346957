/**
 * Brings planned objects to the apiserver, and makes no call for those that are there already: intent and object must both be as
 * they were after our last apply (`applied-marks.ts`). What others have put into fields that are ours as a whole is taken away
 * (`foreign-fields.ts`).
 *
 * An object that the server refuses (a quota, a policy, a field) does not keep the others from being applied or removed: refusals
 * are the outcome, for the planner's conditions. So is the first object of an API group whose webhook does not answer; the rest of the group
 * would only wait for it in vain. A server that cannot be asked, and conflicts, are thrown: looking again is the cure.
 */
import type { Log } from '@collective/base/log';
import type { KubeApi } from '../kube/kube-api.ts';
import { isKubeError, type KubeError } from '../kube/kube-error.ts';
import type { KubeObject, ObjectReference } from '../kube/kube-object.ts';
import { describeReference } from '../kube/resource-path.ts';
import type { Apply, Removal } from '../member/plan-types.ts';
import { AppliedMarks, withIntentHash } from './applied-marks.ts';
import { withoutForeignFields } from './foreign-fields.ts';
import { keyOf } from './object-store.ts';
import { RemovalMarks } from './removal-marks.ts';

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

/** `atFirst` was refused. */
export interface GaveWay extends Refused {
  /** What is there instead. */
  readonly object: KubeObject;
}

interface Applied {
  readonly object: KubeObject;
  readonly calls: number;
}

export interface ApplyOutcome {
  /** As the server answered, or as the cache has those that needed no call; without the refused ones. */
  readonly objects: readonly KubeObject[];
  /** Calls that were made. */
  readonly writes: number;
  readonly refused: readonly Refused[];
  readonly gaveWay: readonly GaveWay[];
}

export interface RefusedRemoval {
  readonly removal: Removal;
  readonly error: KubeError;
}

export interface RemoveOutcome {
  /** How many were there and not leaving yet. */
  readonly removed: number;
  readonly refused: readonly RefusedRemoval[];
}

export class Applier {
  readonly #options: ApplierOptions;
  readonly #marks = new AppliedMarks();
  readonly #removals = new RemovalMarks();

  constructor(options: ApplierOptions) {
    this.#options = options;
  }

  /** In the given order. Throws the first conflict once all have been tried, any other failure at once. */
  async apply(intents: readonly Apply[], signal?: AbortSignal): Promise<ApplyOutcome> {
    const objects: KubeObject[] = [];
    const refused: Refused[] = [];
    const gaveWay: GaveWay[] = [];
    const conflicts: KubeError[] = [];
    const unjudged = new Set<string>();
    let writes = 0;
    for (const intent of intents) {
      if (unjudged.has(intent.resource.apiVersion)) continue;
      try {
        const { object, calls, refusal } = await this.#oneOrAtFirst(intent, signal);
        objects.push(object);
        writes += calls;
        if (refusal !== undefined) gaveWay.push({ intent, error: refusal, object });
      } catch (thrown) {
        if (!isKubeError(thrown) || !(thrown.isRefusal || thrown.isUnjudged || thrown.isConflict)) throw thrown;
        writes++;
        if (thrown.isConflict) conflicts.push(thrown);
        else refused.push({ intent, error: thrown });
        if (thrown.isUnjudged) unjudged.add(intent.resource.apiVersion);
      }
    }
    const [conflict] = conflicts;
    if (conflict !== undefined) throw conflict;
    return { objects, writes, refused, gaveWay };
  }

  /**
   * One that is by now another object of that name is a conflict, and is left alone; one that is leaving already, as a claim
   * whose pod still ends, is not asked again. Throws as `apply` does.
   */
  async remove(removals: readonly Removal[], signal?: AbortSignal): Promise<RemoveOutcome> {
    const { api, observed, log } = this.#options;
    const refused: RefusedRemoval[] = [];
    const conflicts: KubeError[] = [];
    let removed = 0;
    for (const removal of removals) {
      const { reference, uid, withDependents = false } = removal;
      this.#marks.forget(reference);
      const seen = observed(reference);
      const known = seen?.metadata.uid === uid ? seen : undefined;
      if (known !== undefined && this.#removals.isLeaving(known)) continue;
      const propagation = withDependents ? 'Foreground' : 'Background';
      try {
        if (!(await api.delete(reference, { uid, propagation, ...(signal === undefined ? {} : { signal }) }))) continue;
        removed++;
        if (known !== undefined) this.#removals.set(known);
        log.info({ object: describeReference(reference) }, 'object removed');
      } catch (thrown) {
        if (!isKubeError(thrown) || !(thrown.isRefusal || thrown.isUnjudged || thrown.isConflict)) throw thrown;
        if (thrown.isConflict) conflicts.push(thrown);
        else refused.push({ removal, error: thrown });
      }
    }
    const [conflict] = conflicts;
    if (conflict !== undefined) throw conflict;
    return { removed, refused };
  }

  async #oneOrAtFirst(intent: Apply, signal?: AbortSignal): Promise<Applied & { readonly refusal?: KubeError }> {
    const { resource, object: usual, atFirst } = intent;
    const isThere = this.#options.observed({ resource, ...keyOf(usual) }) !== undefined;
    if (atFirst === undefined || isThere) return await this.#one(intent, signal);
    try {
      return await this.#one({ resource, object: atFirst }, signal);
    } catch (thrown) {
      if (!isKubeError(thrown) || !thrown.isRefusal) throw thrown;
      const { object, calls } = await this.#one(intent, signal);
      return { object, calls: calls + 1, refusal: thrown };
    }
  }

  async #one({ resource, object: intent }: Apply, signal?: AbortSignal): Promise<Applied> {
    const { api, observed, log } = this.#options;
    const reference = { resource, ...keyOf(intent) };
    const seen = observed(reference);
    if (seen !== undefined && this.#marks.isUnchanged(reference, intent, seen)) return { object: seen, calls: 0 };
    const options = signal === undefined ? {} : { signal };
    let answer = await api.apply(resource, withIntentHash(intent), options);
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
