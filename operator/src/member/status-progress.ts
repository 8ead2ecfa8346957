/**
 * What of a status moves all the time while a member comes up or is at work: counts, sentences, and nodes that start. Everything
 * else is told at once: conditions that change, what planners need again (T6, K3), and steps that people and programs wait for.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Condition } from '../api/condition.ts';
import type { MemberStatus } from '../api/member.ts';

/** A part that runs, or is about to; that all of them do is the matter of a condition. */
const RUNS: ReadonlySet<string> = new Set(['Pending', 'Starting', 'Ready']);

/** Nothing would be missed if the next status took its place. */
export function isProgress(before: MemberStatus | undefined, after: MemberStatus): boolean {
  return before !== undefined && isDeepStrictEqual(lasting(before), lasting(after));
}

export function withoutMessages(conditions: readonly Condition[] = []): object[] {
  return conditions.map(({ message: _, ...condition }) => condition);
}

function lasting(status: MemberStatus): object {
  const { nodesReady: _n, capacity: _c, used: _u, replication: _r, certificates: _s, ...rest } = status;
  const { coordinator, nodes, conditions } = rest;
  return {
    ...rest,
    conditions: withoutMessages(conditions),
    coordinator: coordinator === undefined ? undefined : withoutSteps(coordinator),
    nodes: nodes?.map(({ capacity: _c, used: _u, leftChunks: _l, ...node }) => withoutSteps(node)),
  };
}

function withoutSteps<Part extends { readonly state: string; readonly image?: string }>({
  image: _,
  state,
  ...part
}: Part): object {
  return { ...part, state: RUNS.has(state) ? 'runs' : state };
}
