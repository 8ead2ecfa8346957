import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LivingLog } from './log-lives.ts';
import { runEveryStop, runSeeds, seedThatNoticesLostSyncs } from './process-lives.ts';

const make = (): LivingLog => new LivingLog();

test('M2: the log keeps what was written over SIGKILL and what was stable over power loss, in hundreds of random lives', async () => {
  await runSeeds(300, 6, make);
});

test('M2: the log can be stopped before every disk operation, then killed or without power, and opens again', async () => {
  for (const end of ['kill', 'power'] as const)
    for (let seed = 1; seed <= 3; seed++) assert.ok((await runEveryStop({ seed, lives: 3, end }, make)) > 40);
});

test('M2: a disk whose syncs do nothing is found out by the log lives', async () => {
  assert.notEqual(await seedThatNoticesLostSyncs(50, /had been promised/, make), undefined);
});
