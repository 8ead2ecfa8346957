/**
 * Whether a program leaves an apiserver in peace: for so long it asks nothing but watches, and what keeps its lease. Counted from
 * the audit log, so nothing that was asked is overlooked; told apart by user agent, so that what the test itself asks counts for nothing.
 */
import { SystemClock } from '@collective/base/system-clock';
import { until } from '../until.ts';
import type { AuditEvent } from './audit-tail.ts';
import type { TestApiServer } from './test-apiserver.ts';

const SHOWN_MAX = 20;
const clock = new SystemClock();

export interface Quiet {
  /** How the program names itself, from the first letter on. */
  readonly userAgent: string;
  readonly forMs: number;
  /** It may have something to do before it comes to rest. */
  readonly withinMs: number;
}

/** Resolves once it has been quiet for that long without a break; fails with what was asked last. */
export async function quiet(server: TestApiServer, { userAgent, forMs, withinMs }: Quiet): Promise<void> {
  const tail = server.auditTail();
  const asked: string[] = [];
  let sinceMs = clock.bootMs();
  await until(
    () => {
      const loud = loudCalls(tail.next(), userAgent);
      asked.push(...loud);
      if (loud.length > 0) sinceMs = clock.bootMs();
      return clock.bootMs() - sinceMs >= forMs;
    },
    `${userAgent} is quiet for ${forMs} ms`,
    withinMs,
    () => asked.slice(-SHOWN_MAX).join('\n'),
  );
}

/** What of it breaks the quiet. */
export function loudCalls(events: readonly AuditEvent[], userAgent: string): string[] {
  return events.filter((event) => event.userAgent?.startsWith(userAgent) === true && !isQuiet(event)).map(describe);
}

function isQuiet({ verb, objectRef }: AuditEvent): boolean {
  return verb === 'watch' || objectRef?.resource === 'leases';
}

function describe({ requestReceivedTimestamp, verb, requestURI, responseStatus }: AuditEvent): string {
  return `${requestReceivedTimestamp} ${verb} ${requestURI} ${responseStatus?.code ?? ''}`;
}
