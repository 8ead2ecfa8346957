/**
 * `member.json` in a coordinator's data folder: whose it is, for ever, and after a restore the generation that its coordinator
 * has at least (M2a). A folder of another member or of a newer format is refused before anything in it is touched.
 */
import { join } from 'node:path';
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';

const FORMAT = 1;
const NAME = 'member.json';
export const METADATA_FILE = 'metadata.db';

export interface MemberFolder {
  readonly member: string;
  readonly collective: string;
  /** Set by a restore. */
  readonly generation?: number;
  /** Set by a restore: of which backup. */
  readonly restoredFrom?: RestoredFrom;
}

/** No two backups of a member have all of these in common. */
export interface RestoredFrom {
  readonly created: string;
  readonly position: number;
  readonly epoch: { readonly generation: number; readonly start: number };
}

export function memberFileContent({ member, collective, generation, restoredFrom }: MemberFolder): Buffer {
  return Buffer.from(`${JSON.stringify({ version: FORMAT, member, collective, generation, restoredFrom })}\n`);
}

/** Undefined where there is none; throws when it is not JSON. */
export async function readMemberFile(disk: Disk): Promise<MemberFolder | undefined> {
  const content = await readWhole(disk, NAME);
  return content === undefined ? undefined : (JSON.parse(content.toString('utf8')) as MemberFolder);
}

export interface FolderClaim extends Pick<MemberFolder, 'member' | 'collective'> {
  /** For messages. */
  readonly folder: string;
  /** The member has begun before: a folder without its metadata is a loss, never a beginning (K3). */
  readonly expectData?: boolean;
}

/** Takes a new folder for the member, or checks whose an older one is. */
export async function claimFolder(
  disk: Disk,
  { folder, member, collective, expectData = false }: FolderClaim,
): Promise<MemberFolder> {
  const content = await readWhole(disk, NAME);
  if (expectData && (content === undefined || !(await disk.exists(METADATA_FILE))))
    throw new CollectiveError(
      'store_damaged',
      `Open ${folder}: the metadata of ${member}.${collective} is expected there, and the folder has none. Give the volume back that held it, restore a backup into it ('collective backup restore'), or start without --expect-data to begin anew without any file`,
    );
  if (content === undefined) {
    const claimed = { member, collective };
    await replaceWhole(disk, NAME, memberFileContent(claimed));
    return claimed;
  }
  const path = join(folder, NAME);
  let found: Partial<MemberFolder> & { version?: unknown };
  try {
    found = JSON.parse(content.toString('utf8')) as typeof found;
  } catch (cause) {
    throw new CollectiveError('store_damaged', `Read ${path}`, { cause });
  }
  if (typeof found.version === 'number' && found.version > FORMAT)
    throw new CollectiveError(
      'version_too_new',
      `Open ${folder}: its format is ${found.version}, this program knows up to ${FORMAT}`,
    );
  if (found.member !== member || found.collective !== collective)
    throw new CollectiveError(
      'wrong_member',
      `Open ${folder} for member ${member}.${collective}: it belongs to ${found.member}.${found.collective}`,
    );
  const { generation } = found;
  return { member, collective, ...(generation === undefined ? {} : { generation }) };
}
