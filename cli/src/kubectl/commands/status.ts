/** `kubectl collective status [MEMBER]`: one look at a member as the operator sees it. */
import { wallMs } from '@collective/base/clock';
import type { Command } from 'commander';
import type { Format } from '../../output/format.ts';
import { printOne, printRows, type RowsView } from '../../output/table.ts';
import { type Shell, say, writeOut } from '../../shell.ts';
import { type KubeObject, RESOURCES } from '../kube-object.ts';
import { kubeVerb } from '../kube-verb.ts';
import { healthOf } from '../member-health.ts';
import { type MemberObject, memberName } from '../member-object.ts';
import { type MemberRow, memberRow } from '../member-rows.ts';
import { conditionView, eventRows, eventView, NODE_VIEW, notWell, statusLines } from '../member-status.ts';
import { watching } from '../watching.ts';
import { type ClusterSession, memberOf, wantedMembers, withCluster } from '../with-cluster.ts';

const EVENTS_SHOWN = 5;

export function statusCommand(shell: Shell): Command {
  return kubeVerb('status', {
    summary: 'show how members are, and why',
    description:
      'With the name of a member: coordinator, nodes, room, replication, authority, certificates, conditions that are not as they\nshould be, and the latest events. This is what the operator knows; collective status asks the coordinator itself.',
    examples: [
      { line: 'kubectl collective status', says: 'a line for each member' },
      { line: 'kubectl collective status alice', says: 'all about one' },
      { line: 'kubectl collective status alice --watch', says: 'again every two seconds' },
    ],
    many: true,
  })
    .argument('[member]', 'the Member; default: a line for each')
    .option('-w, --watch', 'look again every two seconds until Ctrl-C')
    .action(async (name: string | undefined, { watch = false }: { watch?: boolean }, command: Command) => {
      await withCluster(shell, command, async (session) => {
        if (name === undefined) await watchAll(shell, session, watch);
        else await watchOne(shell, session, name, watch);
      });
    });
}

async function watchAll(shell: Shell, session: ClusterSession, watch: boolean): Promise<void> {
  const { allNamespaces, output, quiet, selector } = session.options;
  const view: RowsView<MemberRow> = {
    columns: [
      ...(allNamespaces ? [{ header: 'NAMESPACE', cell: ({ namespace }: MemberRow) => namespace }] : []),
      { header: 'MEMBER', cell: ({ name }) => name },
      { header: 'HEALTH', cell: ({ health }) => health },
      { header: 'WHY', cell: ({ why }) => why ?? '-' },
    ],
    name: ({ name }) => `member.collective.storage/${name}`,
  };
  const show = async (members: readonly MemberObject[]): Promise<void> => {
    const nowMs = wallMs(shell.clock);
    await printRows(
      shell,
      output,
      members.map((member) => memberRow(member, nowMs)),
      view,
    );
    if (members.length > 0 || quiet) return;
    const where = allNamespaces ? 'in this cluster' : `in namespace ${session.namespace}`;
    await say(shell, `No members ${selector === undefined ? '' : 'with these labels '}${where}.`);
  };
  await watching(shell, { watch }, () => wantedMembers(session), show);
}

async function watchOne(shell: Shell, session: ClusterSession, name: string, watch: boolean): Promise<void> {
  const { allNamespaces, selector, output } = session.options;
  // Refuses the flags that choose several.
  if (allNamespaces || selector !== undefined) await wantedMembers(session, name);
  const look = async (): Promise<{ member: MemberObject; events: readonly KubeObject[] }> => {
    const [member, events] = await Promise.all([memberOf(session, name), eventsOf(session, name)]);
    return { member, events };
  };
  await watching(shell, { watch }, look, async ({ member, events }) => {
    if (output === 'table' || output === 'wide') await printStatus(shell, output, member, events);
    else await printOne(shell, output, member, { columns: [], name: memberName, object: statusObject });
  });
}

async function eventsOf({ api, namespace, signal }: ClusterSession, name: string): Promise<readonly KubeObject[]> {
  const fieldSelector = `involvedObject.kind=Member,involvedObject.name=${name}`;
  return await api.list(RESOURCES.events, { namespace, fieldSelector, signal });
}

async function printStatus(
  shell: Shell,
  format: Extract<Format, 'table' | 'wide'>,
  member: MemberObject,
  events: readonly KubeObject[],
): Promise<void> {
  const nowMs = wallMs(shell.clock);
  const lines = statusLines(member, nowMs);
  const width = Math.max(...lines.map(([key]) => key.length)) + 2;
  await writeOut(shell.stdout, lines.map(([key, value]) => `${`${key}:`.padEnd(width)}${value}\n`).join(''));
  const nodes = member.status?.nodes ?? [];
  if (nodes.length > 0) {
    await writeOut(shell.stdout, '\n');
    await printRows(shell, format, nodes, NODE_VIEW);
  }
  const conditions = format === 'wide' ? (member.status?.conditions ?? []) : notWell(member);
  if (conditions.length > 0) {
    await writeOut(shell.stdout, '\n');
    await printRows(shell, format, conditions, conditionView(nowMs));
  }
  const rows = eventRows(events);
  if (rows.length > 0) {
    await writeOut(shell.stdout, '\n');
    await printRows(shell, format, format === 'wide' ? rows : rows.slice(0, EVENTS_SHOWN), eventView(nowMs));
  }
}

function statusObject(member: MemberObject): object {
  const { metadata, status = {} } = member;
  return { namespace: metadata.namespace, name: metadata.name, health: healthOf(member), ...status };
}
