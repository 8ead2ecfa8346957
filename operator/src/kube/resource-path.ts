/** Where kinds and objects lie below an apiserver's address. */
import type { ObjectReference, ResourceKind } from './kube-object.ts';

/** All objects of a kind, or those of one namespace. */
export function collectionPath({ apiVersion, plural, namespaced }: ResourceKind, namespace?: string): string {
  // The core group has no name and a place of its own.
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const below = namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${group}${below}/${plural}`;
}

export function objectPath({ resource, namespace, name }: ObjectReference, subresource?: string): string {
  const path = `${collectionPath(resource, namespace)}/${encodeURIComponent(name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}

/** How logs and errors name it: "configmaps members/settings". */
export function describeReference({ resource, namespace, name }: ObjectReference): string {
  return `${resource.plural} ${resource.namespaced ? `${namespace}/` : ''}${name}`;
}
