/**
 * What a start does before the store is used. Sealed segments are taken from their sidecars. A segment without one was being
 * written when the process ended, perhaps after a sync that failed: what the kernel shows of it may never have reached the
 * disk, and would not be written again. So its records are read, verified, and copied to a new segment that is synced
 * and sealed before anything is served (D4): after that everything in the index is stable.
 *
 * A crash may take any bytes that were never stable, in any order. Bytes that cannot be read where something was stable are
 * damage, and the store refuses to start rather than forget a chunk in silence. A record whose header is whole but whose
 * frames are not is kept when it was stable: reading it fails, and the other replicas serve.
 */
import type { Disk, DiskFile } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId } from '@collective/base/ids';
import type { Log } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import { FRAME_HEADER_BYTES, readFrame } from '@collective/protocol/bulk/frame';
import type { DiskIdentity } from './disk-identity.ts';
import { type ChunkHeader, type RecordHeader, recordHeaderBytes, SALT_BYTES } from './record.ts';
import type { RecordLedger } from './record-ledger.ts';
import { parseSegmentName, SEGMENT_FOLDER, SEGMENT_HEADER_BYTES, segmentPath, sidecarPath } from './segment.ts';
import { SegmentCopy } from './segment-copy.ts';
import { headerOf, readSealed, type SealedEntries, type SegmentFolder } from './segment-entries.ts';
import { scanSegment } from './segment-scan.ts';

export interface Recovery extends SegmentFolder {
  /** Gets everything that is found. */
  readonly ledger: RecordLedger;
  readonly random: Random;
}

export interface Recovered {
  readonly nextSegment: number;
  /** Chunks that were stable and whose frames are damaged. */
  readonly damaged: readonly ChunkId[];
}

export async function recoverSegments(recovery: Recovery): Promise<Recovered> {
  const { disk, ledger, log } = recovery;
  const names = await listFiles(disk, log);
  const unsealed: number[] = [];
  for (const segment of names.segments) {
    const entries = names.sidecars.has(segment) ? await readSealed(recovery, segment) : undefined;
    if (entries === undefined) unsealed.push(segment);
    else enter(ledger, segment, entries);
  }
  let nextSegment = names.highest + 1;
  const damaged: ChunkId[] = [];
  for (const segment of unsealed) damaged.push(...(await copyUnsealed(recovery, segment, nextSegment++)));
  ledger.settle();
  return { nextSegment, damaged };
}

async function listFiles(
  disk: Disk,
  log: Log,
): Promise<{ segments: number[]; sidecars: Set<number>; highest: number }> {
  const segments: number[] = [];
  const sidecars = new Set<number>();
  let highest = 0;
  for (const name of await disk.list(SEGMENT_FOLDER)) {
    const parsed = parseSegmentName(name);
    if (parsed === undefined) {
      if (name.endsWith('.new')) await disk.remove(`${SEGMENT_FOLDER}/${name}`);
      else log.warn({ file: name }, 'unknown file among the segments');
      continue;
    }
    highest = Math.max(highest, parsed.segment);
    if (parsed.kind === 'seg') segments.push(parsed.segment);
    else sidecars.add(parsed.segment);
  }
  // A copy that a start before us renamed and could not make stable must not be lost with what it is a copy of.
  await disk.syncDirectory(SEGMENT_FOLDER);
  const known = new Set(segments);
  // A copy's sidecar is written before the copy gets its name.
  for (const orphan of sidecars) if (!known.has(orphan)) await disk.remove(sidecarPath(orphan));
  return { segments: segments.sort((a, b) => a - b), sidecars, highest };
}

function enter(ledger: RecordLedger, segment: number, { entries, segmentBytes }: SealedEntries): void {
  ledger.segmentHasSize(segment, segmentBytes);
  for (const entry of entries) ledger.found(segment, entry);
}

/**
 * Copies to the new segment `to` what is whole of `from` and not dead already, makes that stable, and removes `from`. A record
 * that is kept although its frames are damaged is answered.
 */
async function copyUnsealed(recovery: Recovery, from: number, to: number): Promise<ChunkId[]> {
  const { disk, identity, ledger, log } = recovery;
  const source = await disk.open(segmentPath(from), 'read');
  let keep: FoundRecord[];
  let copy: SegmentCopy | undefined;
  try {
    keep = (await judge(source, from, identity, log)).filter(({ header }) => ledger.outranks(header));
    copy = keep.length === 0 ? undefined : await copyRecords(recovery, source, keep, to);
  } finally {
    await source.close();
  }
  if (copy !== undefined) enter(ledger, to, { entries: copy.entries, segmentBytes: copy.bytes });
  await disk.remove(segmentPath(from));
  await disk.syncDirectory(SEGMENT_FOLDER);
  log.info({ from, to, records: keep.length, bytes: copy?.bytes ?? 0 }, 'unsealed segment made stable');
  return keep.filter(({ whole }) => !whole).map(({ header }) => header.chunk);
}

interface FoundRecord {
  readonly header: RecordHeader;
  readonly offset: number;
  readonly bytes: number;
  readonly whole: boolean;
}

/** The records worth keeping. Throws `store_damaged` for damage that no crash explains. */
async function judge(source: DiskFile, segment: number, identity: DiskIdentity, log: Log): Promise<FoundRecord[]> {
  const size = await source.size();
  // The header is stable before the first record is written.
  if (size <= SEGMENT_HEADER_BYTES) return [];
  const { salt, firstSequence } = await headerOf(source, segment, identity);
  const found: FoundRecord[] = [];
  /** `firstMissing`: the lowest sequence that can have been in the gap. */
  const gaps: { readonly from: number; readonly to: number; readonly firstMissing: number }[] = [];
  let nextSequence = firstSequence;
  let stableSequence = 0;
  for await (const step of scanSegment(source, size, salt)) {
    if (step.kind === 'gap') {
      gaps.push({ from: step.from, to: step.to, firstMissing: nextSequence });
      continue;
    }
    const { header, offset, bytes } = step;
    const whole = header.kind === 'tombstone' || (await framesAreWhole(source, header, offset));
    found.push({ header, offset, bytes, whole });
    nextSequence = header.sequence + 1;
    stableSequence = Math.max(stableSequence, header.stableSequence);
  }
  for (const gap of gaps) {
    if (gap.firstMissing <= stableSequence)
      throw new CollectiveError(
        'store_damaged',
        `Scan segment ${segmentPath(segment)}: bytes ${gap.from} to ${gap.to} hold no record, but what was there was stable`,
      );
    log.warn({ segment, from: gap.from, to: gap.to }, 'unstable bytes lost');
  }
  return found.filter(({ header, whole }) => {
    if (!whole)
      log.warn({ segment, chunk: header.chunk, stable: header.sequence <= stableSequence }, 'chunk record damaged');
    return whole || header.sequence <= stableSequence;
  });
}

async function framesAreWhole(source: DiskFile, header: ChunkHeader, offset: number): Promise<boolean> {
  const frames = await source.read(offset + recordHeaderBytes(header.frameLengths.length), header.storedLength);
  try {
    let at = 0;
    for (const length of header.frameLengths) {
      if (readFrame(frames, at).storedLength !== length) return false;
      at += FRAME_HEADER_BYTES + length;
    }
    return true;
  } catch (error) {
    if (error instanceof CollectiveError && error.code === 'frame_invalid') return false;
    throw error;
  }
}

async function copyRecords(
  { disk, identity, random }: Recovery,
  source: DiskFile,
  keep: readonly FoundRecord[],
  to: number,
): Promise<SegmentCopy> {
  const firstSequence = keep.reduce((lowest, { header }) => Math.min(lowest, header.sequence), Number.MAX_SAFE_INTEGER);
  const salt = random.bytes(SALT_BYTES);
  const copy = await SegmentCopy.begin({ disk, identity, segment: to, salt, firstSequence });
  try {
    for (const { header, offset, bytes } of keep) {
      const headerBytes = recordHeaderBytes(header.kind === 'chunk' ? header.frameLengths.length : 0);
      const rest = await source.read(offset + headerBytes, bytes - headerBytes);
      await copy.add([{ header, rest }]);
    }
    await copy.finish();
    return copy;
  } catch (error) {
    await copy.discard();
    throw error;
  }
}
