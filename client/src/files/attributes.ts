/** Attributes as the wire has them become those of the public API. */
import { assert } from '@collective/base/assert';
import type { Timestamp } from '@collective/base/clock';
import type { Time } from '@collective/protocol/gen/common';
import { type Attributes as WireAttributes, InodeType as WireType } from '@collective/protocol/gen/session';
import type { Attributes, InodeType } from '../api.ts';

const TYPES: Readonly<Record<number, InodeType>> = {
  [WireType.FILE]: 'file',
  [WireType.DIRECTORY]: 'directory',
  [WireType.SYMLINK]: 'symlink',
  [WireType.FIFO]: 'fifo',
  [WireType.SOCKET]: 'socket',
  [WireType.CHARACTER]: 'character',
  [WireType.BLOCK]: 'block',
};

export function attributesOf(wire: WireAttributes | undefined): Attributes {
  assert(wire !== undefined, 'the coordinator sends attributes where they are asked for');
  return {
    inode: wire.inode,
    realm: wire.realm,
    type: typeOf(wire.type),
    mode: wire.mode,
    uid: wire.uid,
    gid: wire.gid,
    links: wire.links,
    sizeBytes: wire.size,
    storedBytes: wire.storedBytes,
    modified: timestampOf(wire.mtime),
    changed: timestampOf(wire.ctime),
    birth: timestampOf(wire.birth),
    rdev: wire.rdev,
    version: wire.version,
    entries: wire.entries,
  };
}

export function typeOf(type: number): InodeType {
  return TYPES[type] ?? 'file';
}

export function timestampOf(time: Time | undefined): Timestamp {
  return time ?? { seconds: 0, nanos: 0 };
}
