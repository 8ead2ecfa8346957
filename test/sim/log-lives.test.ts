import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runLogLives } from './log-lives.ts';

const SEEDS = 300;

test('M2: the log keeps what was written over SIGKILL and what was stable over power loss, in hundreds of random lives', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    await withSeed(seed, runLogLives({ seed, lives: 6 }));
  }
});

test('M2: the log can be stopped before every disk operation, then killed or without power, and opens again', async () => {
  for (const end of ['kill', 'power'] as const) {
    for (let seed = 1; seed <= 3; seed++) {
      const operations = await runLogLives({ seed, lives: 1, stopFirstAt: 1_000_000, end });
      assert.ok(operations > 40, `the first life makes ${operations} operations`);
      for (let stopFirstAt = 0; stopFirstAt < operations; stopFirstAt++)
        await withSeed(seed, runLogLives({ seed, lives: 3, stopFirstAt, end }));
    }
  }
});

test('M2: a disk whose syncs do nothing is found out by the log lives', async () => {
  let found = 0;
  for (let seed = 1; seed <= 50 && found === 0; seed++) {
    const run = runLogLives({ seed, lives: 2, end: 'power', ignoreSyncs: true });
    await run.catch(() => {
      found = seed;
    });
  }
  assert.ok(found > 0, 'no seed up to 50 noticed that nothing was synced');
});

async function withSeed(seed: number, run: Promise<unknown>): Promise<void> {
  try {
    await run;
  } catch (cause) {
    throw new Error(`Log lives with seed ${seed}`, { cause });
  }
}
