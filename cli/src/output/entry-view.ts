/** How an inode is shown by ls, stat and find: the long line, the columns and the object for JSON and YAML. */

import { formatByteSize } from '@collective/base/byte-size';
import type { Attributes, InodeType } from '@collective/client';
import type { Column, RowsView } from './table.ts';
import { isoTime, localMinute } from './time.ts';

export interface EntryRow {
  readonly name: string;
  readonly path: string;
  readonly attributes: Attributes;
  /** Of a symbolic link, where it was read. */
  readonly target?: string;
}

const TYPE_LETTERS: Readonly<Record<InodeType, string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  character: 'c',
  block: 'b',
};

export function entryView(options: { human: boolean; fullPath: boolean }): RowsView<EntryRow> {
  const size = options.human ? formatByteSize : (bytes: number): string => String(bytes);
  const columns: Column<EntryRow>[] = [
    { header: 'MODE', cell: ({ attributes }) => modeText(attributes) },
    { header: 'LINKS', cell: ({ attributes }) => String(attributes.links), align: 'right' },
    { header: 'UID', cell: ({ attributes }) => String(attributes.uid), align: 'right' },
    { header: 'GID', cell: ({ attributes }) => String(attributes.gid), align: 'right' },
    { header: 'SIZE', cell: ({ attributes }) => size(attributes.sizeBytes), align: 'right' },
    { header: 'STORED', cell: ({ attributes }) => size(attributes.storedBytes), align: 'right', wide: true },
    { header: 'MODIFIED', cell: ({ attributes }) => localMinute(attributes.modified) },
    { header: 'INODE', cell: ({ attributes }) => String(attributes.inode), align: 'right', wide: true },
    { header: 'REALM', cell: ({ attributes }) => String(attributes.realm), align: 'right', wide: true },
    {
      header: 'NAME',
      cell: (row) => (options.fullPath ? row.path : row.name) + (row.target === undefined ? '' : ` -> ${row.target}`),
    },
  ];
  return { columns, name: (row) => (options.fullPath ? row.path : row.name), object: entryObject };
}

/** `drwxr-xr-x`, with set-id and sticky bits as ls shows them. */
export function modeText({ type, mode }: { readonly type: InodeType; readonly mode: number }): string {
  const bits = (shift: number, special: boolean, letter: string): string => {
    const part = (mode >> shift) & 7;
    const execute = (part & 1) !== 0;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? 'x' : '-';
    return `${part & 4 ? 'r' : '-'}${part & 2 ? 'w' : '-'}${last}`;
  };
  return (
    TYPE_LETTERS[type] +
    bits(6, (mode & 0o4000) !== 0, 's') +
    bits(3, (mode & 0o2000) !== 0, 's') +
    bits(0, (mode & 0o1000) !== 0, 't')
  );
}

export function octalMode(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

export function entryObject({ name, path, attributes, target }: EntryRow): unknown {
  return {
    name,
    path,
    type: attributes.type,
    sizeBytes: attributes.sizeBytes,
    storedBytes: attributes.storedBytes,
    mode: octalMode(attributes.mode),
    uid: attributes.uid,
    gid: attributes.gid,
    links: attributes.links,
    modified: isoTime(attributes.modified),
    changed: isoTime(attributes.changed),
    birth: isoTime(attributes.birth),
    inode: attributes.inode,
    realm: attributes.realm,
    ...(attributes.type === 'directory' ? { entries: attributes.entries } : {}),
    ...(target === undefined ? {} : { target }),
  };
}
