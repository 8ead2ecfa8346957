/** How a storage node is shown by `nodes list` and `status`. */

import { formatByteSize } from '@collective/base/byte-size';
import type { Timestamp } from '@collective/base/clock';
import type { NodeStatus } from '@collective/client';
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
      { header: 'HEARTBEAT', cell: ({ lastHeartbeat }) => age(lastHeartbeat, now) },
      { header: 'VERSION', cell: ({ version }) => version || '-' },
      { header: 'ZONE', cell: ({ zone }) => zone || '-', wide: true },
      {
        header: 'ADDRESSES',
        cell: ({ addresses }) =>
          addresses.map(({ listener, host, port }) => `${listener}=${host}:${port}`).join(',') || '-',
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

export function nodeObject(node: NodeStatus): object {
  return {
    ...node,
    lastHeartbeat: node.lastHeartbeat && isoTime(node.lastHeartbeat),
    certificateExpires: node.certificateExpires && isoTime(node.certificateExpires),
  };
}
