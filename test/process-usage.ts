/** What a process of this machine uses, as Linux counts it. */
import { readFileSync } from 'node:fs';

/** Linux: USER_HZ. */
const TICKS_PER_SECOND = 100;

export interface ProcessUsage {
  readonly residentBytes: number;
  /** The most that was resident at once. */
  readonly peakBytes: number;
  /** Since its start, user and system: unlike the clock it does not know who else is at work. */
  readonly cpuSeconds: number;
}

export function usageOf(pid: number): ProcessUsage {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytesOf = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  // After the name, which may hold blanks: user and system time are fields 14 and 15 of the whole.
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [user = 0, system = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  return {
    residentBytes: bytesOf('VmRSS'),
    peakBytes: bytesOf('VmHWM'),
    cpuSeconds: (user + system) / TICKS_PER_SECOND,
  };
}
