/**
 * `up.json`: what the running supervisor says about itself, for `down`, `--detach` and people. It is a hint: whether one
 * runs is decided by the lock of the folder, which the kernel frees however the supervisor ends.
 */
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';

const NAME = 'up.json';

export interface UpPart {
  readonly name: string;
  readonly pid?: number;
  readonly port: number;
  readonly healthPort: number;
  readonly restarts: number;
}

export interface UpState {
  readonly pid: number;
  readonly state: 'starting' | 'ready' | 'stopping';
  readonly member: string;
  readonly collective: string;
  readonly context?: string;
  readonly parts: readonly UpPart[];
}

export async function readState(disk: Disk): Promise<UpState | undefined> {
  const content = await readWhole(disk, NAME);
  if (content === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(content.toString());
    return isState(value) ? value : undefined;
  } catch (thrown) {
    // A hint that cannot be read is no hint.
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}

export async function writeState(disk: Disk, state: UpState): Promise<void> {
  await replaceWhole(disk, NAME, Buffer.from(`${JSON.stringify(state, undefined, 2)}\n`));
}

export async function removeState(disk: Disk): Promise<void> {
  await disk.remove(NAME);
}

function isState(value: unknown): value is UpState {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, state, parts } = value as Partial<UpState>;
  return typeof pid === 'number' && typeof state === 'string' && Array.isArray(parts);
}
