/**
 * Writes the status of Members, only when it differs, and mere progress not at once after another write. It remembers what was
 * written until the cache has it: a look that comes sooner would otherwise plan a rotation from a step that is over.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '@collective/base/clock';
import { API_VERSION } from '../api/group.ts';
import type { Member, MemberStatus } from '../api/member.ts';
import type { KubeObject, ObjectKey } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { DeclaredStatus } from '../runtime/declared-status.ts';
import { keyOf, nameOf } from '../runtime/object-store.ts';
import { StatusPace } from '../runtime/status-pace.ts';
import { isProgress } from './status-progress.ts';

export interface Told {
  /** It was another one. */
  readonly isWritten: boolean;
  /** When what was held back is to be told. */
  readonly againAfterMs?: number;
}

export class LatestStatus {
  readonly #statuses: DeclaredStatus;
  readonly #pace: StatusPace;
  readonly #written = new Map<string, Member>();

  constructor(statuses: DeclaredStatus, clock: Pick<Clock, 'bootMs'>) {
    this.#statuses = statuses;
    this.#pace = new StatusPace(clock);
  }

  of(cached: Member): Member {
    const key = nameOf(keyOf(cached));
    const written = this.#written.get(key);
    if (written === undefined) return cached;
    if (isNewer(written, cached)) return written;
    this.#written.delete(key);
    return cached;
  }

  async write(member: Member, meant: MemberStatus, signal: AbortSignal): Promise<Told> {
    const status = this.#statuses.declared(RESOURCES.members, meant);
    if (isDeepStrictEqual(member.status, status)) return { isWritten: false };
    const againAfterMs = isProgress(member.status, status) ? this.#pace.waitMs(keyOf(member)) : 0;
    if (againAfterMs > 0) return { isWritten: false, againAfterMs };
    const { name, namespace, uid } = member.metadata;
    const object = { apiVersion: API_VERSION, kind: 'Member', metadata: { name, namespace, uid }, status };
    this.wrote(await this.#statuses.apply(RESOURCES.members, object, { signal }));
    this.#pace.wrote(keyOf(member));
    return { isWritten: true };
  }

  /** The cache may be behind this answer for a moment. */
  wrote(answer: KubeObject): void {
    const { managedFields: _, ...metadata } = answer.metadata;
    const written = { ...answer, metadata } as unknown as Member;
    this.#written.set(nameOf(keyOf(written)), written);
  }

  forget(key: ObjectKey): void {
    this.#written.delete(nameOf(key));
    this.#pace.forget(key);
  }
}

/** Versions of one object grow: since Kubernetes 1.35 that is a promise, and before it was so all the same. */
function isNewer(written: Member, cached: Member): boolean {
  return (
    written.metadata.uid === cached.metadata.uid &&
    Number(written.metadata.resourceVersion) > Number(cached.metadata.resourceVersion)
  );
}
