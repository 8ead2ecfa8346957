/** `kubectl collective certs [MEMBER]`: which certificates end when, and which authority each is of. */
import { wallMs } from '@collective/base/clock';
import type { Command } from 'commander';
import { printRows } from '../../output/table.ts';
import { type Shell, say } from '../../shell.ts';
import { certificateRows, certificateView } from '../certificate-rows.ts';
import { isRefused } from '../kube-api.ts';
import { type KubeObject, RESOURCES } from '../kube-object.ts';
import { kubeVerb } from '../kube-verb.ts';
import { type ClusterSession, wantedMembers, withCluster } from '../with-cluster.ts';

export function certsCommand(shell: Shell): Command {
  return kubeVerb('certs', {
    summary: 'show authorities and certificates of members, and when they end',
    description:
      'The soonest end stands first. With -o wide also what cert-manager says of each, and the fingerprints of authorities.',
    examples: [
      { line: 'kubectl collective certs alice', says: 'of one member' },
      { line: 'kubectl collective certs -A -o wide', says: 'of all, with what cert-manager says' },
    ],
    many: true,
  })
    .argument('[member]', 'the Member; default: all')
    .action(async (name: string | undefined, _options: unknown, command: Command) => {
      await withCluster(shell, command, async (session) => {
        const { allNamespaces, output } = session.options;
        const [members, certificates] = await Promise.all([
          wantedMembers(session, name),
          certificatesOf(shell, session),
        ]);
        const rows = certificateRows(members, certificates, wallMs(shell.clock));
        await printRows(shell, output, rows, certificateView(allNamespaces));
      });
    });
}

/** What the Members themselves say is enough: without cert-manager, or without the right to look, its word is left out. */
async function certificatesOf(shell: Shell, session: ClusterSession): Promise<readonly KubeObject[]> {
  const { api, options, namespace, signal } = session;
  try {
    return await api.list(RESOURCES.certificates, { namespace: options.allNamespaces ? undefined : namespace, signal });
  } catch (thrown) {
    if (!isRefused(thrown, 403, 404)) throw thrown;
    if (!options.quiet) await say(shell, `Without the word of cert-manager: ${thrown.message}.`);
    return [];
  }
}
