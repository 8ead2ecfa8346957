/**
 * For tests only: a member's engine, authority and enrolment without ports, on a disk in memory, with a wall clock that can
 * be moved (the signing library does real work, so a wholly virtual clock would not do).
 */
import type { Clock, Timer, Timestamp } from '@collective/base/clock';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { type MemberName, type TrustDomain, trustDomainOf } from '@collective/base/ids';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { Engine } from '../engine/engine.ts';
import { FileLog } from '../log/file-log.ts';
import { makeRoot } from '../ops/realms.ts';
import { MemoryStore, MemoryStoreDisk } from '../store/memory-store.ts';
import { Enrolment } from './enrolment.ts';
import type { Signer } from './signer/signer.ts';

export class MovableClock implements Clock {
  readonly #clock = new SystemClock();
  #aheadSeconds = 0;

  moveWall(bySeconds: number): void {
    this.#aheadSeconds += bySeconds;
  }

  now(): Timestamp {
    const { seconds, nanos } = this.#clock.now();
    return { seconds: seconds + this.#aheadSeconds, nanos };
  }

  bootMs(): number {
    return this.#clock.bootMs();
  }

  setTimer(delayMs: number, fn: () => void, options?: { background?: boolean }): Timer {
    return this.#clock.setTimer(delayMs, fn, options);
  }

  defer(fn: () => void): void {
    this.#clock.defer(fn);
  }
}

export const ALICE: TrustDomain = trustDomainOf('alice' as MemberName, 'home');

export interface ScratchMember extends AsyncDisposable {
  readonly clock: MovableClock;
  readonly engine: Engine;
  readonly enrolment: Enrolment;
}

/** What outlives a member that is closed. */
export class ScratchDisks {
  readonly log = new FakeDisk();
  readonly store = new MemoryStoreDisk();
}

export type SignerOf = (world: { readonly engine: Engine; readonly clock: MovableClock }) => Signer;

export async function openScratchMember(
  signer: Signer | SignerOf,
  clock = new MovableClock(),
  disks?: ScratchDisks,
): Promise<ScratchMember> {
  const { log: disk, store } = disks ?? new ScratchDisks();
  const random = new SystemRandom();
  const isNew = !(await disk.exists('log'));
  if (isNew) await disk.makeFolder('log');
  const log = await FileLog.open({ disk, clock, random, folder: 'log' });
  const engine = await Engine.start({
    clock,
    log,
    store: new MemoryStore(store),
    onFatal: (error) => {
      throw error;
    },
  });
  if (isNew) await engine.run((tx) => makeRoot(tx, { uid: 0, gid: 0 }));
  const made = typeof signer === 'function' ? signer({ engine, clock }) : signer;
  const enrolment = new Enrolment({ engine, signer: made, random, trustDomain: ALICE });
  return { clock, engine, enrolment, [Symbol.asyncDispose]: () => engine.close() };
}
