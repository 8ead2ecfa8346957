/**
 * Which disk this is and how often a store was opened on it. `disk.json` is written once; `starts.json` at every start,
 * stable before the first put, so that a sequence number is never given twice (M2a, D10).
 */
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import { type Random, randomUuid } from '@collective/base/random';
import { SEGMENT_FOLDER } from './segment.ts';

const DISK_FILE = 'disk.json';
const STARTS_FILE = 'starts.json';
const FORMAT = 1;
/** Sequence = incarnation * 2^32 + count: exact in a JavaScript number up to here. */
export const INCARNATION_MAX = 2 ** 20;

export interface DiskIdentity {
  readonly disk: string;
  /** The uuid as 16 bytes. */
  readonly diskId: Buffer;
  readonly incarnation: number;
}

export async function openIdentity(disk: Disk, random: Random): Promise<DiskIdentity> {
  await disk.makeFolder(SEGMENT_FOLDER);
  const uuid = (await readUuid(disk)) ?? (await createIdentity(disk, random));
  const incarnation = (await readStarts(disk)) + 1;
  if (incarnation > INCARNATION_MAX)
    throw new CollectiveError(
      'range',
      `Open a chunk store for the ${incarnation}th time: ${INCARNATION_MAX} is the most`,
    );
  await replaceWhole(disk, STARTS_FILE, Buffer.from(`${JSON.stringify({ format: FORMAT, incarnation })}\n`));
  return { disk: uuid, diskId: Buffer.from(uuid.replaceAll('-', ''), 'hex'), incarnation };
}

async function readUuid(disk: Disk): Promise<string | undefined> {
  const facts = await readJson(disk, DISK_FILE);
  if (facts === undefined) return undefined;
  const uuid = facts.disk;
  if (typeof uuid !== 'string' || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid))
    throw new CollectiveError('store_damaged', `Read ${DISK_FILE}: it holds no disk uuid`);
  return uuid;
}

async function createIdentity(disk: Disk, random: Random): Promise<string> {
  const left = await disk.list(SEGMENT_FOLDER);
  if (left.length > 0)
    throw new CollectiveError(
      'store_damaged',
      `Open a chunk store: ${DISK_FILE} is missing but there are ${left.length} files in ${SEGMENT_FOLDER}`,
    );
  const uuid = randomUuid(random);
  await replaceWhole(disk, DISK_FILE, Buffer.from(`${JSON.stringify({ format: FORMAT, disk: uuid })}\n`));
  return uuid;
}

async function readStarts(disk: Disk): Promise<number> {
  const facts = await readJson(disk, STARTS_FILE);
  if (facts === undefined) {
    const left = await disk.list(SEGMENT_FOLDER);
    if (left.length === 0) return 0;
    throw new CollectiveError(
      'store_damaged',
      `Open a chunk store: ${STARTS_FILE} is missing but there are ${left.length} files in ${SEGMENT_FOLDER}`,
    );
  }
  const incarnation = facts.incarnation;
  if (!Number.isSafeInteger(incarnation) || typeof incarnation !== 'number' || incarnation < 1)
    throw new CollectiveError('store_damaged', `Read ${STARTS_FILE}: it holds no incarnation`);
  return incarnation;
}

async function readJson(disk: Disk, path: string): Promise<Record<string, unknown> | undefined> {
  const text = await readWhole(disk, path);
  if (text === undefined) return undefined;
  let facts: unknown;
  try {
    facts = JSON.parse(text.toString('utf8'));
  } catch (cause) {
    throw new CollectiveError('store_damaged', `Read ${path}`, { cause });
  }
  if (typeof facts !== 'object' || facts === null)
    throw new CollectiveError('store_damaged', `Read ${path}: it is not an object`);
  const { format } = facts as { format?: unknown };
  if (typeof format === 'number' && format > FORMAT)
    throw new CollectiveError(
      'version_too_new',
      `Read ${path} of format ${format}: this program knows formats up to ${FORMAT}`,
    );
  return facts as Record<string, unknown>;
}
