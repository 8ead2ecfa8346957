/**
 * The simulation as a test: some hundred seeds, the seeds that once failed, and the proof that it can fail: each defect that
 * is put in on purpose must be found within a bounded number of seeds.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BREAKS, type BreakName } from './breaks.ts';
import kept from './seeds.json' with { type: 'json' };
import { simulate } from './simulation.ts';

const SEEDS = 300;
const STEPS = 60;
/** Seeds within which a defect must be found; each is of this many actions. */
const BREAK_SEEDS = 120;
const BREAK_STEPS = 100;

async function mustHold(seed: number, steps: number): Promise<void> {
  const { failure, trace } = await simulate({ seed, steps });
  if (failure === undefined) return;
  const again = `npm run sim -- --seed ${seed} --steps ${steps} --trace`;
  assert.fail(`Seed ${seed} failed: ${failure.stack}\n${trace.slice(-40).join('\n')}\nagain: ${again}`);
}

for (let from = 1; from <= SEEDS; from += 50) {
  test(`M4, M5, M6, M7, D2, D3: seeds ${from} to ${from + 49} keep content, exactly-once, coherence and durability`, async () => {
    for (let seed = from; seed < from + 50; seed++) await mustHold(seed, STEPS);
  });
}

for (const { seed, steps, bug } of kept) {
  test(`seed ${seed} of ${steps} actions, which once failed: ${bug}`, () => mustHold(seed, steps));
}

test('one seed gives one run', async () => {
  const first = await simulate({ seed: 8, steps: 150 });
  const again = await simulate({ seed: 8, steps: 150 });
  assert.equal(again.hash, first.hash);
  const other = await simulate({ seed: 9, steps: 150 });
  assert.notEqual(other.hash, first.hash);
});

for (const name of Object.keys(BREAKS) as BreakName[]) {
  test(`the simulation finds out: ${BREAKS[name]}`, async () => {
    for (let seed = 1; seed <= BREAK_SEEDS; seed++) {
      const { failure } = await simulate({ seed, steps: BREAK_STEPS, break: name });
      if (failure !== undefined) return;
    }
    assert.fail(`'${name}' was not found within ${BREAK_SEEDS} seeds of ${BREAK_STEPS} actions`);
  });
}
