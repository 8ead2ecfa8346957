/** How `status` says whether every chunk has its replicas, what is under way, and what cannot be done now. */
import { formatByteSize } from '@collective/base/byte-size';
import { formatDurationMs } from '@collective/base/duration';
import type { JobStatus, MemberStatus } from '@collective/client';
import { counted } from './counted.ts';
import type { RowsView } from './table.ts';

/** The coordinator counts no further. */
const COUNTED_MAX = 10_000;

export function replicationLines({
  replication,
  nodes,
}: Pick<MemberStatus, 'replication' | 'nodes'>): [string, string][] {
  const { underReplicated, unstable, lost, toMove, unreadable, waiting, failure } = replication;
  const parts = [
    underReplicated === 0 ? 'every chunk has its replicas' : `${atLeast(underReplicated)} chunks have too few replicas`,
  ];
  if (toMove > 0) parts.push(`${atLeast(toMove)} are to be moved`);
  if (unstable > 0) parts.push(`${atLeast(unstable)} not yet reported stable`);
  if (unreadable > 0) parts.push(`${atLeast(unreadable)} WITHOUT A SOUND COPY`);
  if (lost > 0) parts.push(`${counted(lost, 'block')} LOST what was written last`);
  if (replication.counting) parts.push('nodes or rules have changed: all chunks are being looked at again');
  const lines: [string, string][] = [['Replication', parts.join(', ')]];
  if (replication.bytesToRepair > 0 || underReplicated + toMove > 0) lines.push(['Repair', repairText(replication)]);
  for (const { chunks, says } of waiting) lines.push(['Waiting', `${chunks} chunks: ${says}`]);
  for (const node of nodes) {
    if (node.duty !== 'draining') continue;
    const what = `${node.leftChunks} chunks with ${formatByteSize(node.leftBytes)} are left on ${node.name}`;
    lines.push(['Drain', [what, ...node.waiting.map(({ chunks, says }) => `${chunks} wait: ${says}`)].join('; ')]);
  }
  if (failure !== '' && (underReplicated > 0 || toMove > 0)) lines.push(['Last failure', failure]);
  return lines;
}

function repairText({ bytesToRepair, restSeconds, repairedBytes }: MemberStatus['replication']): string {
  const left = `${formatByteSize(bytesToRepair)} to copy`;
  const rest = restSeconds > 0 ? `, about ${formatDurationMs(restSeconds * 1000)}` : '';
  return `${left}${rest}, ${formatByteSize(repairedBytes)} copied since the start`;
}

function atLeast(count: number): string {
  return count >= COUNTED_MAX ? `${COUNTED_MAX} or more` : String(count);
}

export const JOBS_VIEW: RowsView<JobStatus> = {
  columns: [
    { header: 'JOB', cell: ({ name }) => name },
    { header: 'STATE', cell: ({ state }) => state },
    { header: 'DONE', cell: doneText },
    {
      header: 'SINCE',
      cell: ({ sinceSeconds }) => (sinceSeconds === undefined ? '-' : formatDurationMs(sinceSeconds * 1000)),
    },
    { header: 'ROUNDS', cell: ({ rounds }) => String(rounds), align: 'right', wide: true },
    { header: 'FAILURE', cell: ({ failure }) => failure || '-' },
  ],
  name: ({ name }) => name,
};

function doneText({ done, total, unit }: JobStatus): string {
  if (unit === '') return '-';
  const show = (value: number): string => (unit === 'bytes' ? formatByteSize(value) : String(value));
  const of = total === undefined ? show(done) : `${show(done)} of ${show(total)}`;
  return unit === 'bytes' ? of : `${of} ${unit}`;
}
