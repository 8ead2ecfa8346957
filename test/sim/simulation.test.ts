/** The simulation as a test: some hundred seeds, and the seeds that once failed. `breaks.test.ts` proves that it can fail. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import kept from './seeds.json' with { type: 'json' };
import { simulate } from './simulation.ts';

const SEEDS = 300;
const STEPS = 60;

async function mustHold(seed: number, steps: number, disksDie = false): Promise<void> {
  const { failure, trace } = await simulate({ seed, steps, disksDie });
  if (failure === undefined) return;
  const again = `npm run sim -- --seed ${seed} --steps ${steps}${disksDie ? ' --disks-die' : ''} --trace`;
  assert.fail(`Seed ${seed} failed: ${failure.stack}\n${trace.slice(-40).join('\n')}\nagain: ${again}`);
}

for (let from = 1; from <= SEEDS; from += 50) {
  test(`M4, M5, M6, M7, D2, D3, D8: seeds ${from} to ${from + 49} keep content, exactly-once, coherence and durability, and leave nothing behind`, async () => {
    for (let seed = from; seed < from + 50; seed++) await mustHold(seed, STEPS);
  });
}

for (const { seed, steps, disksDie, bug } of kept) {
  test(`seed ${seed} of ${steps} actions${disksDie ? ' with disks that die' : ''}, which once failed: ${bug}`, () =>
    mustHold(seed, steps, disksDie));
}

test('one seed gives one run', async () => {
  const first = await simulate({ seed: 8, steps: 150 });
  const again = await simulate({ seed: 8, steps: 150 });
  assert.equal(again.hash, first.hash);
  const other = await simulate({ seed: 9, steps: 150 });
  assert.notEqual(other.hash, first.hash);
});
