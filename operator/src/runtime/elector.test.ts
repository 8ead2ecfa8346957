import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, sleep } from '@collective/base/clock';
import { FakeClock } from '@collective/base/fake-clock';
import { silentLog } from '@collective/base/log';
import { SeededRandom } from '@collective/base/random';
import { KubeError, NO_ANSWER } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { Elector } from './elector.ts';
import { LEASE_SECONDS, type LeaseSpec, leaseTimes, microTime } from './lease.ts';

// Against a real apiserver, with processes that are killed: test/apiserver/elector.test.ts. Here are its times.

/** One lease as an apiserver keeps it; each elector reaches it over a network of its own. */
class LeaseKeeper {
  lease: KubeObject | undefined;
  #version = 0;

  get spec(): LeaseSpec {
    return (this.lease?.spec ?? {}) as LeaseSpec;
  }

  write(before: KubeObject | undefined, spec: object): KubeObject {
    if (before?.metadata.resourceVersion !== this.lease?.metadata.resourceVersion) {
      throw new KubeError('Patch', { status: 409, reason: 'Conflict' });
    }
    const metadata = { namespace: 'ns', name: 'operator', resourceVersion: String(++this.#version) };
    const merged = Object.entries({ ...this.spec, ...spec }).filter(([, value]) => value !== null);
    this.lease = { apiVersion: 'v1', kind: 'Lease', metadata, spec: Object.fromEntries(merged) };
    return this.lease;
  }
}

type Network = 'well' | 'refused' | 'silent';

class Candidate {
  network: Network = 'well';
  readonly led: string[] = [];
  readonly stop = new AbortController();
  readonly elector: Elector;
  readonly #clock: Clock;
  readonly #world: FakeClock;
  ended: Promise<void> | undefined;
  /** How long what it leads takes to end. */
  endsAfterMs = 0;

  constructor(keeper: LeaseKeeper, world: FakeClock, identity: string, clock: Clock = world, leaseSeconds?: number) {
    this.#clock = clock;
    this.#world = world;
    const over = async <Value>(signal: AbortSignal | undefined, answer: () => Value): Promise<Value> => {
      if (this.network === 'refused') throw new KubeError('Call', { status: 0, reason: NO_ANSWER.notConnected });
      if (this.network === 'silent') {
        await new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
      }
      return answer();
    };
    const api = {
      get: (_: unknown, options: { signal?: AbortSignal } = {}) => over(options.signal, () => keeper.lease),
      create: (_: unknown, { spec }: KubeObject, options: { signal?: AbortSignal } = {}) =>
        over(options.signal, () => keeper.write(undefined, spec as object)),
      patch: (_: unknown, change: object, options: { signal?: AbortSignal } = {}) =>
        over(options.signal, () => {
          const { metadata, spec } = change as KubeObject;
          return keeper.write({ ...change, metadata } as KubeObject, spec as object);
        }),
    };
    const random = new SeededRandom(identity.length);
    const times = leaseTimes(leaseSeconds);
    const which = { namespace: 'ns', name: 'operator', identity, times };
    this.elector = new Elector({ api, ...which, clock, random, log: silentLog });
  }

  run(): this {
    this.ended = this.elector.run((signal) => this.#lead(signal), this.stop.signal);
    this.ended.catch(() => undefined);
    return this;
  }

  async #lead(signal: AbortSignal): Promise<void> {
    this.led.push(`began ${this.#world.elapsedMs}`);
    await sleep(this.#clock, 86_400_000, signal).catch(() => undefined);
    this.led.push(`stopped ${this.#world.elapsedMs}`);
    await sleep(this.#clock, this.endsAfterMs);
    this.led.push(`ended ${this.#world.elapsedMs}`);
  }

  /** When it began, was told to stop, had ended: in milliseconds of the world. */
  at(what: 'began' | 'stopped' | 'ended'): number {
    const found = this.led.find((line) => line.startsWith(what));
    assert.ok(found !== undefined, `${what} is not among: ${this.led.join(', ')}`);
    return Number(found.split(' ')[1]);
  }
}

test('the first takes the lease at once and renews it; the second waits as long as it does', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  const first = new Candidate(keeper, clock, 'first').run();
  await clock.settle();
  const second = new Candidate(keeper, clock, 'second').run();
  await clock.advance(600_000);
  assert.deepEqual([first.elector.isLeader, second.elector.isLeader], [true, false]);
  assert.deepEqual([first.led, second.led], [['began 0'], []]);
  const { holderIdentity, leaseDurationSeconds, acquireTime, renewTime, leaseTransitions } = keeper.spec;
  assert.deepEqual([holderIdentity, leaseDurationSeconds, leaseTransitions], ['first', 15, 0]);
  assert.equal(Date.parse(renewTime ?? '') - Date.parse(acquireTime ?? ''), 600_000);
});

for (const network of ['refused', 'silent'] as const) {
  test(`a leader whose calls are ${network} stops after 10 s, and only later another one leads`, async () => {
    const clock = new FakeClock();
    const keeper = new LeaseKeeper();
    const first = new Candidate(keeper, clock, 'first').run();
    await clock.settle();
    const second = new Candidate(keeper, clock, 'second').run();
    await clock.advance(60_000);
    const lastRenewedMs = clock.elapsedMs;
    first.network = network;
    await clock.until(() => second.led.length > 0);
    assert.ok(first.at('stopped') - lastRenewedMs <= 10_000, `stopped after ${first.at('stopped') - lastRenewedMs} ms`);
    const tookAfterMs = second.at('began') - lastRenewedMs;
    assert.ok(first.at('ended') < second.at('began'));
    assert.ok(tookAfterMs >= 13_000 && tookAfterMs <= 18_000, `took after ${tookAfterMs} ms`);
    await assert.rejects(first.ended ?? Promise.resolve(), {
      code: 'fenced',
      message: /Renew the lease of first within 10000 ms/,
    });
    assert.equal(keeper.spec.leaseTransitions, 1);
  });
}

test('a longer lease outlives a longer silence, and only after it another one leads', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  const first = new Candidate(keeper, clock, 'first', clock, 60).run();
  await clock.settle();
  const second = new Candidate(keeper, clock, 'second', clock, 60).run();
  await clock.advance(60_000);
  first.network = 'silent';
  await clock.advance(30_000);
  first.network = 'well';
  await clock.advance(60_000);
  assert.deepEqual([first.elector.isLeader, keeper.spec.leaseDurationSeconds], [true, 60]);
  const lastRenewedMs = clock.elapsedMs;
  first.network = 'refused';
  await clock.until(() => second.led.length > 0);
  assert.ok(first.at('stopped') - lastRenewedMs <= 40_000, `stopped after ${first.at('stopped') - lastRenewedMs} ms`);
  assert.ok(first.at('ended') < second.at('began'));
  assert.ok(second.at('began') - lastRenewedMs >= 60_000 - leaseTimes(60).retryMs);
});

test('whatever its length, who has lost a lease is silent before others may take it', () => {
  for (let seconds: number = LEASE_SECONDS.min; seconds <= LEASE_SECONDS.max; seconds++) {
    const { renewWithinMs, callWithinMs, retryMs, silentWithinMs } = leaseTimes(seconds);
    assert.ok(renewWithinMs + silentWithinMs < seconds * 1000);
    assert.ok(2 * callWithinMs <= renewWithinMs && 4 * retryMs < renewWithinMs);
  }
});

test('a few failed renewals lose nothing', async () => {
  const clock = new FakeClock();
  const first = new Candidate(new LeaseKeeper(), clock, 'first').run();
  await clock.advance(20_000);
  first.network = 'refused';
  await clock.advance(7_000);
  first.network = 'well';
  await clock.advance(60_000);
  assert.equal(first.elector.isLeader, true);
});

test('wall clocks that are hours apart do not matter', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  const first = new Candidate(keeper, clock, 'first', clock.process({ wallOffsetMs: -7_200_000 })).run();
  await clock.settle();
  const second = new Candidate(keeper, clock, 'second', clock.process({ wallOffsetMs: 7_200_000 })).run();
  await clock.advance(300_000);
  assert.deepEqual([first.elector.isLeader, second.elector.isLeader], [true, false]);
});

test('a leader whose process was suspended finds out before it does anything more', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  const suspended = clock.process();
  const first = new Candidate(keeper, clock, 'first', suspended).run();
  await clock.settle();
  const second = new Candidate(keeper, clock, 'second').run();
  await clock.advance(10_000);
  suspended.pause(120_000);
  await clock.advance(60_000);
  assert.equal(second.elector.isLeader, true);
  await clock.advance(62_000);
  assert.equal(first.elector.isLeader, false);
  assert.equal(keeper.spec.holderIdentity, 'second');
  await assert.rejects(first.ended ?? Promise.resolve(), { code: 'fenced' });
});

test('who sees that another one holds the lease has lost it at once', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  const first = new Candidate(keeper, clock, 'first').run();
  await clock.advance(5_000);
  keeper.write(keeper.lease, { holderIdentity: 'thief' });
  await clock.advance(3_000);
  await assert.rejects(first.ended ?? Promise.resolve(), { code: 'fenced', message: /thief holds it/ });
});

test('a note of somebody on the lease, and a lease that somebody deleted, cost nothing', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  const first = new Candidate(keeper, clock, 'first').run();
  await clock.advance(5_000);
  keeper.write(keeper.lease, { note: 'by hand' });
  await clock.advance(30_000);
  assert.equal(first.elector.isLeader, true);
  keeper.lease = undefined;
  await clock.advance(30_000);
  assert.equal(first.elector.isLeader, true);
  assert.equal(keeper.spec.holderIdentity, 'first');
});

test('asked to stop it renews until what it led has ended, then gives the lease back for the next one', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  const first = new Candidate(keeper, clock, 'first').run();
  await clock.settle();
  const second = new Candidate(keeper, clock, 'second').run();
  await clock.advance(10_000);
  first.endsAfterMs = 40_000;
  first.stop.abort(new Error('stopping'));
  await clock.advance(39_000);
  assert.equal(keeper.spec.holderIdentity, 'first');
  await clock.finish(first.ended ?? Promise.resolve());
  await clock.until(() => second.led.length > 0);
  const afterMs = second.at('began') - first.at('ended');
  assert.ok(afterMs <= 2_400, `led ${afterMs} ms after`);
});

test('who is stopped while waiting leaves without a trace', async () => {
  const clock = new FakeClock();
  const keeper = new LeaseKeeper();
  new Candidate(keeper, clock, 'first').run();
  await clock.settle();
  const second = new Candidate(keeper, clock, 'second').run();
  await clock.advance(5_000);
  second.stop.abort(new Error('stopping'));
  await clock.finish(second.ended ?? Promise.resolve());
  assert.deepEqual([second.led, keeper.spec.holderIdentity], [[], 'first']);
});

test('times are written as the API wants them', () => {
  assert.equal(microTime(Date.UTC(2026, 0, 2, 3, 4, 5, 67)), '2026-01-02T03:04:05.067000Z');
});
