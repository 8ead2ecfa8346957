/**
 * `member.json`: whose data a folder holds and how it was last started, so that a second start needs no flags and a
 * folder is never taken for another member's. Replaced as a whole; a newer format is refused before anything is touched.
 */
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';

const FORMAT = 'collective-up';
const FORMAT_VERSION = 1;
const NAME = 'member.json';

export interface MemberFile {
  readonly member: string;
  readonly collective: string;
  readonly portBase: number;
  readonly nodes: number;
  readonly capacityBytes: number;
}

export async function readMemberFile(disk: Disk, where: string): Promise<MemberFile | undefined> {
  const content = await readWhole(disk, NAME);
  if (content === undefined) return undefined;
  const refuse = (why: string, cause?: unknown): CollectiveError =>
    new CollectiveError('store_damaged', `Read ${where}/${NAME}: ${why}`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(content.toString());
  } catch (cause) {
    throw refuse('it is no JSON', cause);
  }
  if (typeof value !== 'object' || value === null || !('format' in value) || value.format !== FORMAT) {
    throw refuse('it was not written by this program');
  }
  if (!('version' in value) || typeof value.version !== 'number') throw refuse('its version is missing');
  if (value.version > FORMAT_VERSION) {
    throw new CollectiveError(
      'version_too_new',
      `Open ${where}: it has format version ${value.version}, this program knows ${FORMAT_VERSION}`,
    );
  }
  const { member, collective, portBase, nodes, capacityBytes } = value as Partial<MemberFile>;
  if (typeof member !== 'string' || typeof collective !== 'string') throw refuse('member or collective is missing');
  if (typeof portBase !== 'number' || typeof nodes !== 'number' || typeof capacityBytes !== 'number') {
    throw refuse('portBase, nodes or capacityBytes is missing');
  }
  return { member, collective, portBase, nodes, capacityBytes };
}

export async function writeMemberFile(
  disk: Disk,
  { member, collective, portBase, nodes, capacityBytes }: MemberFile,
): Promise<void> {
  const content = { format: FORMAT, version: FORMAT_VERSION, member, collective, portBase, nodes, capacityBytes };
  const text = `${JSON.stringify(content, undefined, 2)}\n`;
  await replaceWhole(disk, NAME, Buffer.from(text));
}
