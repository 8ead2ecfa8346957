/** What is said when the member is ready: where it is and the three commands to try next. */
import { formatByteSize } from '@collective/base/byte-size';
import { coordinatorPorts } from './layout.ts';
import type { UpPlan } from './up-plan.ts';

export interface UpContext {
  readonly name: string;
  readonly current: boolean;
}

export function welcomeLines(
  plan: UpPlan,
  context: UpContext,
  env: Readonly<Record<string, string | undefined>>,
): string[] {
  const program = programName(env);
  const flag = context.current ? '' : ` --context ${context.name}`;
  return [
    '',
    `Member ${plan.trustDomain} is ready: coordinator ${plan.advertise}:${coordinatorPorts(plan.portBase).port}, ${plan.nodes} ${plan.nodes === 1 ? 'node' : 'nodes'} of ${formatByteSize(plan.capacityBytes)}.`,
    `Data: ${plan.folder.root}   Context: ${context.name}${context.current ? ' (current)' : ''}`,
    '',
    'Try:',
    `  ${program} cp${flag} README.md collective:/`,
    `  ${program} ls -l${flag} /`,
    `  ${program} status${flag}`,
    '',
  ];
}

/** Who started us through npm may have no `collective` on the path of a second terminal. */
function programName(env: Readonly<Record<string, string | undefined>>): string {
  return env.npm_lifecycle_event === undefined ? 'collective' : 'npx collective';
}
