/**
 * The memory of everything that a member does by itself is bounded: each job of the coordinator (`coordinator/src/jobs`) and of a node
 * (`node/src/scrub`, `node/src/chunk-store`) is run over 250 thousand and over a million of what it works on, and must need about as
 * much the second time. Beside it: how long it takes and what a change meanwhile waits. Nodes and people that a job asks
 * answer at once, so these are the jobs' own costs.
 *
 *   npm run bench -- background                       all, in an hour
 *   npm run bench -- background-trash                 one part
 *   BENCH_FILES=20000 npm run bench -- background     another number of them, for a first look
 *
 * background-chunks    inventory compare, fold survey, rebalance plan and moves, release of blocks, garbage
 * background-trash     expiry, early end for want of room; emptying and restoring by order
 * background-orphans   noting, grace, removal, refusals; copies too many
 * background-realms    making a realm of a directory, dissolving it
 * background-replicas  survey, repair that fails, repair, drain, reports of damage, misplaced chunks
 * background-settle    replicas that become stable, or are asked for after a restart of their node
 * background-store     of a node: list, scrub, forget, compact
 *
 * Left out, since a constant bounds them however many files there are: folds themselves (FOLD_CANDIDATES_MAX), the watch over
 * nodes, settings.
 */
import { chunkJobs } from './background/chunk-jobs.ts';
import { orphanJobs } from './background/orphan-jobs.ts';
import { realmJobs } from './background/realm-jobs.ts';
import { replicaJobs } from './background/replica-jobs.ts';
import { settleJobs } from './background/settle-jobs.ts';
import { storeJobs } from './background/store-jobs.ts';
import { trashJobs } from './background/trash-jobs.ts';
import type { Figures } from './figures.ts';

const COUNTS = process.env.BENCH_FILES === undefined ? [250_000, 1_000_000] : [Number(process.env.BENCH_FILES)];

type Suite = (figures: Figures) => Promise<void>;

export const BACKGROUND_PARTS: Readonly<Record<string, Suite>> = Object.fromEntries(
  Object.entries({
    'background-chunks': chunkJobs,
    'background-trash': trashJobs,
    'background-orphans': orphanJobs,
    'background-realms': realmJobs,
    'background-replicas': replicaJobs,
    'background-settle': settleJobs,
    'background-store': storeJobs,
  }).map(([name, part]): [string, Suite] => [
    name,
    async (figures) => {
      for (const count of COUNTS) await part(figures, count);
    },
  ]),
);

export async function backgroundBench(figures: Figures): Promise<void> {
  for (const part of Object.values(BACKGROUND_PARTS)) await part(figures);
}
