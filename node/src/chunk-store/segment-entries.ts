/**
 * The records of a sealed segment, as its sidecar lists them. A sidecar that is damaged or missing is made again by reading the
 * headers of the records; the result is the same, byte for byte.
 */
import { type Disk, type DiskFile, readWhole, replaceWhole } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { Log } from '@collective/base/log';
import type { DiskIdentity } from './disk-identity.ts';
import { EntryList, type SidecarEntry } from './entry-list.ts';
import type { RecordHeader } from './record.ts';
import {
  decodeSidecar,
  encodeSidecar,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  segmentPath,
  sidecarPath,
} from './segment.ts';
import { readSegmentHeader, scanSegment } from './segment-scan.ts';

/** A sidecar of a segment full of the smallest records stays well below this. */
const SIDECAR_BYTES_MAX = 256 * 1024 * 1024;

export interface SegmentFolder {
  readonly disk: Disk;
  readonly identity: DiskIdentity;
  readonly log: Log;
}

export interface SealedEntries {
  /** In the order of their offsets. */
  readonly entries: EntryList;
  readonly segmentBytes: number;
}

/** Throws `store_damaged` for a segment that is shorter than it was, or that a scan does not understand. */
export async function readSealed(folder: SegmentFolder, segment: number): Promise<SealedEntries> {
  const { disk, identity, log } = folder;
  const bytes = await readWhole(disk, sidecarPath(segment), SIDECAR_BYTES_MAX);
  const sidecar = bytes === undefined ? undefined : decodeSidecar(bytes);
  if (sidecar !== undefined && sidecar.segment === segment && sidecar.diskId.equals(identity.diskId)) {
    const size = await sizeOf(disk, segmentPath(segment));
    if (size >= sidecar.segmentBytes) return sidecar;
    throw new CollectiveError(
      'store_damaged',
      `Open segment ${segmentPath(segment)}: it has ${size} bytes, sealed were ${sidecar.segmentBytes}`,
    );
  }
  log.warn({ segment }, 'segment sidecar missing or damaged, segment scanned');
  const scanned = await scanSealed(folder, segment);
  try {
    await replaceWhole(disk, sidecarPath(segment), encodeSidecar({ segment, diskId: identity.diskId, ...scanned }));
  } catch (error) {
    if (!(error instanceof CollectiveError) || error.code !== 'no_space') throw error;
    log.warn({ segment, err: error }, 'no room for the sidecar');
  }
  return scanned;
}

async function scanSealed({ disk, identity }: SegmentFolder, segment: number): Promise<SealedEntries> {
  const file = await disk.open(segmentPath(segment), 'read');
  try {
    const size = await file.size();
    const header = await headerOf(file, segment, identity);
    const entries = new EntryList();
    let segmentBytes = SEGMENT_HEADER_BYTES;
    for await (const step of scanSegment(file, size, header.salt)) {
      if (step.kind === 'gap')
        throw new CollectiveError(
          'store_damaged',
          `Scan the sealed segment ${segmentPath(segment)}: bytes ${step.from} to ${step.to} hold no record`,
        );
      entries.push(entryOf(step.header, step.offset));
      segmentBytes = step.offset + step.bytes;
    }
    return { entries, segmentBytes };
  } finally {
    await file.close();
  }
}

/** Throws `store_damaged` when it is not known whose the segment is. */
export async function headerOf(file: DiskFile, segment: number, identity: DiskIdentity): Promise<SegmentHeader> {
  const header = await readSegmentHeader(file, segment);
  if (header === undefined)
    throw new CollectiveError(
      'store_damaged',
      `Scan segment ${segmentPath(segment)}: its header and its first record are damaged`,
    );
  if (!header.diskId.equals(identity.diskId))
    throw new CollectiveError('store_damaged', `Scan segment ${segmentPath(segment)}: it belongs to another disk`);
  return header;
}

export function entryOf(header: RecordHeader, offset: number): SidecarEntry {
  const { kind, chunk, sequence } = header;
  const [rawLength, storedLength] = kind === 'chunk' ? [header.rawLength, header.storedLength] : [0, 0];
  return { kind, chunk, offset, rawLength, storedLength, sequence };
}

async function sizeOf(disk: Disk, path: string): Promise<number> {
  const file = await disk.open(path, 'read');
  try {
    return await file.size();
  } finally {
    await file.close();
  }
}
