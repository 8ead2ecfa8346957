/**
 * Writes the status of Members, only when it differs, and remembers what was written until the cache has it: a look that comes
 * sooner would otherwise plan a rotation from a step that is over.
 */
import { isDeepStrictEqual } from 'node:util';
import { API_VERSION } from '../api/group.ts';
import type { Member, MemberStatus } from '../api/member.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject, ObjectKey } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';

export class LatestStatus {
  readonly #api: Pick<KubeApi, 'applyStatus'>;
  readonly #written = new Map<string, Member>();

  constructor(api: Pick<KubeApi, 'applyStatus'>) {
    this.#api = api;
  }

  of(cached: Member): Member {
    const key = nameOf(cached);
    const written = this.#written.get(key);
    if (written === undefined) return cached;
    if (isNewer(written, cached)) return written;
    this.#written.delete(key);
    return cached;
  }

  /** True if it was another one. */
  async write(member: Member, status: MemberStatus, signal: AbortSignal): Promise<boolean> {
    if (isDeepStrictEqual(member.status, status)) return false;
    const { name, namespace, uid } = member.metadata;
    const object = { apiVersion: API_VERSION, kind: 'Member', metadata: { name, namespace, uid }, status };
    this.wrote(await this.#api.applyStatus(RESOURCES.members, object as KubeObject, { signal }));
    return true;
  }

  /** The cache may be behind this answer for a moment. */
  wrote(answer: KubeObject): void {
    const { managedFields: _, ...metadata } = answer.metadata;
    const written = { ...answer, metadata } as unknown as Member;
    this.#written.set(nameOf(written), written);
  }

  forget({ namespace, name }: ObjectKey): void {
    this.#written.delete(`${namespace}/${name}`);
  }
}

function nameOf({ metadata }: Member): string {
  return `${metadata.namespace}/${metadata.name}`;
}

/** Versions of one object grow: since Kubernetes 1.35 that is a promise, and before it was so all the same. */
function isNewer(written: Member, cached: Member): boolean {
  return (
    written.metadata.uid === cached.metadata.uid &&
    Number(written.metadata.resourceVersion) > Number(cached.metadata.resourceVersion)
  );
}
