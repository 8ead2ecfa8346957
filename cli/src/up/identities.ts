/**
 * Authority and certificates of a member on this machine: made on the first start, renewed at later ones when due. In this
 * process, because the coordinator is not running yet and the authority's key lies in its folder.
 */
import { join } from 'node:path';
import { SystemRandom } from '@collective/base/random';
import type { Shell } from '../shell.ts';
import type { UpPlan } from './up-plan.ts';

export async function prepareIdentities({ clock }: Shell, plan: UpPlan, userName: string): Promise<void> {
  // The X.509 library takes a tenth of a second to load: commands that need no certificate do not pay for it.
  const { initialiseMember } = await import('@collective/coordinator/bootstrap');
  const { folder, member, collective, nodeNames } = plan;
  await initialiseMember({
    dataFolder: folder.coordinator,
    member,
    collective,
    nodes: nodeNames.map((name) => ({ name, trustFolder: join(folder.node(name), 'tls') })),
    user: { name: userName, trustFolder: folder.user },
    clock,
    random: new SystemRandom(),
  });
}
