/** Calls to an apiserver by what they are, from its audit log: "patch statefulsets", "list secrets". */
import type { AuditEvent } from './audit-tail.ts';

const READING = new Set(['get', 'list', 'watch']);

/** Of a program, without open watches and what keeps its Lease. */
export function callsOf(events: readonly AuditEvent[], userAgent: string): readonly AuditEvent[] {
  return events.filter(
    (event) => event.userAgent?.startsWith(userAgent) === true && event.verb !== 'watch' && !isOfLease(event),
  );
}

export function isWrite({ verb }: AuditEvent): boolean {
  return !READING.has(verb);
}

/** The most frequent first. */
export function countCalls(events: readonly AuditEvent[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const event of events) counts.set(nameOf(event), (counts.get(nameOf(event)) ?? 0) + 1);
  return new Map([...counts].sort(([, one], [, other]) => other - one));
}

function nameOf({ verb, objectRef, requestURI }: AuditEvent): string {
  const { resource, subresource } = objectRef ?? {};
  const what = resource ?? requestURI.split('?', 1)[0] ?? '';
  return `${verb} ${what}${subresource === undefined ? '' : `/${subresource}`}`;
}

function isOfLease({ objectRef }: AuditEvent): boolean {
  return objectRef?.resource === 'leases';
}
