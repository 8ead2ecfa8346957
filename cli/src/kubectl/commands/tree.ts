/** `kubectl collective tree [COLLECTIVE]`: Collectives, members, coordinators, nodes, pods and volumes at one look. */
import { CollectiveError } from '@collective/base/errors';
import type { Command } from 'commander';
import { printable } from '../../output/printable.ts';
import { printRows } from '../../output/table.ts';
import { type Shell, say, writeOut } from '../../shell.ts';
import { type KubeObject, RESOURCES, type Resource } from '../kube-object.ts';
import { kubeVerb } from '../kube-verb.ts';
import { type CollectiveObject, OF_MEMBERS } from '../member-object.ts';
import { drawn, type TreeItem, treesOf } from '../member-tree.ts';
import { watching } from '../watching.ts';
import { type ClusterSession, wantedMembers, withCluster } from '../with-cluster.ts';

export function treeCommand(shell: Shell): Command {
  return kubeVerb('tree', {
    summary: 'draw Collectives, members and what they are made of',
    description: 'What should be there and is not stands as MISSING; volumes that no node uses any more come last.',
    examples: [
      { line: 'kubectl collective tree', says: 'of the namespace' },
      { line: 'kubectl collective tree photos -o json', says: 'of one Collective, for programs' },
    ],
    many: true,
  })
    .argument('[collective]', 'the Collective; default: all')
    .option('-w, --watch', 'look again every two seconds until Ctrl-C')
    .action(async (name: string | undefined, { watch = false }: { watch?: boolean }, command: Command) => {
      await withCluster(shell, command, async (session) => {
        await watching(
          shell,
          { watch },
          () => look(session, name),
          (trees) => show(shell, session, trees),
        );
      });
    });
}

interface Tree extends TreeItem {
  readonly namespace: string;
}

async function look(session: ClusterSession, name: string | undefined): Promise<Tree[]> {
  const { api, options, namespace, signal } = session;
  const where = { namespace: options.allNamespaces ? undefined : namespace, signal };
  const parts = (resource: Resource): Promise<KubeObject[]> =>
    api.list(resource, { ...where, labelSelector: OF_MEMBERS });
  const [members, collectives, pods, volumeClaims] = await Promise.all([
    wantedMembers(session),
    api.list(RESOURCES.collectives, where) as Promise<CollectiveObject[]>,
    parts(RESOURCES.pods),
    parts(RESOURCES.volumeClaims),
  ]);
  const all = { members, collectives, pods, volumeClaims };
  const namespaces = [...new Set([...members, ...collectives].map(({ metadata }) => metadata.namespace ?? ''))].sort();
  const trees = namespaces.flatMap((at) => {
    const here = <One extends KubeObject>(objects: readonly One[]): One[] =>
      objects.filter(({ metadata }) => metadata.namespace === at);
    const objects = {
      members: here(all.members),
      collectives: here(all.collectives),
      pods: here(all.pods),
      volumeClaims: here(all.volumeClaims),
    };
    return treesOf(objects, name).map((tree): Tree => ({ namespace: at, ...tree }));
  });
  if (name !== undefined && trees.length === 0) {
    throw new CollectiveError('not_found', `Draw Collective ${name}: there is none in namespace ${namespace}`, {
      todo: "'kubectl collective tree -A' shows all of them.",
    });
  }
  return trees;
}

async function show(shell: Shell, { options, namespace }: ClusterSession, trees: readonly Tree[]): Promise<void> {
  const { output, allNamespaces, quiet } = options;
  if (output === 'json' || output === 'yaml') {
    await printRows(shell, output, trees, { columns: [], name: ({ name }) => name });
    return;
  }
  if (output === 'name') {
    const names = trees.flatMap(({ name, children }) => [
      `collective.collective.storage/${name}`,
      ...children.map((member) => `member.collective.storage/${member.name}`),
    ]);
    for (const name of names) await writeOut(shell.stdout, `${name}\n`);
    return;
  }
  const lines = trees.flatMap((tree) => {
    const [first = '', ...below] = drawn([tree]);
    return [allNamespaces ? `${tree.namespace}: ${first}` : first, ...below];
  });
  if (lines.length > 0) await writeOut(shell.stdout, `${lines.map(printable).join('\n')}\n`);
  else if (!quiet) await say(shell, allNamespaces ? 'No Collectives.' : `No Collectives in namespace ${namespace}.`);
}
