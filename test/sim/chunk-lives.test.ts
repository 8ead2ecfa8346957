import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LivingChunkStore } from './chunk-lives.ts';
import { runEveryStop, runSeeds, seedThatNoticesLostSyncs } from './process-lives.ts';

const make = (): LivingChunkStore => new LivingChunkStore();

test('D3: the chunk store keeps what was written over SIGKILL and what was stable over power loss, in hundreds of random lives', async () => {
  await runSeeds(200, 6, make);
});

test('D4: the chunk store can be stopped before every disk operation, then killed or without power, and opens again', async () => {
  for (const end of ['kill', 'power'] as const)
    for (let seed = 1; seed <= 3; seed++) assert.ok((await runEveryStop({ seed, lives: 3, end }, make)) > 20);
});

test('D4: a disk whose syncs do nothing is found out by the chunk store lives', async () => {
  assert.notEqual(
    await seedThatNoticesLostSyncs(50, /incarnation 1 after 1|was stable and is missing|refuses to open/, make),
    undefined,
  );
});
