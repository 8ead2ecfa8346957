import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import type { PicturedNode } from '../placement/node-picture.ts';
import { NodeWatch } from './node-watch.ts';

const NODE: PicturedNode = {
  name: 'n1',
  disk: 'd1',
  incarnation: 1,
  heard: 'ready',
  duty: 'active',
  zone: '',
  capacityBytes: 100,
  usedBytes: 1,
  freeBytes: 99,
  awayForMs: 0,
  lost: false,
};

class World {
  readonly clock = new FakeClock();
  readonly told: string[] = [];
  node: PicturedNode | undefined = NODE;
  readonly watch = new NodeWatch({
    clock: this.clock,
    everyMs: 1_000,
    picture: () => new Map(this.node === undefined ? [] : [[this.node.name, this.node]]),
    wasDeaf: () => this.told.push('deaf'),
    onJudgementChanged: () => this.told.push('judge'),
    onMorePossible: () => this.told.push('more'),
    onGivenUp: ({ name }) => this.told.push(`${name} given up`),
    onReturned: ({ name }) => this.told.push(`${name} returned`),
  });

  async change(change: Partial<PicturedNode>): Promise<string[]> {
    this.node = { ...NODE, ...this.node, ...change };
    return await this.#look();
  }

  async remove(): Promise<string[]> {
    this.node = undefined;
    return await this.#look();
  }

  async #look(): Promise<string[]> {
    this.told.length = 0;
    await this.clock.advance(2_500);
    return [...this.told];
  }
}

test('each change is told once, and only what plans depend on is one', async () => {
  const world = new World();
  assert.deepEqual(await world.change({ usedBytes: 50, freeBytes: 50 }), []);
  assert.deepEqual(await world.change({ heard: 'away', awayForMs: 6_000 }), [], 'away alone changes no plan');
  assert.deepEqual(await world.change({ lost: true }), ['n1 given up', 'judge', 'more']);
  assert.deepEqual(await world.change({ heard: 'ready', lost: false }), ['n1 returned', 'judge', 'more']);
  assert.deepEqual(await world.change({ duty: 'draining' }), ['judge', 'more']);
  assert.deepEqual(await world.change({ disk: 'd2' }), ['judge', 'more']);
  assert.deepEqual(await world.change({ heard: 'full' }), ['more']);
  assert.deepEqual(await world.change({ heard: 'ready' }), ['more'], 'it has room again');
  assert.deepEqual(await world.remove(), ['judge', 'more']);
  assert.deepEqual(await world.change({}), ['judge', 'more'], 'a new node');
  world.watch[Symbol.dispose]();
});

test('a process that did not run for a while does not take others for silent', async () => {
  const world = new World();
  await world.clock.advance(3_000);
  assert.deepEqual(world.told, []);
  world.watch[Symbol.dispose]();
  const clock = new FakeClock();
  const suspended = clock.process();
  const told: string[] = [];
  const watch = new NodeWatch({
    clock: suspended,
    everyMs: 1_000,
    picture: () => new Map(),
    wasDeaf: () => told.push('deaf'),
    onJudgementChanged: () => undefined,
    onMorePossible: () => undefined,
    onGivenUp: () => undefined,
    onReturned: () => undefined,
  });
  await clock.advance(5_000);
  suspended.pause(60_000);
  await clock.advance(65_000);
  assert.deepEqual(told, ['deaf']);
  watch[Symbol.dispose]();
});
