/** `kubectl collective rotate-ca MEMBER`: orders the next generation of its authority (T6), and can wait for the end. */
import { wallMs } from '@collective/base/clock';
import type { Command } from 'commander';
import { printRows } from '../../output/table.ts';
import { type Shell, say } from '../../shell.ts';
import { duration } from '../../verb.ts';
import { awaitMember } from '../awaiting.ts';
import { isRotated, rotatedText, rotationOrder, rotationStep } from '../ca-rotation.ts';
import { certificateRows, certificateView } from '../certificate-rows.ts';
import { annotateMember } from '../changing.ts';
import { kubeVerb } from '../kube-verb.ts';
import { withCluster } from '../with-cluster.ts';

/** A connected peer that does not follow is waited for up to days (spec.ca.overlap): by default we wait for less than that. */
const WAIT_MS = 3_600_000;

export function rotateCaCommand(shell: Shell): Command {
  return kubeVerb('rotate-ca', {
    summary: 'replace the authority of a member by a new one, without an outage',
    description:
      'The operator makes the next generation, lets everybody trust both, issues all certificates anew and after spec.ca.overlap takes the old\none away; what is connected stays so. It goes on by itself: --wait shows its steps and ends when all certificates are of the new authority.',
    examples: [
      { line: 'kubectl collective rotate-ca alice', says: 'give the order' },
      {
        line: 'kubectl collective rotate-ca alice --wait --timeout 8h',
        says: 'and wait until all certificates are new',
      },
    ],
  })
    .argument('<member>', 'the Member')
    .option('-w, --wait', 'until all certificates are of the new authority')
    .addOption(duration('--timeout <duration>', 'how long to wait with --wait', WAIT_MS))
    .action(async (name: string, { wait, timeout }: { wait?: boolean; timeout: number }, command: Command) => {
      await withCluster(shell, command, async (session) => {
        const { quiet, output } = session.options;
        const value = new Date(wallMs(shell.clock)).toISOString();
        const { member } = await annotateMember(session, name, (seen) => rotationOrder(seen, value));
        const next = (member.status?.ca?.generation ?? 0) + 1;
        if (!quiet) await say(shell, `Generation ${next} of the authority of ${name} is ordered.`);
        if (!wait) {
          if (!quiet) await say(shell, `'kubectl collective status ${name} --watch' shows how far it is.`);
          return;
        }
        const rotated = await awaitMember(shell, session, {
          member: name,
          what: `Rotate the authority of ${name}`,
          withinMs: timeout,
          isDone: (seen) => isRotated(seen, value),
          step: (seen) => rotationStep(seen, value),
        });
        if (!quiet) await say(shell, rotatedText(rotated));
        const rows = certificateRows([rotated], [], wallMs(shell.clock));
        await printRows(shell, output, rows, certificateView(false));
      });
    });
}
