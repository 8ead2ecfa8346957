/**
 * How far the scrub is, in a small file, so that a restart goes on where it was. It is written rarely: what is lost of it costs
 * reading some segments again.
 */
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import type { Log } from '@collective/base/log';

const STATE_FILE = 'scrub.json';
const FORMAT = 1;

/** Times in milliseconds since the Unix epoch. */
export interface ScrubState {
  /** Of the last pass, whether it has ended or not. */
  readonly beganMs?: number;
  /** While a pass is under way. */
  readonly position?: ScrubPosition;
  /** Of the last whole pass. */
  readonly endedMs?: number;
  readonly last?: { readonly beganMs: number; readonly damaged: number };
}

export interface ScrubPosition {
  /** All segments up to this one are done. */
  readonly through: number;
  /** The pass ends with this one; what is younger was written meanwhile. */
  readonly upTo: number;
  readonly verifiedBytes: number;
  /** Somebody asked for it: it takes no pauses. */
  readonly hurried: boolean;
  /** Found since the disk was first used, when the pass began. */
  readonly damagedBefore: number;
}

export async function loadScrubState(disk: Disk, log: Log): Promise<ScrubState> {
  const text = await readWhole(disk, STATE_FILE);
  if (text === undefined) return {};
  try {
    const state = decode(JSON.parse(text.toString('utf8')));
    if (state !== undefined) return state;
    log.warn({ file: STATE_FILE }, 'position of the scrub not understood, it begins anew');
  } catch (error) {
    log.warn({ file: STATE_FILE, err: error }, 'position of the scrub not readable, it begins anew');
  }
  return {};
}

export async function saveScrubState(disk: Disk, state: ScrubState): Promise<void> {
  await replaceWhole(disk, STATE_FILE, Buffer.from(`${JSON.stringify({ format: FORMAT, ...state })}\n`));
}

function decode(facts: Record<string, unknown> | null): ScrubState | undefined {
  if (facts === null || facts.format !== FORMAT) return undefined;
  const { beganMs, endedMs } = facts;
  const { through, upTo, verifiedBytes, hurried, damagedBefore } = (facts.position ?? {}) as Record<string, unknown>;
  const { beganMs: lastBeganMs, damaged } = (facts.last ?? {}) as Record<string, unknown>;
  return {
    ...(isCount(beganMs) ? { beganMs } : {}),
    ...(isCount(endedMs) ? { endedMs } : {}),
    ...(isCount(beganMs) && isCount(through) && isCount(upTo) && isCount(verifiedBytes)
      ? {
          position: {
            through,
            upTo,
            verifiedBytes,
            hurried: hurried === true,
            damagedBefore: isCount(damagedBefore) ? damagedBefore : 0,
          },
        }
      : {}),
    ...(isCount(lastBeganMs) && isCount(damaged) ? { last: { beganMs: lastBeganMs, damaged } } : {}),
  };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
