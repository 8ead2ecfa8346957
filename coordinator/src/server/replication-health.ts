/** What status says of replicas (D8): how many chunks are short, how much is to be copied, and why what waits does. */
import type { NodeName } from '@collective/base/ids';
import type { NodeStatus, ReplicationHealth, WaitingChunks } from '@collective/protocol/gen/admin';
import { LEFT_REASONS, type LeftCounts } from '../jobs/repair.ts';
import type { ReplicaFigures } from '../jobs/replica-keeping.ts';
import type { MemberState } from '../member-state.ts';
import { prefixEnd } from '../tables/table.ts';
import { REPAIR_ORDER, TO_MOVE, UNDER_REPLICATED, UNSTABLE } from '../tables/tables.ts';

/** Counted up to here; beyond, "at least" is enough for a person. */
const COUNTED_MAX = 10_000;

export async function replicationHealth(state: MemberState): Promise<ReplicationHealth> {
  const { core, nodes, background, events } = state;
  const { repair, mover, bytesPerSecond, counting } = background.replicas;
  const counted = await core.engine.run((tx) => {
    const notes = (sound: number): number => {
      const prefix = REPAIR_ORDER.prefix + String.fromCharCode(sound);
      return tx.scan(REPAIR_ORDER, prefix, prefixEnd(prefix), COUNTED_MAX).length;
    };
    return {
      underReplicated: tx.scan(
        UNDER_REPLICATED,
        UNDER_REPLICATED.prefix,
        prefixEnd(UNDER_REPLICATED.prefix),
        COUNTED_MAX,
      ).length,
      unstable: tx.scan(UNSTABLE, UNSTABLE.prefix, prefixEnd(UNSTABLE.prefix), COUNTED_MAX).length,
      toMove: notes(TO_MOVE),
      unreadable: notes(0),
    };
  });
  return {
    ...counted,
    replicas: nodes.status().reduce((sum, node) => sum + node.chunks, 0),
    lost: events.latest.filter(({ kind }) => kind === 'block-reverted').length,
    bytesToRepair: repair.leftBytes,
    restSeconds: bytesPerSecond >= 1 ? Math.ceil(repair.leftBytes / bytesPerSecond) : 0,
    repairedBytes: mover.copiedBytes,
    waiting: waitingChunks(repair.left),
    failure: repair.failure ?? '',
    counting,
  };
}

/** What is left on a node that is to be emptied. */
export function withDrain(node: NodeStatus, { loads, repair }: ReplicaFigures): NodeStatus {
  if (node.duty !== 'draining') return node;
  const name = node.name as NodeName;
  const { chunks, bytes } = loads.get(name) ?? { chunks: 0, bytes: 0 };
  const waiting = repair.leftOn.get(name) ?? new Map();
  return { ...node, leftChunks: chunks, leftBytes: bytes, waiting: waitingChunks(waiting) };
}

function waitingChunks(counts: LeftCounts): WaitingChunks[] {
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([reason, chunks]) => ({ reason, says: LEFT_REASONS[reason], chunks }));
}
