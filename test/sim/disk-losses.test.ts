/** Disks that die for good and rot, as a run of its own kind: what repair and scrub are there for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskLosses } from './disk-losses.ts';
import { simulate } from './simulation.ts';

test('D8: one node fewer than there are replicas may be hurt between two repairs, and each of them again and again', () => {
  for (const replicas of [2, 3]) {
    const losses = new DiskLosses(replicas);
    for (let round = 0; round < 3; round++) {
      for (let node = 1; node < replicas; node++) {
        assert.equal(losses.mayHurt(`n${node}`), true);
        losses.hurt(`n${node}`);
      }
      assert.equal(losses.mayHurt(`n${replicas}`), false);
      assert.throws(() => losses.hurt(`n${replicas}`), /at most/);
      assert.equal(losses.mayHurt('n1'), true);
      losses.repaired();
    }
  }
});

const SEEDS = 30;

test('D8: no acknowledged stable byte is lost while fewer disks die, rot or stay away than there are replicas', async () => {
  let hurts = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = await simulate({ seed, steps: 60, disksDie: true });
    if (result.failure !== undefined)
      assert.fail(
        `Seed ${seed} failed: ${result.failure.stack}\nagain: npm run sim -- --disks-die --seed ${seed} --steps 60`,
      );
    hurts += result.hurts;
  }
  assert.ok(hurts > SEEDS, `disks died or rotted ${hurts} times`);
});
