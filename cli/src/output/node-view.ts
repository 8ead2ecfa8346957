/** How a storage node is shown by `nodes list` and `status`. */

import { formatByteSize } from '@collective/base/byte-size';
import type { Timestamp } from '@collective/base/clock';
import { formatHostPort } from '@collective/base/host-port';
import type { NodeScrub, NodeStatus } from '@collective/client';
import type { RowsView } from './table.ts';
import { age, isoTime } from './time.ts';

export function nodeView(now: Timestamp): RowsView<NodeStatus> {
  return {
    columns: [
      { header: 'NAME', cell: ({ name }) => name },
      { header: 'STATE', cell: ({ state, duty }) => (duty === '' || duty === 'active' ? state : `${state},${duty}`) },
      { header: 'USED', cell: ({ usedBytes }) => formatByteSize(usedBytes), align: 'right' },
      { header: 'CAPACITY', cell: ({ capacityBytes }) => formatByteSize(capacityBytes), align: 'right' },
      { header: 'FREE', cell: ({ freeBytes }) => formatByteSize(freeBytes), align: 'right' },
      { header: 'CHUNKS', cell: ({ chunks }) => String(chunks), align: 'right' },
      {
        header: 'LEFT',
        cell: ({ duty, leftChunks, leftBytes }) =>
          duty === 'draining' ? `${leftChunks} chunks, ${formatByteSize(leftBytes)}` : '-',
      },
      { header: 'SCRUBBED', cell: ({ scrub }) => scrubText(scrub, now) },
      { header: 'HEARTBEAT', cell: ({ lastHeartbeat }) => age(lastHeartbeat, now) },
      { header: 'VERSION', cell: ({ version }) => version || '-' },
      { header: 'ZONE', cell: ({ zone }) => zone || '-', wide: true },
      {
        header: 'ADDRESSES',
        cell: ({ addresses }) =>
          addresses.map(({ listener, host, port }) => `${listener}=${formatHostPort({ host, port })}`).join(',') || '-',
        wide: true,
      },
      { header: 'DISK', cell: ({ disk }) => disk || '-', wide: true },
      {
        header: 'CERTIFICATE UNTIL',
        cell: ({ certificateExpires }) => (certificateExpires === undefined ? '-' : isoTime(certificateExpires)),
        wide: true,
      },
    ],
    name: ({ name }) => name,
    object: nodeObject,
  };
}

/** `3d ago`, `3d ago, 2 damaged`, `never, 41 % read`: the last whole pass, then the one under way. */
function scrubText(scrub: NodeScrub | undefined, now: Timestamp): string {
  if (scrub === undefined) return '-';
  const { passBegan, verifiedBytes, totalBytes, lastEnded, lastDamaged, damagedNow } = scrub;
  const parts = [lastEnded === undefined ? 'never' : `${age(lastEnded, now)} ago`];
  if (lastDamaged > 0) parts.push(`${lastDamaged} found`);
  if (damagedNow > 0) parts.push(`${damagedNow} DAMAGED`);
  if (passBegan !== undefined)
    parts.push(`${totalBytes === 0 ? 0 : Math.floor((100 * verifiedBytes) / totalBytes)} % read`);
  return parts.join(', ');
}

export function nodeObject(node: NodeStatus): object {
  const { scrub } = node;
  return {
    ...node,
    ...(scrub === undefined
      ? {}
      : {
          scrub: {
            ...scrub,
            passBegan: scrub.passBegan && isoTime(scrub.passBegan),
            lastBegan: scrub.lastBegan && isoTime(scrub.lastBegan),
            lastEnded: scrub.lastEnded && isoTime(scrub.lastEnded),
          },
        }),
    lastHeartbeat: node.lastHeartbeat && isoTime(node.lastHeartbeat),
    certificateExpires: node.certificateExpires && isoTime(node.certificateExpires),
  };
}
