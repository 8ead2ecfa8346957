/**
 * Whether an object already is what an intent makes of it, told without asking the server: everything that is meant is there with
 * the same value, and the server may have added defaults. What was meant once and no longer is cannot be seen so; whoever asks
 * must know that the last intent was this one.
 *
 * A value that the server writes in its own way (a quantity of "1000m") is taken for another: that costs a call, and errs to the safe side.
 */
import type { KubeObject, ObjectMeta } from '../kube/kube-object.ts';

export function holdsIntent(seen: KubeObject, { metadata, ...meant }: KubeObject): boolean {
  const isSameObject = metadata.uid === undefined || metadata.uid === seen.metadata.uid;
  return isSameObject && holdsMetadata(seen.metadata, metadata) && holdsValue(seen, meant);
}

/** Others may add labels, annotations, owners and finalizers of their own. */
export function holdsMetadata(seen: ObjectMeta, meant: ObjectMeta): boolean {
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

/** Lists are the same item by item; the items may have defaults. */
function holdsValue(seen: unknown, meant: unknown): boolean {
  if (meant === undefined) return true;
  if (typeof meant !== 'object' || meant === null) return seen === meant;
  if (Array.isArray(meant)) {
    return Array.isArray(seen) && seen.length === meant.length && meant.every((item, at) => holdsValue(seen[at], item));
  }
  if (typeof seen !== 'object' || seen === null || Array.isArray(seen)) return false;
  return Object.entries(meant).every(([name, value]) => holdsValue((seen as Record<string, unknown>)[name], value));
}
