import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { Keeper, type Round } from './keeper.ts';

interface World {
  readonly clock: FakeClock;
  readonly keeper: Keeper;
  readonly rounds: { readonly round: Round; end(): void; fail(error: Error): void }[];
  readonly failures: string[];
}

function open(everyMs = 60_000): World {
  const clock = new FakeClock();
  const rounds: World['rounds'] = [];
  const failures: string[] = [];
  const keeper = new Keeper({
    clock,
    name: 'repair',
    everyMs,
    work: (round) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      rounds.push({ round, end: resolve, fail: reject });
      return promise;
    },
    onFailure: (name, error) => failures.push(`${name}: ${(error as Error).message}`),
  });
  return { clock, keeper, rounds, failures };
}

test('a round begins when its time has come, or at once when somebody pokes', async () => {
  const { clock, keeper, rounds } = open();
  await clock.advance(59_999);
  assert.equal(rounds.length, 0);
  await clock.advance(1);
  assert.equal(rounds.length, 1);
  rounds[0]?.end();
  await clock.settle();
  assert.equal(keeper.figures.state, 'resting');
  keeper.poke();
  assert.equal(rounds.length, 2);
  assert.equal(keeper.figures.state, 'working');
});

test('rounds never overlap: a poke in the middle of one begins the next right after it, once', async () => {
  const { clock, keeper, rounds } = open();
  keeper.poke();
  keeper.poke();
  keeper.poke();
  await clock.advance(120_000);
  assert.equal(rounds.length, 1);
  rounds[0]?.end();
  await clock.settle();
  assert.equal(rounds.length, 2);
  rounds[1]?.end();
  await clock.settle();
  assert.equal(rounds.length, 2);
});

test('a round that fails is told and tried again with growing pauses, whoever pokes', async () => {
  const { clock, keeper, rounds, failures } = open();
  keeper.poke();
  rounds[0]?.fail(new Error('node n1 is away'));
  await clock.settle();
  assert.deepEqual(failures, ['repair: node n1 is away']);
  assert.equal(keeper.figures.state, 'failing');
  assert.equal(keeper.figures.failure, 'node n1 is away');
  keeper.poke();
  assert.equal(rounds.length, 1, 'a poke does not hurry what fails');
  await clock.advance(1_000);
  rounds[1]?.fail(new Error('still'));
  await clock.settle();
  await clock.advance(1_999);
  assert.equal(rounds.length, 2);
  await clock.advance(1);
  assert.equal(rounds.length, 3);
  rounds[2]?.end();
  await clock.settle();
  assert.equal(keeper.figures.state, 'resting');
  assert.equal(keeper.figures.failure, undefined);
});

test('progress is told while a round works', async () => {
  const { keeper, rounds } = open();
  keeper.poke();
  rounds[0]?.round.progress(3, 10, 'chunks');
  const { done, total, unit } = keeper.figures;
  assert.deepEqual({ done, total, unit }, { done: 3, total: 10, unit: 'chunks' });
});

test('the end aborts the round, waits for it, and begins no other', async () => {
  const { clock, keeper, rounds } = open();
  keeper.poke();
  let ended = false;
  const end = keeper[Symbol.asyncDispose]().then(() => {
    ended = true;
  });
  assert.equal(rounds[0]?.round.signal.aborted, true);
  await clock.settle();
  assert.equal(ended, false);
  rounds[0]?.fail(new Error('aborted'));
  await end;
  keeper.poke();
  await clock.advance(1_000_000);
  assert.equal(rounds.length, 1);
});
