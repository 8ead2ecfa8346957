/**
 * Orders to the operator are annotations of a Member (K2, T6): read, decided, and written only onto what was read. Who
 * changed the Member in between makes us read and decide again.
 */
import { CollectiveError } from '@collective/base/errors';
import { isRefused } from './kube-api.ts';
import { RESOURCES } from './kube-object.ts';
import type { MemberObject } from './member-object.ts';
import { type ClusterSession, memberOf } from './with-cluster.ts';

const TRIES = 5;

/** Null takes the annotation away. */
export type Annotations = Readonly<Record<string, string | null>>;

/** `decide` answers undefined when nothing has to change. Resolves with the Member as it is then. */
export async function annotateMember(
  session: ClusterSession,
  name: string,
  decide: (member: MemberObject) => Annotations | undefined,
): Promise<{ readonly member: MemberObject; readonly changed: boolean }> {
  for (let tries = 1; ; tries++) {
    const member = await memberOf(session, name);
    if (member.metadata.deletionTimestamp !== undefined) {
      throw new CollectiveError('busy', `Change member ${name}: it is being deleted`, {
        todo: `'kubectl collective status ${name}' says what that waits for.`,
      });
    }
    const annotations = decide(member);
    if (annotations === undefined) return { member, changed: false };
    const { resourceVersion } = member.metadata;
    try {
      const change = { metadata: { resourceVersion, annotations } };
      const changed = await session.api.patch(RESOURCES.members, member, change, session.signal);
      return { member: changed as MemberObject, changed: true };
    } catch (thrown) {
      if (!isRefused(thrown, 409) || tries === TRIES) throw thrown;
    }
  }
}
