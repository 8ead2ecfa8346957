/** From what is so now to conditions as Kubernetes has them: the time of a transition changes only with the status. */
import type { PlannedCondition } from '../member/plan-types.ts';
import type { Condition } from './condition.ts';

export interface ConditionsFacts {
  readonly previous: readonly Condition[];
  readonly nowMs: number;
  readonly observedGeneration: number | undefined;
}

export function setConditions(
  planned: Readonly<Record<string, PlannedCondition>>,
  { previous, nowMs, observedGeneration }: ConditionsFacts,
): Condition[] {
  const now = `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
  return Object.entries(planned).map(([type, { status, reason, message }]) => {
    const before = previous.find((condition) => condition.type === type);
    return {
      type,
      status,
      reason,
      message: message.slice(0, MESSAGE_CHARACTERS_MAX),
      lastTransitionTime: before?.status === status ? before.lastTransitionTime : now,
      ...(observedGeneration === undefined ? {} : { observedGeneration }),
    };
  });
}

/** As meta/v1 has it. */
const MESSAGE_CHARACTERS_MAX = 32_768;
