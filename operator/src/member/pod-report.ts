/** What the container of a finished pod left as its message: JSON of `--report` when it went well, the end of its log otherwise. */
import type { KubeObject } from '../kube/kube-object.ts';
import { partOf } from '../kube/object-facts.ts';

export interface PodReport {
  readonly exitCode: number;
  readonly finishedAt: string;
  readonly text: string;
  /** Absent where it is no JSON. */
  readonly told?: unknown;
}

export function podReport(pod: KubeObject): PodReport | undefined {
  const statuses = partOf(pod.status, 'containerStatuses');
  const [first] = Array.isArray(statuses) ? (statuses as unknown[]) : [];
  const ended = partOf(partOf(first, 'state'), 'terminated');
  const exitCode = partOf(ended, 'exitCode');
  if (typeof exitCode !== 'number') return undefined;
  const text = String(partOf(ended, 'message') ?? '').trim();
  return { exitCode, finishedAt: String(partOf(ended, 'finishedAt') ?? ''), text, ...parsed(text) };
}

function parsed(text: string): { readonly told?: unknown } {
  try {
    return { told: JSON.parse(text) as unknown };
  } catch {
    // Words for people.
    return {};
  }
}
