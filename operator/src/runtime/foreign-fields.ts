/**
 * What others have put beside our fields where nothing but ours may stand. Server-side apply leaves a foreign key of a map alone:
 * one more key in a Service's selector cuts off all traffic, one more port opens a door. So these fields are compared as a whole.
 */
import type { KubeObject } from '../kube/kube-object.ts';

interface WholeField {
  readonly path: readonly string[];
  /** Of a list: what tells its items apart, with the server's defaults. */
  readonly itemKey?: Readonly<Record<string, string>>;
}

type Json = Readonly<Record<string, unknown>>;

/** Lists that are not here are atomic for server-side apply, as rules of a Role: whoever applies one has it as a whole. */
const WHOLE_FIELDS: Readonly<Record<string, readonly WholeField[]>> = {
  ConfigMap: [{ path: ['data'] }, { path: ['binaryData'] }],
  Service: [{ path: ['spec', 'selector'] }, { path: ['spec', 'ports'], itemKey: { port: '', protocol: 'TCP' } }],
  NetworkPolicy: [
    { path: ['spec', 'podSelector', 'matchLabels'] },
    { path: ['spec', 'podSelector', 'matchExpressions'] },
    { path: ['spec', 'ingress'] },
    { path: ['spec', 'egress'] },
  ],
};

/** A merge patch that takes away what is foreign; undefined when nothing is. */
export function withoutForeignFields(intent: KubeObject, seen: KubeObject): object | undefined {
  let patch: Json | undefined;
  for (const { path, itemKey } of WHOLE_FIELDS[intent.kind] ?? []) {
    const change = changeOf(valueAt(intent, path), valueAt(seen, path), itemKey);
    if (change !== undefined) patch = withValue(patch ?? {}, path, change.to);
  }
  return patch;
}

function changeOf(meant: unknown, seen: unknown, itemKey: WholeField['itemKey']): { to: unknown } | undefined {
  if (seen === undefined || seen === null) return undefined;
  if (meant === undefined || meant === null) return isEmpty(seen) ? undefined : { to: null };
  if (Array.isArray(seen) && Array.isArray(meant)) {
    if (itemKey === undefined) return undefined;
    const ours = new Set(meant.map((item) => identity(item, itemKey)));
    const kept = seen.filter((item) => ours.has(identity(item, itemKey)));
    return kept.length === seen.length ? undefined : { to: kept };
  }
  const foreign = Object.keys(seen).filter((name) => !Object.hasOwn(meant as Json, name));
  return foreign.length === 0 ? undefined : { to: Object.fromEntries(foreign.map((name) => [name, null])) };
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

function identity(item: unknown, itemKey: Readonly<Record<string, string>>): string {
  return JSON.stringify(Object.entries(itemKey).map(([name, byDefault]) => (item as Json)[name] ?? byDefault));
}

function valueAt(object: KubeObject, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, name) => (at as Json | null | undefined)?.[name], object);
}

function withValue(patch: Json, [name = '', ...below]: readonly string[], value: unknown): Json {
  const there = (patch[name] ?? {}) as Json;
  return { ...patch, [name]: below.length === 0 ? value : withValue(there, below, value) };
}
