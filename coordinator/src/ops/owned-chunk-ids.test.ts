import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chunkIdOf } from '@collective/base/ids';
import { SessionWorld } from '../session/session-harness.ts';
import { OwnedChunkIds } from './owned-chunk-ids.ts';

const id = (number: number, start = 1) => chunkIdOf({ generation: 7, start }, number);

test('D2: ids are owned within the blocks of sessions, over epochs, and nowhere else', () => {
  const block = (from: number, to: number, start = 1) => ({ first: id(from, start), last: id(to, start) });
  const owned = new OwnedChunkIds([block(100, 199), block(1, 10), block(100, 150, 2)]);
  const cases: [number, number, boolean][] = [
    [0, 1, false],
    [1, 1, true],
    [10, 1, true],
    [11, 1, false],
    [199, 1, true],
    [200, 1, false],
    [100, 2, true],
    [151, 2, false],
    [100, 3, false],
  ];
  for (const [number, start, expected] of cases)
    assert.equal(owned.has(id(number, start)), expected, `${start}.${number}`);
  assert.equal(new OwnedChunkIds([]).has(id(1)), false);
});

test('D2: a session owns its ids from its attach on until it ends, over a restart too', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const owned = async (): Promise<boolean> =>
    (await world.finish(world.core.engine.run((tx) => OwnedChunkIds.read(tx)))).has(id(5));
  assert.equal(await owned(), true);
  await world.restart('power-loss');
  assert.equal(await owned(), true);
  await client.attach();
  await client.detach();
  assert.equal(await owned(), false);
});
