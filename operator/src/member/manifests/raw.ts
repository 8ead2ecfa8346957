/** From a typed builder to the raw object that is applied: absent fields are absent, and nothing is shared. */
import type { KubeObject } from '../../kube/kube-object.ts';

export function raw<Built extends { readonly apiVersion: string; readonly kind: string }>(object: Built): KubeObject {
  return JSON.parse(JSON.stringify(object)) as KubeObject;
}
