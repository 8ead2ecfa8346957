/**
 * What the replicas of a member's chunks mean for it: the condition ReplicationHealthy, and who may be away or start anew meanwhile
 * (K2). What is lost is told until somebody has seen to it, and holds nothing up: no wait and no node brings it back.
 */
import type { CoordinatorAnswer, CoordinatorStatus } from '../coordinator/coordinator-answer.ts';
import type { ReplicationGate } from './plan-rollout.ts';
import type { PlannedCondition } from './plan-types.ts';

type Replication = CoordinatorStatus['replication'];

/** A coordinator counts no further. */
const COUNTED_MAX = 10_000;

export function replicationCondition(answer: CoordinatorAnswer): PlannedCondition {
  if (answer.state !== 'answered') {
    return {
      status: 'Unknown',
      reason: 'CoordinatorSilent',
      message: `The coordinator cannot be asked: ${answer.why}`,
    };
  }
  const { replication } = answer.status;
  const troubles = troublesOf(replication);
  const [worst] = troubles;
  if (worst !== undefined)
    return { status: 'False', reason: worst.reason, message: troubles.map(({ says }) => says).join('. ') };
  if (replication.counting)
    return { status: 'Unknown', reason: 'Counting', message: 'Nodes have changed: all chunks are looked at' };
  return { status: 'True', reason: 'Replicated', message: 'Every chunk lies on as many nodes as it should' };
}

/** A node that starts anew makes what has no copy left no worse, and must not be kept from the image that mends it. */
export function replicationGate(answer: CoordinatorAnswer): ReplicationGate {
  const { message: why } = replicationCondition(answer);
  if (answer.state !== 'answered') return { isHealthy: false, why };
  const { replication } = answer.status;
  return { isHealthy: !isShort(replication) && !replication.counting, why };
}

/** No node is needed more than others: one may be evicted, for however long. */
export function hasAllReplicas(answer: CoordinatorAnswer): boolean {
  return replicationGate(answer).isHealthy && answer.state === 'answered' && answer.status.replication.unreadable === 0;
}

interface ReplicationTrouble {
  readonly reason: string;
  readonly says: string;
}

/** What asks for somebody comes before what mends itself. */
function troublesOf(replication: Replication): ReplicationTrouble[] {
  const { unreadable, lost, waiting } = replication;
  const troubles: ReplicationTrouble[] = [];
  if (unreadable > 0) {
    const says = 'No sound copy is left of some chunks; `collective verify / --only-bad` names the files';
    troubles.push({ reason: 'Unreadable', says });
  }
  if (lost > 0) {
    const blocks =
      lost === 1
        ? '1 block lost what was written last and shows'
        : `${lost} blocks lost what was written last and show`;
    const says = `${blocks} what was before; \`collective events --kind block-reverted\` names the files: write them again, then \`collective maintenance settle-losses\``;
    troubles.push({ reason: 'BlocksLost', says });
  }
  if (isShort(replication)) {
    const waits = waiting.map(({ chunks, says }) => `; ${chunks} wait: ${says}`).join('');
    troubles.push({ reason: 'UnderReplicated', says: `Chunks lack replicas and are copied${waits}` });
  }
  return troubles;
}

/** Those without any sound copy are among those that lack replicas, and both counts end at a bound. */
function isShort({ underReplicated, unreadable }: Replication): boolean {
  return underReplicated > unreadable || underReplicated >= COUNTED_MAX;
}
