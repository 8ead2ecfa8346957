/**
 * The objects of one kind as they were last seen, for planners to read without asking the apiserver. Only a reflector writes
 * here; what it writes comes back as changes. Objects are shared and must not be changed by who reads them.
 */
import type { KubeObject, ObjectKey, ObjectMeta } from '../kube/kube-object.ts';

export type ObjectChange =
  | { readonly type: 'added' | 'removed'; readonly object: KubeObject }
  | { readonly type: 'changed'; readonly object: KubeObject; readonly previous: KubeObject }
  /** Nothing is new: all that is known is told again from time to time. */
  | { readonly type: 'resync'; readonly object: KubeObject };

/** Under which words an object is found, e.g. the member that it belongs to. */
export type IndexBy = (object: KubeObject) => readonly string[];

export class ObjectStore {
  readonly #indexBy: IndexBy;
  readonly #objects = new Map<string, KubeObject>();
  readonly #index = new Map<string, Map<string, KubeObject>>();

  constructor(indexBy: IndexBy = () => []) {
    this.#indexBy = indexBy;
  }

  get size(): number {
    return this.#objects.size;
  }

  get(key: ObjectKey): KubeObject | undefined {
    return this.#objects.get(nameOf(key));
  }

  /** In no particular order. */
  list(namespace?: string): readonly KubeObject[] {
    const all = [...this.#objects.values()];
    return namespace === undefined ? all : all.filter(({ metadata }) => metadata.namespace === namespace);
  }

  /** Those that the index has under this word, in no particular order. */
  indexed(word: string): readonly KubeObject[] {
    return [...(this.#index.get(word)?.values() ?? [])];
  }

  put(object: KubeObject): readonly ObjectChange[] {
    const name = nameOf(keyOf(object));
    const previous = this.#objects.get(name);
    if (previous !== undefined && sameVersion(previous, object)) return [];
    if (previous !== undefined) this.#forget(name, previous);
    this.#objects.set(name, object);
    for (const word of this.#indexBy(object)) {
      const found = this.#index.get(word) ?? new Map<string, KubeObject>();
      this.#index.set(word, found.set(name, object));
    }
    if (previous === undefined) return [{ type: 'added', object }];
    // Gone and made again while nobody looked: who waits for its end must hear of it.
    if (previous.metadata.uid !== object.metadata.uid) {
      return [
        { type: 'removed', object: previous },
        { type: 'added', object },
      ];
    }
    return [{ type: 'changed', object, previous }];
  }

  /** `object` as it was at its end. */
  remove(object: KubeObject): readonly ObjectChange[] {
    const name = nameOf(keyOf(object));
    const previous = this.#objects.get(name);
    if (previous === undefined) return [];
    this.#forget(name, previous);
    return [{ type: 'removed', object: previous.metadata.uid === object.metadata.uid ? object : previous }];
  }

  /** What a list found: what it did not find is gone. */
  replace(objects: readonly KubeObject[]): readonly ObjectChange[] {
    const found = new Set(objects.map((object) => nameOf(keyOf(object))));
    const gone = [...this.#objects].filter(([name]) => !found.has(name)).map(([, object]) => object);
    return [...gone.flatMap((object) => this.remove(object)), ...objects.flatMap((object) => this.put(object))];
  }

  #forget(name: string, object: KubeObject): void {
    this.#objects.delete(name);
    for (const word of this.#indexBy(object)) {
      const found = this.#index.get(word);
      found?.delete(name);
      if (found?.size === 0) this.#index.delete(word);
    }
  }
}

export function keyOf({ metadata }: { readonly metadata: Pick<ObjectMeta, 'namespace' | 'name'> }): ObjectKey {
  return { namespace: metadata.namespace ?? '', name: metadata.name };
}

export function nameOf({ namespace, name }: ObjectKey): string {
  return `${namespace}/${name}`;
}

function sameVersion(a: KubeObject, b: KubeObject): boolean {
  return a.metadata.uid === b.metadata.uid && a.metadata.resourceVersion === b.metadata.resourceVersion;
}
