/** How `status` says in a line how much room waits to be given back, and for what. */
import { formatByteSize } from '@collective/base/byte-size';
import { formatDurationMs } from '@collective/base/duration';
import type { GarbageStatus } from '@collective/client';
import { counted } from './counted.ts';

export function garbageText(garbage: GarbageStatus): string {
  const { chunks, storedBytes, graceSeconds, waits, condemned, waitsFor, orphans, removedFiles, walkedAt } = garbage;
  const kept = waits
    ? 'kept until a person confirms the restore'
    : `kept for ${graceSeconds === 0 ? 'no time' : formatDurationMs(graceSeconds * 1_000)}`;
  const parts = [`${counted(chunks, 'chunk')} with ${formatByteSize(storedBytes)}, ${kept}`];
  if (walkedAt === undefined) parts.push('not all counted yet');
  if (condemned > 0) parts.push(`${condemned} wait for ${waitsFor.map(({ node }) => node).join(', ')}`);
  if (removedFiles > 0) parts.push(`${counted(removedFiles, 'removed file')} still to be let go of`);
  parts.push(counted(orphans, 'orphan'));
  return parts.join(', ');
}
