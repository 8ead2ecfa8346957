/** What operators have done, as the audit log of the apiserver has it. */
import type { AuditEvent } from './audit-tail.ts';
import { NAMESPACE } from './member-world.ts';
import { OPERATOR_ACCOUNT } from './operator-account.ts';

/** Every change in the namespace of the members: "201 patch services alice-coordinator" is one that was made. */
export function deedsIn(events: readonly AuditEvent[]): string[] {
  return events
    .filter(({ user, verb }) => user.username === OPERATOR_ACCOUNT.user && !['get', 'list', 'watch'].includes(verb))
    .filter(({ objectRef }) => objectRef?.namespace === NAMESPACE && objectRef.resource !== 'events')
    .map(({ verb, objectRef, responseStatus }) =>
      [responseStatus?.code, verb, objectRef?.resource, objectRef?.name].join(' '),
    );
}

export function doneTwice(deeds: readonly string[]): string[] {
  return deeds.filter((deed, index) => deeds.indexOf(deed) !== index);
}
