/** `kubectl collective drain MEMBER NODE...`: has nodes emptied and removed by the operator (K2), or kept after all. */
import { CollectiveError } from '@collective/base/errors';
import type { Command } from 'commander';
import { printRows } from '../../output/table.ts';
import { type Shell, say } from '../../shell.ts';
import { duration } from '../../verb.ts';
import { awaitMember } from '../awaiting.ts';
import { annotateMember } from '../changing.ts';
import { kubeVerb } from '../kube-verb.ts';
import { NODE_VIEW } from '../member-status.ts';
import { drainList, drainOrder, drainStep, isGone, orderSaid } from '../node-drain.ts';
import { withCluster } from '../with-cluster.ts';

/** Terabytes take their time. */
const WAIT_MS = 24 * 3_600_000;

interface DrainOptions {
  readonly wait?: boolean;
  readonly undo?: boolean;
  readonly timeout: number;
}

export function drainCommand(shell: Shell): Command {
  return kubeVerb('drain', {
    summary: 'have storage nodes emptied and removed',
    description:
      'Everything on them is copied elsewhere first; they serve what they have until then, and go only when the coordinator says that nothing\nis left. A pool whose spec.nodePools[].replicas stays as it is gets a new node in place of one that went. This is about storage nodes\nof a member: kubectl drain is about machines.',
    examples: [
      { line: 'kubectl collective drain alice rack-1 --wait', says: 'and wait until it is gone' },
      { line: 'kubectl collective drain alice rack-1 --undo', says: 'keep it after all' },
      { line: 'kubectl collective drain alice', says: 'which are to be drained?' },
    ],
  })
    .argument('<member>', 'the Member')
    .argument('[nodes...]', 'its nodes, as status shows them; none: show those that are to be drained')
    .option('-w, --wait', 'until they are gone')
    .option('--undo', 'keep these nodes: what was copied stays where it is')
    .addOption(duration('--timeout <duration>', 'how long to wait with --wait', WAIT_MS))
    .action(async (name: string, nodes: string[], options: DrainOptions, command: Command) => {
      const { wait = false, undo = false, timeout } = options;
      if (undo && (wait || nodes.length === 0)) {
        throw new CollectiveError(
          'invalid_argument',
          `Keep nodes of ${name}: --undo takes names, and nothing to wait for`,
        );
      }
      await withCluster(shell, command, async (session) => {
        const { quiet, output } = session.options;
        const { member, changed } = await annotateMember(session, name, (seen) => drainOrder(seen, { nodes, undo }));
        let seen = member;
        if (nodes.length > 0 && !quiet) {
          await say(shell, orderSaid(member, { nodes, undo }, changed));
        }
        if (wait) {
          const waitedFor = nodes.length > 0 ? nodes : drainList(member);
          seen = await awaitMember(shell, session, {
            member: name,
            what: `Drain ${waitedFor.join(', ')} of ${name}`,
            withinMs: timeout,
            isDone: (now) => isGone(now, waitedFor),
            step: (now) => drainStep(now, waitedFor),
          });
          if (!quiet) await say(shell, `Gone: ${waitedFor.join(', ')}.`);
        }
        const listed = drainList(seen);
        const rows = (seen.status?.nodes ?? []).filter((node) => listed.includes(node.name));
        const isTable = output === 'table' || output === 'wide';
        if (rows.length > 0 || !isTable) await printRows(shell, output, rows, NODE_VIEW);
        else if (nodes.length === 0 && !wait && !quiet) await say(shell, `No node of ${name} is to be drained.`);
      });
    });
}
