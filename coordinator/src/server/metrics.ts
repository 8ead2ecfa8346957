/** What a coordinator tells Prometheus: read from its parts when somebody looks, so that the hot path counts nothing twice. */
import type { Clock } from '@collective/base/clock';
import type { DiskSpace } from '@collective/base/disk';
import type { NodeStatus } from '@collective/protocol/gen/admin';
import { Gauge, Registry } from 'prom-client';
import type { Background } from '../jobs/background.ts';
import type { KeeperFigures } from '../jobs/keeper.ts';
import type { ReplicaFigures } from '../jobs/replica-keeping.ts';
import type { MemberState } from '../member-state.ts';
import { KeptCounts } from './replication-counts.ts';

export function coordinatorMetrics(clock: Clock, state: MemberState, diskSpace: () => Promise<DiskSpace>): Registry {
  const registry = new Registry();
  new Gauge({
    name: 'collective_coordinator_disk_free_bytes',
    help: 'Room that is left on the disk that holds the metadata',
    registers: [registry],
    async collect() {
      this.set((await diskSpace()).freeBytes);
    },
  });
  const gauge = (name: string, help: string, read: () => number | Promise<number>): void => {
    new Gauge({
      name: `collective_coordinator_${name}`,
      help,
      registers: [registry],
      async collect() {
        this.set(await read());
      },
    });
  };
  const { core, log, nodes, links, background } = state;
  const { engine } = core;
  gauge('metadata_full', '1 while what makes the metadata larger is refused for want of room', () =>
    state.room.isFull ? 1 : 0,
  );
  gauge('sessions', 'Sessions that are attached or may come back', () => core.figures.sessions);
  gauge('promises', 'Inodes on which promises are held', () => core.figures.promises);
  gauge('recalls_sent_total', 'Promises recalled since the start', () => core.figures.recallsSent);
  gauge('recalls_timed_out_total', 'Recalls that ended with a lease', () => core.figures.recallsTimedOut);
  gauge('operations_answered_total', 'Operations answered since the start', () => core.figures.answered);
  gauge('operations_failed_total', 'Operations answered with an error since the start', () => core.figures.failed);
  gauge('operations_resent_total', 'Operations that came again and got their kept answer', () => core.figures.resent);
  gauge(
    'stable_waits_total',
    'Waits for content to be stable before it takes the place of a file',
    () => core.figures.stableWaits,
  );
  gauge('stable_refused_total', 'Such waits that ended with an error', () => core.figures.stableRefused);
  gauge('prefetches_total', 'Reads of the store that operations waited for', () => engine.counters.prefetches);
  gauge('batches_total', 'Batches appended to the log', () => engine.counters.batches);
  gauge('changes_total', 'Rows changed by batches', () => engine.counters.changes);
  gauge('log_position', 'Newest written log position', () => engine.writtenPosition);
  gauge('log_stable_position', 'Newest stable log position', () => engine.stablePosition);
  gauge('log_bytes', 'Size of the log', () => log.sizeBytes);
  gauge('overlay_entries', 'Changes that the store does not show yet', () => engine.memory.overlay);
  gauge('cache_entries', 'Rows kept in memory', () => engine.memory.cache);
  gauge('nodes_connected', 'Storage nodes that have a link', () => links.count);
  gauge('nodes_known', 'Storage nodes that were ever seen', () => nodes.status().length);
  gauge('capacity_bytes', 'What all nodes give', () => nodes.space().capacityBytes);
  gauge('trash_bytes', 'Bytes in the trash of all realms, before replication', () => engine.totalUsage.trashBytes);
  gauge('trash_files', 'Files and directories in the trash of all realms', () => engine.totalUsage.trashInodes);
  gauge('used_bytes', 'Used on all nodes', () => nodes.space().usedBytes);
  gauge(
    'garbage_chunks',
    'Chunks that nothing names, as last counted, and those since',
    () => background.garbage.chunks,
  );
  gauge('garbage_bytes', 'Of these, on all nodes together', () => background.garbage.storedBytes);
  gauge(
    'garbage_condemned_chunks',
    'Of these, not forgotten by all their nodes yet',
    () => background.garbage.condemned,
  );
  gauge('garbage_collected_chunks_total', 'Collected since the start', () => background.garbage.collectedChunks);
  gauge('garbage_collected_bytes_total', 'The same, on all nodes together', () => background.garbage.collectedBytes);
  gauge(
    'garbage_waits_for_nodes',
    'Nodes that could not be told yet to forget garbage',
    () => background.garbage.waitsFor.size,
  );
  gauge('orphans_forgotten_total', 'Orphans that nodes forgot since the start', () => background.orphans.forgotten);
  gauge('orphan_chunks', 'Chunks on nodes that nothing names there, as last counted', () => background.orphans.chunks);
  gauge('blocks_folded_total', 'Blocks of many slices folded since the start', () => background.folds.folded);
  gauge('blocks_to_fold', 'Blocks noted to be folded', () => background.folds.candidates);
  const replicas = (): ReplicaFigures => background.replicas;
  const counts = new KeptCounts(clock, engine);
  gauge('chunks_under_replicated', 'Chunks with fewer replicas than they should have; counted up to 10,000', () =>
    counts.figure(({ underReplicated }) => underReplicated),
  );
  gauge('chunks_to_move', 'Chunks whose replicas are not all where they should be; counted up to 10,000', () =>
    counts.figure(({ toMove }) => toMove),
  );
  gauge(
    'chunks_unreadable',
    'Chunks that could not be read at the last survey, also for want of a node that may come back',
    () => replicas().survey.unreadable,
  );
  gauge(
    'chunks_without_sound_copy',
    'Chunks of which no sound copy is left that can be counted on; counted up to 10,000',
    () => counts.figure(({ unreadable }) => unreadable),
  );
  gauge(
    'lost_blocks',
    'Blocks that lost what was written last and got back what was before, until an administrator has settled it',
    () => counts.figure(({ lost }) => lost),
  );
  gauge('repair_left_chunks', 'Chunks that are noted for repair', () => replicas().repair.leftChunks);
  gauge('repair_left_bytes', 'Bytes that are to be copied', () => replicas().repair.leftBytes);
  gauge(
    'repair_rest_seconds',
    'How long the copies that are left take at the speed of the last half minute; 0: none are left, or none moves',
    () => replicas().restSeconds,
  );
  gauge('repair_copied_bytes_total', 'Bytes copied between nodes since the start', () => replicas().mover.copiedBytes);
  gauge(
    'repair_copied_chunks_total',
    'Chunks copied between nodes since the start',
    () => replicas().mover.copiedChunks,
  );
  gauge(
    'repair_reread_bytes_total',
    'Bytes read again before a replica went, since the start',
    () => replicas().mover.readBytes,
  );
  gauge('repair_given_up_total', 'Replicas that were given up since the start', () => replicas().mover.givenUp);
  gauge('repair_failures_total', 'Orders of repair that failed since the start', () => replicas().mover.failures);
  gauge(
    'rebalance_spread_share',
    'How far the node that is furthest from the average use is from it, as a share of its capacity, at the last rebalance',
    () => replicas().rebalance.spread ?? 0,
  );
  gauge(
    'rebalanced_bytes_total',
    'Bytes moved to even nodes out since the start',
    () => replicas().rebalance.movedBytes,
  );
  const nodeGauge = (name: string, help: string, read: (node: NodeStatus) => number): void => {
    new Gauge({
      name: `collective_coordinator_${name}`,
      help,
      labelNames: ['node'],
      registers: [registry],
      collect() {
        this.reset();
        for (const node of nodes.status()) this.set({ node: node.name }, read(node));
      },
    });
  };
  nodeGauge(
    'node_scrub_last_ended_seconds',
    'When the last whole scrub of the node ended, seconds since 1970; 0: none yet',
    ({ scrub }) => scrub?.lastEnded?.seconds ?? 0,
  );
  nodeGauge(
    'node_scrub_last_damaged',
    'Chunks that the last whole scrub of the node found damaged',
    ({ scrub }) => scrub?.lastDamaged ?? 0,
  );
  nodeGauge(
    'node_damaged_chunks',
    'Chunks of the node that are damaged and not repaired yet, counted up to 1,000',
    ({ scrub }) => scrub?.damagedNow ?? 0,
  );
  jobGauge(registry, 'job_working', 'Whether a round is under way', background, ({ state }) =>
    state === 'working' ? 1 : 0,
  );
  jobGauge(registry, 'job_failing', 'Whether the last round failed', background, ({ state }) =>
    state === 'failing' ? 1 : 0,
  );
  jobGauge(registry, 'job_rounds_total', 'Rounds since the start', background, ({ rounds }) => rounds);
  jobGauge(
    registry,
    'job_done',
    'How far the round under way is, or the last one came',
    background,
    ({ done }) => done,
  );
  jobGauge(registry, 'job_total', 'How far it is to go; 0: not known', background, ({ total = 0 }) => total);
  return registry;
}

/** One figure of each job. */
function jobGauge(
  registry: Registry,
  name: string,
  help: string,
  background: Background,
  read: (figures: KeeperFigures) => number,
): void {
  new Gauge({
    name: `collective_coordinator_${name}`,
    help,
    labelNames: ['job'],
    registers: [registry],
    collect() {
      for (const figures of background.figures) this.set({ job: figures.name }, read(figures));
    },
  });
}
