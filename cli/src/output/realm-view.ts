/** How a realm is shown. */
import { formatByteSize } from '@collective/base/byte-size';
import type { Timestamp } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import type { Job, Realm } from '@collective/client';
import type { RowsView } from './table.ts';
import { localMinute } from './time.ts';

/** A realm, with what is being done to it. */
export interface ShownRealm extends Realm {
  readonly state: 'ready' | 'being made' | 'being dissolved' | 'being taken back';
}

export function shownRealm(realm: Realm, jobs: readonly Job[]): ShownRealm {
  const job = jobs.find(({ id }) => id === realm.job);
  return { ...realm, state: stateOf(job) };
}

function stateOf(job: Job | undefined): ShownRealm['state'] {
  if (job === undefined || job.state === 'done' || job.state === 'failed') return 'ready';
  if (job.state === 'taking back') return 'being taken back';
  return job.kind === 'make-realm' ? 'being made' : 'being dissolved';
}

export const REALM_VIEW: RowsView<ShownRealm> = {
  columns: [
    { header: 'PATH', cell: ({ path }) => path },
    { header: 'STATE', cell: ({ state }) => state },
    { header: 'USED', cell: ({ usedBytes }) => formatByteSize(usedBytes), align: 'right' },
    {
      header: 'QUOTA',
      cell: ({ quotaBytes }) => (quotaBytes === 0 ? '-' : formatByteSize(quotaBytes)),
      align: 'right',
    },
    { header: 'INODES', cell: ({ usedInodes }) => String(usedInodes), align: 'right' },
    {
      header: 'INODE QUOTA',
      cell: ({ quotaInodes }) => (quotaInodes === 0 ? '-' : String(quotaInodes)),
      align: 'right',
    },
    { header: 'TRASH', cell: ({ trashBytes }) => formatByteSize(trashBytes), align: 'right' },
    { header: 'REPLICAS', cell: ({ replicas, minReplicas }) => `${replicas} (at least ${minReplicas})` },
    { header: 'REALM', cell: ({ realm }) => String(realm), wide: true },
    { header: 'ROOT INODE', cell: ({ root }) => String(root), wide: true },
    { header: 'COMPRESSION', cell: ({ compression }) => (compression ? 'where it pays' : 'off'), wide: true },
    { header: 'RIGHTS', cell: ({ sharesRights }) => (sharesRights ? 'as around it' : 'its own'), wide: true },
    { header: 'REMOVED FILES', cell: removedFiles, wide: true },
  ],
  name: ({ path }) => path,
};

/** How a job is shown. */
export const JOB_VIEW: RowsView<Job> = {
  columns: [
    { header: 'ID', cell: ({ id }) => String(id) },
    { header: 'WHAT', cell: ({ kind }) => kind },
    { header: 'PATH', cell: ({ path }) => path },
    { header: 'STATE', cell: ({ state }) => state },
    { header: 'MOVED', cell: ({ moved }) => String(moved), align: 'right' },
    { header: 'BEGAN', cell: ({ began }) => moment(began) },
    { header: 'ENDED', cell: ({ ended }) => moment(ended) },
    { header: 'ASKED BY', cell: ({ subject }) => subject, wide: true },
    { header: 'PASSES', cell: ({ passes }) => String(passes), align: 'right', wide: true },
    { header: 'FAILURE', cell: ({ failure }) => failure, wide: true },
  ],
  name: ({ id }) => String(id),
};

function moment(time: Timestamp | undefined): string {
  return time === undefined ? '-' : localMinute(time);
}

function removedFiles({ trashSeconds, trashYields }: Realm): string {
  if (trashSeconds === 0) return 'destroyed at once';
  return `kept for ${formatDurationMs(trashSeconds * 1000)}${trashYields ? ', less when there is no room' : ''}`;
}
