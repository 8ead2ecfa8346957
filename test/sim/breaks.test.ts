/** The proof that the simulation can fail: each defect that is put in on purpose must be found within a bounded number of seeds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BREAKS, type BreakName } from './breaks.ts';
import { simulate } from './simulation.ts';

/** Seeds within which a defect must be found; each is of this many actions. */
const SEEDS = 120;
const STEPS = 100;

for (const name of Object.keys(BREAKS) as BreakName[]) {
  test(`the simulation finds out: ${BREAKS[name]}`, async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { failure } = await simulate({ seed, steps: STEPS, break: name });
      if (failure !== undefined) return;
    }
    assert.fail(`'${name}' was not found within ${SEEDS} seeds of ${STEPS} actions`);
  });
}
