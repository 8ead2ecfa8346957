/** A whole node on a fake disk and clock, as its coordinator sees it: what it reports about its chunks, and what its orders do. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FakeDisk } from '@collective/base/disk/fake-disk';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { chunkIdToBytes } from '@collective/base/ids';
import { SeededRandom } from '@collective/base/random';
import type { Answer, CoordinatorMessage, NodeMessage, NodeReport, Order } from '@collective/protocol/gen/node';
import type { Link } from '@collective/protocol/link/link';
import { memoryLinkPair } from '@collective/protocol/link/memory-link';
import { scratchChunk } from './chunk-store/scratch-chunk.ts';
import { segmentPath } from './chunk-store/segment.ts';
import { ScratchCoordinator } from './server/scratch-node.ts';
import { StorageNode } from './storage-node.ts';

const MiB = 1024 * 1024;

class World implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly disk = new FakeDisk();
  readonly answers: Answer[] = [];
  report: NodeReport | undefined;
  node!: StorageNode;
  #link: Link<CoordinatorMessage, NodeMessage> | undefined;
  #orders = 0;

  static async open(scrubPeriodSeconds: number): Promise<World> {
    const world = new World();
    const { clock, disk } = world;
    const opening = StorageNode.open({
      name: 'one',
      disk,
      clock,
      random: new SeededRandom(1),
      capacityBytes: 256 * MiB,
      version: 'test',
      connector: { connect: () => Promise.reject(new CollectiveError('unavailable', 'Connect: no network here')) },
      connectCoordinator: async () => world.#dial(),
      surroundings: () => ({ zone: '', addresses: [], bundleHash: '', certificateExpires: undefined }),
    });
    world.node = await clock.finish(opening);
    world.node.join();
    await clock.until(() => world.report !== undefined, { withinMs: 10_000 });
    const value = { ...new ScratchCoordinator().welcome('one'), scrubPeriodSeconds };
    world.#link?.send({ message: { $case: 'welcome', value } });
    await clock.until(() => world.node.registered, { withinMs: 10_000 });
    return world;
  }

  async order(order: NonNullable<Order['order']>): Promise<Answer['answer']> {
    const number = ++this.#orders;
    this.#link?.send({ message: { $case: 'order', value: { number, order } } });
    const answer = (): Answer | undefined => this.answers.find((each) => each.number === number);
    await this.clock.until(() => answer() !== undefined, { withinMs: 60_000 });
    return answer()?.answer;
  }

  async reported(holds: (report: NodeReport) => boolean): Promise<NodeReport> {
    const isThere = (): boolean => this.report !== undefined && holds(this.report);
    await this.clock.until(isThere, { withinMs: 600_000 });
    return this.report ?? assert.fail();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.clock.finish(this.node[Symbol.asyncDispose]());
  }

  #dial(): Link<NodeMessage, CoordinatorMessage> {
    const { left, right } = memoryLinkPair<NodeMessage, CoordinatorMessage>({ clock: this.clock });
    this.#link = right;
    void this.#listen(right);
    return left;
  }

  async #listen(link: Link<CoordinatorMessage, NodeMessage>): Promise<void> {
    try {
      for (let message = await link.receive(); message !== undefined; message = await link.receive()) {
        if (message.message?.$case === 'answer') this.answers.push(message.message.value);
        else if (message.message?.$case === 'register' || message.message?.$case === 'heartbeat')
          this.report = message.message.value;
      }
    } catch (error) {
      assert.ok(error instanceof CollectiveError);
    }
  }
}

describe('storage node', () => {
  test('D8: what rots is reported soon after an ordered scrub, and no more when it is forgotten', async () => {
    await using world = await World.open(0);
    const chunks = [1, 2, 3].map((number) => scratchChunk(number, 200_000));
    for (const { facts, frames } of chunks) await world.clock.finish(world.node.store.put(facts, frames));
    const second = chunkIdToBytes(chunks[1]?.facts.chunk ?? assert.fail());
    const segment = world.disk.platter.files().find(({ path }) => path === segmentPath(1)) ?? assert.fail();
    segment.content.flipBit(64 + 200_000 + 100_000, 5);
    const before = await world.reported(({ chunkCount }) => chunkCount === 3);
    assert.deepEqual([before.damaged, before.scrub?.lastEnded], [[], undefined]);
    assert.deepEqual(await world.order({ $case: 'scrub', value: {} }), { $case: 'done', value: {} });
    const { damaged, scrub } = await world.reported((report) => report.scrub?.lastEnded !== undefined);
    assert.deepEqual(damaged.map(Buffer.from), [second]);
    assert.equal(scrub?.damaged, 1);
    await world.order({ $case: 'forget', value: { chunks: [second] } });
    assert.deepEqual((await world.reported(({ chunkCount }) => chunkCount === 2)).damaged, []);
  });

  test('D8: the period that the coordinator gives makes the node read what it holds', async () => {
    await using world = await World.open(3_600);
    const { facts, frames } = scratchChunk(1, 2 * MiB);
    await world.clock.finish(world.node.store.put(facts, frames));
    const first = await world.reported(({ scrub }) => scrub?.lastEnded !== undefined);
    assert.equal(first.scrub?.passBegan, undefined);
    await world.clock.advance(1.5 * 3_600_000);
    const metrics = await world.node.metrics.registry.metrics();
    assert.match(metrics, /^collective_node_scrub_verified_bytes_total 2\d{6,}$/m);
    assert.match(metrics, /^collective_node_scrub_first_read_bytes_total 2\d{6}$/m);
  });

  test('D4: dead bytes are reported, and an order to compact gives them back', async () => {
    await using world = await World.open(0);
    const chunks = Array.from({ length: 20 }, (_unused, i) => scratchChunk(i + 1, 100_000));
    for (const { facts, frames } of chunks) await world.clock.finish(world.node.store.put(facts, frames));
    // Too little for the node to do something about it by itself.
    await world.order({
      $case: 'forget',
      value: { chunks: [chunkIdToBytes(chunks[3]?.facts.chunk ?? assert.fail())] },
    });
    const before = await world.reported(({ deadBytes }) => deadBytes > 100_000);
    await world.clock.advance(60_000);
    assert.equal(world.report?.usedBytes, before.usedBytes);
    const answer = await world.order({ $case: 'compact', value: { run: '1', withinMs: 2_000 } });
    assert.ok(answer?.$case === 'compacted' && answer.value.done, JSON.stringify(answer));
    const after = await world.reported(({ deadBytes }) => deadBytes < 1_000);
    assert.ok(before.usedBytes - after.usedBytes > 99_000);
    assert.equal(after.chunkCount, 19);
  });

  test('D4: a coordinator of an earlier version, which knows no runs, is answered when all is compacted', async () => {
    await using world = await World.open(0);
    const { facts, frames } = scratchChunk(1, 100_000);
    await world.clock.finish(world.node.store.put(facts, frames));
    await world.order({ $case: 'forget', value: { chunks: [chunkIdToBytes(facts.chunk)] } });
    const order = { $case: 'compact', value: { run: '', withinMs: 0 } } as const;
    assert.deepEqual(await world.order(order), { $case: 'done', value: {} });
    assert.equal(world.node.store.stats().deadBytes, 0);
  });
});
