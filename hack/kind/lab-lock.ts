// One at a time: test files of several trees share one cluster, and only one of them may make or change it.

import { setTimeout as sleep } from 'node:timers/promises';
import type { DiskLock } from '@collective/base/disk';
import { FileDisk } from '@collective/base/disk/file-disk';
import { CollectiveError } from '@collective/base/errors';
import { labFolder } from './lab.ts';

const ASK_EVERY_MS = 250;
/** Longer than the slowest holder, who builds the node image and makes a cluster. */
const HELD_AT_MOST_MS = 15 * 60_000;

export interface LabLockOptions {
  /** How long another one may have it. */
  readonly heldAtMostMs?: number;
  /** Another one has it now. */
  readonly onWait?: () => void;
}

export async function withLabLock<Result>(
  name: string,
  action: () => Promise<Result>,
  { heldAtMostMs = HELD_AT_MOST_MS, onWait }: LabLockOptions = {},
): Promise<Result> {
  const disk = await FileDisk.at(labFolder());
  const folder = `locks/${name}`;
  await disk.makeFolder(folder);
  const deadline = AbortSignal.timeout(heldAtMostMs);
  let lock: DiskLock | undefined;
  let waits = false;
  while (lock === undefined) {
    try {
      lock = await disk.lock(folder);
    } catch (thrown) {
      if (!(thrown instanceof CollectiveError && thrown.code === 'data_in_use') || deadline.aborted) throw thrown;
      if (!waits) onWait?.();
      waits = true;
      await sleep(ASK_EVERY_MS);
    }
  }
  try {
    return await action();
  } finally {
    await lock.release();
  }
}
