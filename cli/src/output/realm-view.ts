/** How a realm is shown. */
import { formatByteSize } from '@collective/base/byte-size';
import { formatDurationMs } from '@collective/base/duration';
import type { Realm } from '@collective/client';
import type { RowsView } from './table.ts';

export const REALM_VIEW: RowsView<Realm> = {
  columns: [
    { header: 'PATH', cell: ({ path }) => path },
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
    { header: 'REMOVED FILES', cell: removedFiles, wide: true },
  ],
  name: ({ path }) => path,
};

function removedFiles({ trashSeconds, trashYields }: Realm): string {
  if (trashSeconds === 0) return 'destroyed at once';
  return `kept for ${formatDurationMs(trashSeconds * 1000)}${trashYields ? ', less when there is no room' : ''}`;
}
