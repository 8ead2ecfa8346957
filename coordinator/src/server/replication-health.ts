/** What status says of replicas (D8): how many chunks are short, how much is to be copied, and why what waits does. */
import type { NodeName } from '@collective/base/ids';
import type { NodeStatus, ReplicationHealth, WaitingChunks } from '@collective/protocol/gen/admin';
import type { Background } from '../jobs/background.ts';
import { LEFT_REASONS, type LeftCounts } from '../jobs/repair.ts';
import type { MemberState } from '../member-state.ts';
import { countReplication } from './replication-counts.ts';

export async function replicationHealth(state: MemberState): Promise<ReplicationHealth> {
  const { core, nodes, background } = state;
  const { repair, mover, restSeconds, counting } = background.replicas;
  const counted = await countReplication(core.engine);
  return {
    ...counted,
    replicas: nodes.status().reduce((sum, node) => sum + node.chunks, 0),
    bytesToRepair: repair.leftBytes,
    restSeconds,
    repairedBytes: mover.copiedBytes,
    waiting: waitingChunks(repair.left),
    failure: repair.failure ?? '',
    counting,
  };
}

/** What is left on a node that is to be emptied. */
export function withDrain(node: NodeStatus, background: Background): NodeStatus {
  if (node.duty !== 'draining') return node;
  const name = node.name as NodeName;
  const { chunks, bytes } = background.loadOf(name) ?? { chunks: 0, bytes: 0 };
  const waiting = background.replicas.repair.leftOn.get(name) ?? new Map();
  return { ...node, leftChunks: chunks, leftBytes: bytes, waiting: waitingChunks(waiting) };
}

function waitingChunks(counts: LeftCounts): WaitingChunks[] {
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([reason, chunks]) => ({ reason, says: LEFT_REASONS[reason], chunks }));
}
