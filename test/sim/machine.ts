/**
 * A machine of the simulated member: a disk, a clock, and one program on it that is started again whenever it ends. It is killed,
 * loses power, or is stopped before some disk operation; the program's end is felt by everybody through the network.
 */
import { wallMs } from '@collective/base/clock';
import { type DiskOperation, type DiskVerdict, FakeDisk } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { CollectiveError, errorChain } from '@collective/base/errors';
import type { FakeClock, ProcessClock } from '@collective/base/fake-clock';
import { pickOne, type Random, randomBelow, randomUnit } from '@collective/base/random';
import type { Endpoint, Network } from './network.ts';
import type { Trace } from './trace.ts';

/** One life of a program: everything that it was given dies with it. */
export interface Incarnation extends Endpoint {
  readonly disk: FakeDisk;
  readonly random: Random;
  /** Ends the program from inside, as a broken commit does. */
  readonly die: (why: string) => void;
}

export interface Program {
  start(self: Incarnation): Promise<void>;
  /** What else than the disk the power loss touches. */
  powerLoss?(random: Random): void;
}

export interface MachineOptions {
  readonly name: string;
  readonly uri: string;
  readonly world: FakeClock;
  readonly network: Network;
  readonly random: Random;
  readonly trace: Trace;
  readonly program: Program;
  /** After a sync that failed and the end of the program the kernel forgets what it had only pretended to write: now. */
  readonly onForgotten?: () => void;
  /** A life of the program begins. */
  readonly onStart?: (life: Incarnation) => void;
  /** Something that no fault explains. */
  readonly onBreach: (error: Error) => void;
}

const RESTART_AFTER_MS = 100;
const DISK_BYTES = 1024 ** 3;
/** A start that fails with one of these met a broken disk, which is a fault of ours. */
const FAULTS_AT_START = ['disk_failed', 'no_space'];

export class Machine {
  readonly name: string;
  /** Time of disk operations as a multiple of a good disk's: as a rule, and now. */
  usualSlowness = 1;
  slowness: number | undefined;
  readonly #options: MachineOptions;
  #platter = new FakePlatter({ capacityBytes: DISK_BYTES });
  #life: Incarnation | undefined;
  #started = false;
  #stopBefore = Number.POSITIVE_INFINITY;
  #failSyncs = 0;
  #syncFailed = false;
  #downUntilMs = 0;
  #isFull = false;
  #fullUntilMs = Number.NEGATIVE_INFINITY;
  #awayUntilMs = 0;
  #isRotten = false;
  #isTakenAway = false;

  constructor(options: MachineOptions) {
    this.#options = options;
    this.name = options.name;
  }

  get platter(): FakePlatter {
    return this.#platter;
  }

  /** The program that runs now, if any. */
  get life(): Incarnation | undefined {
    return this.#life;
  }

  /** The program has come up and serves. */
  get serves(): boolean {
    return this.#life !== undefined && this.#started;
  }

  start(): void {
    if (this.#life !== undefined || this.#isTakenAway) return;
    const { world, random, trace, uri, program, onStart, onBreach } = this.#options;
    const clock = world.process({
      wallOffsetMs: (randomUnit(random) - 0.5) * 2_000,
      driftPpm: (randomUnit(random) - 0.5) * 200,
      bootedForMs: 1_000 + randomBelow(random, 1_000_000),
    });
    const disk = new FakeDisk({
      platter: this.platter,
      clock,
      random,
      before: (operation) => this.#before(operation),
      latencyMs: (operation) => this.#latencyMs(operation),
    });
    const life: Incarnation = {
      name: this.name,
      uri,
      clock,
      disk,
      random,
      die: (why) => {
        // Not in the middle of its own turn.
        world.defer(() => {
          if (this.#life === life) this.kill(why);
        });
      },
    };
    this.#life = life;
    this.#started = false;
    trace.add(this.name, 'starts');
    onStart?.(life);
    program.start(life).then(
      () => {
        if (this.#life !== life) return;
        this.#started = true;
        trace.add(this.name, 'serves');
      },
      (error: unknown) => {
        if (this.#life !== life) return;
        trace.add(this.name, `cannot start: ${errorChain(error).join(': ')}`);
        // A store that says that its disk is bad gets another one, by hand.
        if (error instanceof CollectiveError && error.code === 'store_damaged' && this.#isRotten)
          this.diskDies(RESTART_AFTER_MS);
        else if (error instanceof CollectiveError && FAULTS_AT_START.includes(error.code)) life.die('its start failed');
        else onBreach(new Error(`${this.name} cannot start: ${errorChain(error).join(': ')}`, { cause: error }));
      },
    );
  }

  /** SIGKILL: what was written stays. It comes back by itself. */
  kill(why: string, downForMs = RESTART_AFTER_MS): void {
    this.#end('killed', why, downForMs);
  }

  powerLoss(downForMs: number): void {
    const { random, program } = this.#options;
    this.#end('powerless', 'lost power', downForMs);
    this.platter.powerLoss(random);
    program.powerLoss?.(random);
  }

  /** The disk is lost for good: the program comes back on an empty one, which has another uuid. */
  diskDies(downForMs: number): void {
    this.#end('powerless', 'lost its disk', downForMs);
    const { ignoreSyncs } = this.#platter;
    this.#platter = new FakePlatter({ capacityBytes: DISK_BYTES });
    this.#platter.ignoreSyncs = ignoreSyncs;
    this.#isRotten = false;
  }

  /** A bit of what is stable in one of these files turns, unnoticed. */
  rot(isRotten: (path: string) => boolean): void {
    const { random, trace } = this.#options;
    const files = this.#platter.files().filter(({ path, content }) => isRotten(path) && content.size > 0);
    if (files.length === 0) return;
    const { path, content } = pickOne(random, files);
    const offset = randomBelow(random, content.size);
    content.flipBit(offset, randomBelow(random, 8));
    this.#isRotten = true;
    trace.add(this.name, `a bit turns in ${path} at ${offset}`);
  }

  /** Nothing brings it back before. */
  goAway(forMs: number): void {
    this.#awayUntilMs = this.#options.world.elapsedMs + forMs;
    this.#end('powerless', 'goes away', forMs);
  }

  /** Somebody stops its program; it starts again when it is brought back, and not before. */
  takeAway(): void {
    this.#isTakenAway = true;
    this.kill('it is taken away');
  }

  bringBack(): void {
    this.#isTakenAway = false;
    this.start();
  }

  /** SIGKILL right before the n-th change of the disk from now. */
  stopBeforeChange(changes: number): void {
    this.#stopBefore = changes;
  }

  failNextSync(): void {
    this.#failSyncs = 1;
  }

  /** Somebody else fills the disk. */
  fillDisk(freeBytes: number): void {
    this.#isFull = true;
    this.platter.capacityBytes = this.platter.usedBytes + freeBytes;
  }

  /** When its disk was full last; now, while it is. */
  get fullUntilMs(): number {
    return this.#isFull ? this.#options.world.elapsedMs : this.#fullUntilMs;
  }

  makeRoom(): void {
    this.#fullUntilMs = this.fullUntilMs;
    this.#isFull = false;
    this.platter.capacityBytes = DISK_BYTES;
  }

  heal(): void {
    this.makeRoom();
    this.slowness = undefined;
    this.#stopBefore = Number.POSITIVE_INFINITY;
    this.#failSyncs = 0;
    if (this.#awayUntilMs > this.#options.world.elapsedMs) return;
    this.#downUntilMs = 0;
    if (this.#life !== undefined) setWallRight(this.#life.clock, this.#options.world);
    this.start();
  }

  #end(how: 'killed' | 'powerless', why: string, downForMs: number): void {
    const { world, network, trace, random } = this.#options;
    const life = this.#life;
    this.#downUntilMs = Math.max(this.#downUntilMs, world.elapsedMs + downForMs);
    if (life !== undefined) {
      this.#life = undefined;
      this.#stopBefore = Number.POSITIVE_INFINITY;
      trace.add(this.name, how === 'killed' ? `killed: ${why}` : why);
      life.clock.end();
      life.disk.kill();
      network.died(life, how);
      // The kernel may forget the pages that it only pretends to have written.
      if (this.#syncFailed && randomBelow(random, 2) === 0) {
        this.#options.onForgotten?.();
        this.platter.evictCleanPages();
      }
      this.#syncFailed = false;
    }
    world.setTimer(downForMs, () => {
      if (this.#life === undefined && world.elapsedMs >= this.#downUntilMs) this.start();
    });
  }

  #before(operation: DiskOperation): DiskVerdict {
    if (operation.kind === 'read' || operation.kind === 'open' || operation.kind === 'lock') return 'go';
    if (this.#stopBefore-- <= 0) {
      this.#stopBefore = Number.POSITIVE_INFINITY;
      const life = this.#life;
      this.#options.world.defer(() => {
        if (this.#life === life) this.kill(`before ${operation.kind} of ${operation.path}`);
      });
      return 'stop';
    }
    if ((operation.kind === 'sync' || operation.kind === 'syncDirectory') && this.#failSyncs > 0) {
      this.#failSyncs--;
      this.#syncFailed = true;
      this.#options.trace.add(this.name, `the sync of ${operation.path} fails`);
      return 'fail';
    }
    return 'go';
  }

  #latencyMs({ kind, bytes }: DiskOperation): number {
    const unit = randomUnit(this.#options.random);
    const ms = kind === 'sync' || kind === 'syncDirectory' ? 0.4 + unit * 2 : 0.02 + unit * 0.1 + bytes / 1_000_000;
    return ms * (this.slowness ?? this.usualSlowness);
  }
}

/** Somebody sets the clock, as NTP would. */
export function setWallRight(clock: ProcessClock, world: FakeClock): void {
  clock.jumpWall(wallMs(world) - wallMs(clock));
}
