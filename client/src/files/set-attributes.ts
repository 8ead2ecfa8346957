/** Changes of attributes as the wire wants them, checked. */
import { CollectiveError } from '@collective/base/errors';
import type { SetAttributes as WireSetAttributes } from '@collective/protocol/gen/session';
import type { SetAttributes } from '../api.ts';

const MODE_MAX = 0o7777;
const ID_MAX = 0xffff_fffe;

export function wireChanges(inode: number, changes: SetAttributes): WireSetAttributes {
  const { mode, uid, gid, sizeBytes, modified } = changes;
  check('mode', mode, MODE_MAX);
  check('uid', uid, ID_MAX);
  check('gid', gid, ID_MAX);
  check('size', sizeBytes, Number.MAX_SAFE_INTEGER);
  return {
    inode,
    mode,
    uid,
    gid,
    size: sizeBytes,
    mtime: modified === 'now' ? undefined : modified,
    mtimeNow: modified === 'now',
    birth: undefined,
    clearSetId: false,
  };
}

function check(name: string, value: number | undefined, max: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= 0 && value <= max)) return;
  throw new CollectiveError(
    'invalid_argument',
    `Set ${name} to ${value}: it must be a whole number between 0 and ${max}`,
  );
}
