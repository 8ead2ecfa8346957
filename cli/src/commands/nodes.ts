/** `collective nodes`: the storage nodes as the coordinator sees them, and what they are for. */
import { formatByteSize } from '@collective/base/byte-size';
import { sleep } from '@collective/base/clock';
import type { NodeDuty, NodeHolding, NodeStatus } from '@collective/client';
import type { Command } from 'commander';
import { type AdminSession, withAdmin } from '../member-session.ts';
import { nodeView } from '../output/node-view.ts';
import { Progress } from '../output/progress.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import type { Shell } from '../shell.ts';
import { noun, verb } from '../verb.ts';
import { rebalanceVerb } from './nodes-rebalance.ts';
import { scrubVerb } from './nodes-scrub.ts';

const LOOK_EVERY_MS = 2_000;

const VIEW: RowsView<NodeHolding> = {
  columns: [
    { header: 'NAME', cell: ({ name }) => name },
    { header: 'DUTY', cell: ({ duty }) => duty },
    { header: 'STATE', cell: ({ state }) => state },
    { header: 'CHUNKS', cell: ({ chunks }) => String(chunks) },
    { header: 'BYTES', cell: ({ bytes }) => formatByteSize(bytes) },
  ],
  name: ({ name }) => name,
};

export function nodesCommand(shell: Shell): Command {
  return noun(
    'nodes',
    'list the storage nodes, drain, scrub and remove them',
    [
      listVerb(shell),
      drainVerb(shell),
      dutyVerb(shell, 'cordon', 'cordoned', {
        summary: 'let a node take no new chunks; what it has stays and is served',
        example: 'before work on its machine',
      }),
      dutyVerb(shell, 'uncordon', 'active', {
        summary: 'let a node take chunks again; a drain ends',
        example: 'after work on its machine',
      }),
      scrubVerb(shell),
      rebalanceVerb(shell),
      removeVerb(shell),
    ],
    [
      { line: 'collective nodes list -o wide', says: 'state, room, addresses, disks' },
      { line: 'collective nodes drain node-2 --wait', says: 'so that it can go' },
    ],
  );
}

function listVerb(shell: Shell): Command {
  return verb('list', {
    summary: 'list the storage nodes',
    examples: [
      { line: 'collective nodes list', says: 'state, room, last heartbeat' },
      { line: 'collective nodes list -o wide', says: 'with address, disk and certificate' },
      { line: 'collective nodes list -o name', says: 'names only' },
    ],
  })
    .alias('ls')
    .action(async (_options: unknown, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const nodes: readonly NodeStatus[] = await admin.nodes({ signal });
        await printRows(shell, globals.output, nodes, nodeView(shell.clock.now()));
      });
    });
}

function drainVerb(shell: Shell): Command {
  return verb('drain', {
    summary: 'move everything away from a node, so that it can go',
    description:
      'The node serves what it has until a copy lies elsewhere. With --wait the command ends when nothing is left; without it, ask\nagain with the same line. collective nodes uncordon ends a drain.',
    examples: [
      { line: 'collective nodes drain node-2 --wait', says: 'and tell when nothing is left' },
      { line: 'collective nodes drain node-2 --wait --timeout 6h', says: 'but for so long only' },
    ],
  })
    .argument('<name>', 'the node')
    .option('-w, --wait', 'until nothing is left')
    .action(async (name: string, { wait }: { wait?: boolean }, command: Command) => {
      await withAdmin(shell, command, async (session) => {
        const first = await session.admin.setNodeDuty(name, 'draining', { signal: session.signal });
        const holding = wait ? await untilEmpty(shell, session, first) : first;
        await printOne(shell, session.globals.output, holding, VIEW);
        if (holding.chunks === 0 && !session.globals.quiet)
          shell.stderr.write(`Nothing is left on ${name}: collective nodes remove ${name}\n`);
      });
    });
}

async function untilEmpty(
  shell: Shell,
  { admin, globals, signal }: AdminSession,
  first: NodeHolding,
): Promise<NodeHolding> {
  const progress = new Progress(shell, { quiet: globals.quiet });
  let holding = first;
  let totalBytes = first.bytes;
  while (holding.chunks > 0) {
    // Writes that were under way when it began may still add to it.
    totalBytes = Math.max(totalBytes, holding.bytes);
    progress.update({ doneBytes: totalBytes - holding.bytes, totalBytes, doneFiles: 0 });
    await sleep(shell.clock, LOOK_EVERY_MS, signal);
    // Rough while something is left; that nothing is left is counted.
    holding = await admin.nodeHolding(first.name, { rough: true, signal });
  }
  progress.clear();
  return holding;
}

function dutyVerb(shell: Shell, name: string, duty: NodeDuty, says: { summary: string; example: string }): Command {
  return verb(name, {
    summary: says.summary,
    examples: [{ line: `collective nodes ${name} node-2`, says: says.example }],
  })
    .argument('<name>', 'the node')
    .action(async (node: string, _options: unknown, command: Command) => {
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        await printOne(shell, globals.output, await admin.setNodeDuty(node, duty, { signal }), VIEW);
      });
    });
}

function removeVerb(shell: Shell): Command {
  return verb('remove', {
    summary: 'let the member forget a node on which nothing is left',
    description:
      'Refused while the node runs, takes new chunks, or chunks lie there. --force is for a node that will never come back:\nwhat lay there is made anew from other copies. If it has the only copy of something, that is said, and --lose-data as well gives it up.\nA removed node that registers again is a new one.',
    examples: [
      { line: 'collective nodes remove node-2', says: 'drained and stopped' },
      { line: 'collective nodes remove node-2 --force', says: 'its machine burnt' },
    ],
  })
    .argument('<name>', 'the node')
    .option('--force', 'although chunks lie there')
    .option('--lose-data', 'with --force: also the only copy of a chunk')
    .action(async (name: string, options: { force?: boolean; loseData?: boolean }, command: Command) => {
      const { force = false, loseData: loseLastCopies = false } = options;
      await withAdmin(shell, command, async ({ admin, globals, signal }) => {
        const removed = await admin.removeNode(name, { force, loseLastCopies, signal });
        await printOne(shell, globals.output, removed, VIEW);
      });
    });
}
