/**
 * What the operator asks of an apiserver, as a port: raw objects, one field manager, every call with a signal and a
 * deadline. `HttpKubeApi` is the real one. Errors are `KubeError` with the server's own reason; 404 of `get` is undefined.
 */
import type { KubeObject, ObjectReference, ResourceKind } from './kube-object.ts';

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface ListOptions extends CallOptions {
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly labelSelector?: string;
  /** Of the few fields that the server can select by, e.g. `type=Warning` of events. */
  readonly fieldSelector?: string;
}

export interface WatchOptions extends ListOptions {
  readonly resourceVersion: string;
  /** The server has taken the watch; events may be long in coming. */
  readonly onOpen?: () => void;
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: KubeObject }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export interface Listed {
  readonly objects: readonly KubeObject[];
  readonly resourceVersion: string;
}

export interface KubeApi {
  get(reference: ObjectReference, options?: CallOptions): Promise<KubeObject | undefined>;
  /** All pages. */
  list(resource: ResourceKind, options?: ListOptions): Promise<Listed>;
  /** Ends when the server ends it; throws `KubeError` (410: list again). */
  watch(resource: ResourceKind, options: WatchOptions): AsyncIterable<WatchEvent>;
  /** Server-side apply, force, under FIELD_MANAGER. With `metadata.uid`: 409 instead of a blank re-creation. */
  apply(resource: ResourceKind, object: KubeObject, options?: CallOptions): Promise<KubeObject>;
  /** Server-side apply of the status subresource. */
  applyStatus(resource: ResourceKind, object: KubeObject, options?: CallOptions): Promise<KubeObject>;
  create(resource: ResourceKind, object: KubeObject, options?: CallOptions): Promise<KubeObject>;
  /** JSON merge patch; with a subresource ("status") of that. */
  patch(
    reference: ObjectReference,
    change: object,
    options?: CallOptions & { readonly subresource?: string },
  ): Promise<KubeObject>;
  /** What the server says of the kinds of a group (OpenAPI v3); undefined where it serves none. */
  schemas(apiVersion: string, options?: CallOptions): Promise<Readonly<Record<string, unknown>> | undefined>;
  /** True when it was there. Deletes only that very object when a uid is given. */
  delete(
    reference: ObjectReference,
    options?: CallOptions & { readonly uid?: string; readonly propagation?: 'Background' | 'Orphan' | 'Foreground' },
  ): Promise<boolean>;
}
