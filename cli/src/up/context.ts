/**
 * The context through which the person who started a member uses it: made or brought up to date at every start, current
 * when none is. Its last step is the proof that the member works: a session, and every node in touch.
 */

import { sleep } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { formatHostPort } from '@collective/base/host-port';
import { connectTo } from '../member-session.ts';
import type { Shell } from '../shell.ts';
import { coordinatorPorts } from './layout.ts';
import type { UpPlan } from './up-plan.ts';
import type { UpContext } from './welcome.ts';

const NODES_WITHIN_MS = 30_000;
const LOOK_EVERY_MS = 100;

export async function makeUpContext(shell: Shell, plan: UpPlan, signal: AbortSignal): Promise<UpContext> {
  const { ContextStore, contextLocation } = await import('@collective/client');
  const store = new ContextStore(contextLocation(shell.env));
  const taken = (await store.list()).find(({ name }) => name === plan.member);
  // A context of this name for another member is somebody's: it stays, ours gets the long name.
  const name = taken === undefined || taken.trustDomain === plan.trustDomain ? plan.member : plan.trustDomain;
  const context = await store.set(name, {
    coordinator: formatHostPort({ host: plan.advertise, port: coordinatorPorts(plan.portBase).port }),
    trustDomain: plan.trustDomain,
    credentials: plan.folder.user,
  });
  await using member = await connectTo(context, signal);
  const startedMs = shell.clock.bootMs();
  for (;;) {
    const nodes = await member.admin.nodes({ signal });
    const missing = plan.nodeNames.filter(
      (wanted) => !nodes.some((node) => node.name === wanted && isInTouch(node.state)),
    );
    if (missing.length === 0) return { name, current: context.current };
    if (shell.clock.bootMs() - startedMs > NODES_WITHIN_MS) {
      throw new CollectiveError('deadline_exceeded', `Wait for ${missing.join(', ')} to register with the coordinator`);
    }
    await sleep(shell.clock, LOOK_EVERY_MS, signal);
  }
}

function isInTouch(state: string): boolean {
  return state === 'ready' || state === 'full';
}
