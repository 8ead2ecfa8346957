/**
 * What is known of objects after we last applied them, to tell whether applying them again could change anything. A mark holds
 * as long as intent and object are both what they were: the hash of the intent alone would miss what others do to the object,
 * and the object alone what we now want.
 *
 * Marks are in memory. So that an operator which starts anew need not apply everything once more, each applied object carries the
 * hash of its intent: where that is the intent of now and all of it is still there (`holds-intent.ts`), nothing is to be done.
 *
 * Pure but for the memory itself. Forgetting a mark costs one apply that changes nothing.
 */
import { createHash } from 'node:crypto';
import { ANNOTATIONS } from '../api/group.ts';
import type { KubeObject, ObjectReference } from '../kube/kube-object.ts';
import { describeReference } from '../kube/resource-path.ts';
import { withoutForeignFields } from './foreign-fields.ts';
import { holdsIntent, holdsMetadata } from './holds-intent.ts';

const MARKS_MAX = 100_000;

interface Mark {
  readonly intentHash: string;
  readonly uid: string | undefined;
  /** Undefined for kinds that have none, e.g. ConfigMap and Service. */
  readonly generation: number | undefined;
  readonly resourceVersion: string | undefined;
}

export class AppliedMarks {
  readonly #marks = new Map<string, Mark>();

  /** After an apply: `answer` is the object as the server has it since. */
  set(reference: ObjectReference, intent: KubeObject, answer: KubeObject): void {
    const { uid, generation, resourceVersion } = answer.metadata;
    const name = describeReference(reference);
    this.#marks.delete(name);
    this.#marks.set(name, { intentHash: intentHash(intent), uid, generation, resourceVersion });
    if (this.#marks.size <= MARKS_MAX) return;
    const [oldest = name] = this.#marks.keys();
    this.#marks.delete(oldest);
  }

  forget(reference: ObjectReference): void {
    this.#marks.delete(describeReference(reference));
  }

  /** `observed`: the object as a cache last saw it. */
  isUnchanged(reference: ObjectReference, intent: KubeObject, observed: KubeObject | undefined): boolean {
    if (observed === undefined) return false;
    const hash = intentHash(intent);
    const mark = this.#marks.get(describeReference(reference));
    if (mark === undefined) return isAsApplied(intent, hash, observed);
    const { uid, generation, resourceVersion } = observed.metadata;
    if (mark.uid !== uid || mark.intentHash !== hash) return false;
    if (mark.resourceVersion === resourceVersion) return true;
    // The cache has not caught up with our own apply; it will, and then this is asked again.
    if (isOlder(resourceVersion, mark.resourceVersion)) return true;
    // Generations count changes of the spec alone: the status may have gone on, metadata are looked at here.
    const isSameSpec = generation !== undefined && mark.generation === generation;
    return (isSameSpec && holdsMetadata(observed.metadata, intent.metadata)) || isAsApplied(intent, hash, observed);
  }
}

/** The intent as it is sent: with its hash. */
export function withIntentHash(intent: KubeObject): KubeObject {
  const annotations = { ...intent.metadata.annotations, [ANNOTATIONS.applied]: intentHash(intent) };
  return { ...intent, metadata: { ...intent.metadata, annotations } };
}

/**
 * Without the uid, which says only that the object must exist. Builders set fields in one order, so equal intents have equal
 * text; another order would cost an apply that changes nothing.
 */
export function intentHash({ metadata: { uid: _, ...metadata }, ...rest }: KubeObject): string {
  return createHash('sha256')
    .update(JSON.stringify({ ...rest, metadata }))
    .digest('hex')
    .slice(0, HASH_CHARACTERS);
}

/** As `templateHash`: enough against chance, short enough to read. */
const HASH_CHARACTERS = 16;

/** Last applied by an operator that wanted the same, and nobody has changed it since. */
function isAsApplied(intent: KubeObject, hash: string, observed: KubeObject): boolean {
  return (
    observed.metadata.annotations?.[ANNOTATIONS.applied] === hash &&
    holdsIntent(observed, intent) &&
    withoutForeignFields(intent, observed) === undefined
  );
}

/** Versions are etcd's revisions and grow (Kubernetes 1.35 promises that they can be compared). */
function isOlder(version: string | undefined, than: string | undefined): boolean {
  if (!/^\d+$/.test(version ?? '') || !/^\d+$/.test(than ?? '')) return false;
  return BigInt(version ?? '') < BigInt(than ?? '');
}
