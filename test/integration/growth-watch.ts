/** How far the memory of a member's processes, and of this one, which is the client, grows beyond where it began. */
import assert from 'node:assert/strict';
import { memoryOf, resetPeakOf } from './part-process.ts';
import type { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;

export interface GrowthWatch {
  /** Fails when a process grew by more; answers the figures of all. */
  check(growthMiBMax: number): string;
}

export function watchGrowth(member: RunningMember): GrowthWatch {
  const watched = [...member.parts.map(({ name, pid }) => ({ name, pid })), { name: 'client', pid: process.pid }];
  const begun = watched.map((one) => {
    resetPeakOf(one.pid);
    return { ...one, startBytes: memoryOf(one.pid).residentBytes };
  });
  return {
    check: (growthMiBMax) => {
      const grown = begun.map(({ name, pid, startBytes }) => ({
        name,
        startMiB: Math.round(startBytes / MiB),
        grownMiB: Math.round((memoryOf(pid).peakBytes - startBytes) / MiB),
      }));
      const figures = grown.map(({ name, startMiB, grownMiB }) => `${name} ${startMiB} + ${grownMiB} MiB`).join(', ');
      for (const { name, grownMiB } of grown)
        assert.ok(grownMiB <= growthMiBMax, `${name} grew by ${grownMiB} MiB: ${figures}`);
      return figures;
    },
  };
}
