/**
 * One storage program through many lives on one disk: each life ends at some disk operation by SIGKILL, by power loss, or by
 * a failed sync and then one of both. What the program does in a life, and what the next life must find, is the caller's.
 */
import { type DiskOperation, type DiskVerdict, FakeDisk } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { FakeClock, type ProcessClock } from '@collective/base/fake-clock';
import { type Random, randomBelow, randomUnit, SeededRandom } from '@collective/base/random';

export interface LivesOptions {
  readonly seed: number;
  readonly lives: number;
  /** Stops the first life before this disk operation; else each life draws its own end. */
  readonly stopFirstAt?: number;
  readonly end?: 'kill' | 'power';
  /** Breaks the first life's disk on purpose. */
  readonly ignoreSyncs?: boolean;
}

export interface Life {
  /** From 1. */
  readonly number: number;
  readonly world: FakeClock;
  readonly clock: ProcessClock;
  readonly disk: FakeDisk;
  readonly random: Random;
}

export interface LivingProgram {
  /** 'ended': it was stopped or came to the end of its work; 'failed': its disk failed. Throws at a breach. */
  live(life: Life): Promise<'ended' | 'failed'>;
  /** What of the reported must be there in the next life. */
  died(kept: 'written' | 'stable'): void;
}

type LifeEnd = 'kill' | 'power' | 'sync fails, kill' | 'sync fails, power';

const ENDS: readonly LifeEnd[] = ['kill', 'power', 'sync fails, kill', 'sync fails, power'];
const OPERATIONS_OF_A_LIFE_MAX = 90;

/** Answers how many operations that change the disk the first life made. */
export async function runLives(options: LivesOptions, program: LivingProgram): Promise<number> {
  const random = new SeededRandom(options.seed);
  const world = new FakeClock();
  const platter = new FakePlatter();
  let firstLifeOperations = 0;
  for (let number = 1; number <= options.lives; number++) {
    platter.ignoreSyncs = options.ignoreSyncs === true && number === 1;
    const first = number === 1 ? options : undefined;
    const stopAt = first?.stopFirstAt ?? randomBelow(random, OPERATIONS_OF_A_LIFE_MAX);
    const end = first?.end ?? ENDS[randomBelow(random, ENDS.length)] ?? 'kill';
    const clock = world.process();
    let operations = 0;
    let failures = 0;
    const before = (operation: DiskOperation): DiskVerdict => {
      if (operation.kind === 'read' || operations++ < stopAt) return 'go';
      if (end === 'kill' || end === 'power') return 'stop';
      if (operation.kind !== 'sync') return 'go';
      failures++;
      return 'fail';
    };
    const disk = new FakeDisk({ platter, clock, random, before, latencyMs: () => randomUnit(random) * 3 });
    const outcome = await program.live({ number, world, clock, disk, random });
    if (outcome === 'failed' && failures === 0) throw new Error(`Life ${number} failed on a disk that did not fail`);
    if (number === 1) firstLifeOperations = operations;
    const powerIsLost = end.endsWith('power');
    if (powerIsLost) disk.powerLoss(random);
    else disk.kill();
    clock.end();
    // After a failed sync the kernel may forget the pages that it only pretends to have written.
    if (outcome === 'failed' && randomBelow(random, 2) === 0) platter.evictCleanPages();
    program.died(powerIsLost || outcome === 'failed' ? 'stable' : 'written');
  }
  return firstLifeOperations;
}

/** Stops a first life before each of its operations; `make` gives a program without a past. */
export async function runEveryStop(options: LivesOptions, make: () => LivingProgram): Promise<number> {
  const operations = await runLives({ ...options, lives: 1, stopFirstAt: Number.POSITIVE_INFINITY }, make());
  for (let stopFirstAt = 0; stopFirstAt < operations; stopFirstAt++)
    await named(`seed ${options.seed}, stopped before operation ${stopFirstAt}, ${options.end}`, () =>
      runLives({ ...options, stopFirstAt }, make()),
    );
  return operations;
}

export async function runSeeds(seeds: number, lives: number, make: () => LivingProgram): Promise<void> {
  for (let seed = 1; seed <= seeds; seed++) await named(`seed ${seed}`, () => runLives({ seed, lives }, make()));
}

/** The first seed that notices that syncs do nothing, by a breach that says what it must; undefined if none does. */
export async function seedThatNoticesLostSyncs(
  seedsMax: number,
  breach: RegExp,
  make: () => LivingProgram,
): Promise<number | undefined> {
  for (let seed = 1; seed <= seedsMax; seed++) {
    try {
      await runLives({ seed, lives: 2, end: 'power', ignoreSyncs: true }, make());
    } catch (thrown) {
      if (thrown instanceof Error && breach.test(thrown.message)) return seed;
      throw thrown;
    }
  }
  return undefined;
}

async function named(what: string, run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (cause) {
    throw new Error(`Lives with ${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
