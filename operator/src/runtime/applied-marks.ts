/**
 * What is known of objects after we last applied them, to tell whether applying them again could change anything. A mark holds
 * as long as intent and object are both what they were: the hash of the intent alone would miss what others do to the object,
 * and the object alone what we now want.
 *
 * Pure but for the memory itself. Forgetting a mark costs one apply that changes nothing.
 */
import { createHash } from 'node:crypto';
import type { KubeObject, ObjectMeta, ObjectReference } from '../kube/kube-object.ts';
import { describeReference } from '../kube/resource-path.ts';

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
    const mark = this.#marks.get(describeReference(reference));
    if (mark === undefined || observed === undefined) return false;
    const { uid, generation, resourceVersion } = observed.metadata;
    if (mark.uid !== uid || mark.intentHash !== intentHash(intent)) return false;
    if (mark.resourceVersion === resourceVersion) return true;
    // The cache has not caught up with our own apply; it will, and then this is asked again.
    if (isOlder(resourceVersion, mark.resourceVersion)) return true;
    // Generations count changes of the spec alone: the status may have gone on, metadata are looked at here.
    return (
      generation !== undefined && mark.generation === generation && holdsMetadata(observed.metadata, intent.metadata)
    );
  }
}

/** Without the uid, which says only that the object must exist. */
export function intentHash({ metadata: { uid: _, ...metadata }, ...rest }: KubeObject): string {
  return createHash('sha256')
    .update(canonicalJson({ ...rest, metadata }))
    .digest('base64');
}

/** Members in the order of their names, so that the order in which a builder sets fields does not count. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** Versions are etcd's revisions and grow (Kubernetes 1.35 promises that they can be compared). */
function isOlder(version: string | undefined, than: string | undefined): boolean {
  if (!/^\d+$/.test(version ?? '') || !/^\d+$/.test(than ?? '')) return false;
  return BigInt(version ?? '') < BigInt(than ?? '');
}

function holdsMetadata(seen: ObjectMeta, meant: ObjectMeta): boolean {
  const holds = (map: Readonly<Record<string, string>> = {}, wanted: Readonly<Record<string, string>> = {}): boolean =>
    Object.entries(wanted).every(([name, value]) => map[name] === value);
  const owners = new Set(seen.ownerReferences?.map(({ uid, controller }) => `${uid} ${controller === true}`));
  return (
    holds(seen.labels, meant.labels) &&
    holds(seen.annotations, meant.annotations) &&
    (meant.finalizers ?? []).every((finalizer) => seen.finalizers?.includes(finalizer)) &&
    (meant.ownerReferences ?? []).every(({ uid, controller }) => owners.has(`${uid} ${controller === true}`))
  );
}
