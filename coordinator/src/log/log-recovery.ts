/**
 * What a start makes of the segments that it finds (M2): all records that are to be trusted, the untrusted among them made
 * stable. Records above the last recorded stable mark may exist in the page cache only, for a failed sync leaves clean pages
 * that the disk never got. So they are copied into a new segment, which is synced and only then put in place by a rename.
 *
 * A later segment that begins at or below the end of an earlier one takes over from there, so a crash at any point of the
 * copy leaves a readable log. A bad record ends the log, unless a later one tells that it had been stable: that is damage.
 */
import type { Disk, DiskFile } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { LogPosition } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import {
  type DecodedRecord,
  decodeRecord,
  decodeSegmentHeader,
  encodeRecord,
  encodeSegmentHeader,
  recordBytes,
  SALT_BYTES,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  wasStableAfter,
} from './log-record.ts';

export interface Segment {
  readonly index: number;
  readonly name: string;
  readonly first: LogPosition;
  readonly salt: Buffer;
  /** Up to the end of its last record. */
  bytes: number;
}

export function newSegment(index: number, first: LogPosition, random: Random): Segment {
  return segmentOf(index, { first, salt: random.bytes(SALT_BYTES) });
}

function segmentOf(index: number, header: SegmentHeader): Segment {
  return { index, name: `${String(index).padStart(10, '0')}.log`, ...header, bytes: SEGMENT_HEADER_BYTES };
}

export interface RecoveredLog {
  /** Oldest first; the last one is new and open for appending. */
  readonly segments: Segment[];
  readonly file: DiskFile;
  readonly records: readonly DecodedRecord[];
  readonly last: LogPosition;
}

/** Throws `store_damaged`, `version_too_new`, and what the disk throws. */
export async function recoverLog(disk: Disk, folder: string, random: Random): Promise<RecoveredLog> {
  await makeStableFolder(disk, folder);
  const { found, indexMax } = await readSegments(disk, folder);
  const { records, last } = joinSegments(found);
  const stableMark = records.reduce((mark, record) => Math.max(mark, record.stableMark), 0) as LogPosition;
  const tail = records.filter((record) => record.position > stableMark);
  const segment = newSegment(indexMax + 1, tail[0]?.position ?? ((last + 1) as LogPosition), random);
  const file = await copyTail(disk, folder, segment, tail, stableMark);
  return { segments: [...found.map((each) => each.segment), segment], file, records, last };
}

/** A log without records that goes on at `first`, in a folder that is new. */
export async function createEmptyLog(disk: Disk, folder: string, first: LogPosition, random: Random): Promise<void> {
  await makeStableFolder(disk, folder);
  await (await copyTail(disk, folder, newSegment(1, first, random), [], 0 as LogPosition)).close();
}

/** The folder's own name must be stable before a record in it can be. */
async function makeStableFolder(disk: Disk, folder: string): Promise<void> {
  await disk.makeFolder(folder);
  const names = folder.split('/');
  for (let depth = names.length - 1; depth >= 0; depth--) await disk.syncDirectory(names.slice(0, depth).join('/'));
}

async function copyTail(
  disk: Disk,
  folder: string,
  segment: Segment,
  tail: readonly DecodedRecord[],
  stableMark: LogPosition,
): Promise<DiskFile> {
  const pieces: Uint8Array[] = [encodeSegmentHeader(segment)];
  for (const record of tail) {
    pieces.push(...encodeRecord(segment.salt, { ...record, stableMark }, record.payload));
    segment.bytes += recordBytes(record.payload.length);
  }
  const path = `${folder}/${segment.name}`;
  const aside = await disk.open(`${path}.new`, 'create');
  await aside.write(0, pieces);
  await aside.sync();
  await aside.close();
  await disk.rename(`${path}.new`, path);
  await disk.syncDirectory(folder);
  return disk.open(path, 'write');
}

interface FoundSegment {
  readonly segment: Segment;
  readonly bytes: Buffer;
}

/** `indexMax` is over all names, also those of segments that were created but never got a header. */
async function readSegments(disk: Disk, folder: string): Promise<{ found: FoundSegment[]; indexMax: number }> {
  const names = await disk.list(folder);
  // Left over from a start that did not finish its copy.
  for (const name of names) if (name.endsWith('.new')) await disk.remove(`${folder}/${name}`);
  const found: FoundSegment[] = [];
  let indexMax = 0;
  for (const name of names.filter((each) => /^\d{10}\.log$/.test(each))) {
    const index = Number(name.slice(0, 10));
    indexMax = Math.max(indexMax, index);
    const file = await disk.open(`${folder}/${name}`, 'read');
    const bytes = await file.read(0, await file.size());
    await file.close();
    const header = decodeSegmentHeader(bytes, name);
    if (header !== undefined) found.push({ segment: segmentOf(index, header), bytes });
    // Without a header it was created but never written to: the header is stable before the first record.
    else if (bytes.length > SEGMENT_HEADER_BYTES) throw damaged(name, 'its header is damaged, but bytes follow');
  }
  return { found, indexMax };
}

/** Each segment is read up to where the next begins, so the records are without a gap. */
function joinSegments(found: readonly FoundSegment[]): { records: DecodedRecord[]; last: LogPosition } {
  const records: DecodedRecord[] = [];
  let last = ((found[0]?.segment.first ?? 1) - 1) as LogPosition;
  for (const [at, { segment, bytes }] of found.entries()) {
    const { name, first, salt } = segment;
    const next = found[at + 1]?.segment.first;
    while ((records.at(-1)?.position ?? 0) >= first) records.pop();
    last = (first - 1) as LogPosition;
    while (next === undefined || last < next - 1) {
      const record = decodeRecord(bytes, segment.bytes, salt);
      if (record === undefined || record.position !== last + 1) {
        if (next !== undefined) throw damaged(name, `it ends at position ${last}, but the next begins at ${next}`);
        if (wasStableAfter(bytes, segment.bytes, salt, last))
          throw damaged(name, `the record at byte ${segment.bytes} is bad, but a later one tells that it was stable`);
        break;
      }
      records.push(record);
      last = record.position;
      segment.bytes = record.end;
    }
  }
  return { records, last };
}

function damaged(name: string, what: string): CollectiveError {
  return new CollectiveError('store_damaged', `Read log segment ${name}: ${what}`);
}
