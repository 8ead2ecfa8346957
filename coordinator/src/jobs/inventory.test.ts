import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdOf, type NodeName, parseChunkId } from '@collective/base/ids';
import { randomBelow, SeededRandom } from '@collective/base/random';
import { blocks, commit, count, start } from '../ops/one-file.ts';
import { addReplica, dropReplica } from '../ops/replica-places.ts';
import { code, replicaOf, testChunk } from '../session/scripted-operations.ts';
import type { ScriptedClient, SessionWorld } from '../session/session-harness.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { CHUNKS, GARBAGE, ORPHAN_CHUNKS, UNDER_REPLICATED } from '../tables/tables.ts';
import { ByteRates } from './byte-rates.ts';
import { INVENTORY_EVERY_MS, InventoryJob } from './inventory.ts';
import { OrphanJob } from './orphans.ts';
import { ScriptedOrders } from './scripted-orders.ts';

/** Within the lease of a session. */
const GRACE_SECONDS = 20;
const round = { signal: new AbortController().signal, progress: () => undefined };
const idOf = (number: number): ChunkId => parseChunkId(testChunk(number).toString('hex'));
const at = (node: string): { node: string; disk: string } => ({ node, disk: `disk-${node}` });

class Scene implements AsyncDisposable {
  readonly world: SessionWorld;
  readonly client: ScriptedClient;
  readonly inode: number;
  readonly orders: ScriptedOrders;
  readonly missing: string[] = [];
  bytesPerSecond = 2 ** 40;
  inventory: InventoryJob;
  orphans: OrphanJob;

  static async open(): Promise<Scene> {
    return new Scene(await start());
  }

  private constructor(parts: Awaited<ReturnType<typeof start>>) {
    this.world = parts.world;
    this.client = parts.client;
    this.inode = parts.inode;
    this.orders = new ScriptedOrders(this.world.clock);
    for (const node of ['n1', 'n2', 'n3']) this.orders.add(node);
    [this.inventory, this.orphans] = this.jobs();
  }

  jobs(): [InventoryJob, OrphanJob] {
    const { orders } = this;
    const { clock, core } = this.world;
    const rates = new ByteRates({ clock, bytesPerSecond: () => this.bytesPerSecond });
    const inventory = new InventoryJob({
      clock,
      engine: core.engine,
      orders,
      rates,
      stores: () =>
        [...orders.nodes].flatMap(([node, { disk, incarnation, sequence, isUp }]) =>
          isUp ? [{ node: node as NodeName, disk, incarnation, stableSequence: sequence }] : [],
        ),
      onMissing: ({ node }, dropped, lost) => this.missing.push(`${node} ${dropped} ${lost.join(' ')}`.trim()),
    });
    const orphans = new OrphanJob({
      clock,
      engine: core.engine,
      orders,
      rates,
      diskOf: (node) => orders.nodes.get(node)?.disk,
      settings: () => ({ garbageGraceSeconds: 0, garbageWaits: false }),
      replaysOver: () => Promise.resolve(),
      onMayTakeAgain: () => undefined,
      graceMinSeconds: GRACE_SECONDS,
    });
    return [inventory, orphans];
  }

  /** A chunk that these nodes have, committed with these as its replicas. */
  async commit(number: number, nodes: readonly string[], named: readonly string[] = nodes): Promise<void> {
    for (const node of nodes) this.orders.put(node, idOf(number));
    await this.name(number, named);
  }

  async name(number: number, named: readonly string[]): Promise<void> {
    const replicas = named.map((node) =>
      replicaOf(node, { sequence: this.orders.nodes.get(node)?.copies.get(idOf(number))?.sequence ?? 1 }),
    );
    await commit(this.client, this.inode, [{ offset: number * 100, length: 10, chunk: number }], { replicas });
  }

  async compare(): Promise<void> {
    this.inventory.askAll();
    await this.world.finish(this.inventory.work(round));
  }

  letGo(): Promise<void> {
    return this.world.finish(this.orphans.work(round));
  }

  later(seconds: number): Promise<void> {
    return this.world.clock.advance(seconds * 1_000);
  }

  holds(number: number): string[] {
    return [...this.orders.nodes].flatMap(([node, { copies }]) => (copies.has(idOf(number)) ? [node] : []));
  }

  async places(number: number): Promise<string[] | undefined> {
    const row = await this.run((tx) => tx.get(CHUNKS, idOf(number)));
    return row?.replicas.map(({ node, damaged }) => (damaged ? `${node} damaged` : node));
  }

  async noted(): Promise<string[]> {
    const rows = await this.run((tx) =>
      tx.scan(ORPHAN_CHUNKS, ORPHAN_CHUNKS.prefix, prefixEnd(ORPHAN_CHUNKS.prefix), 10_000),
    );
    return rows.map(({ key, value }) => {
      const node = bytesOf(key.slice(1)).toString('latin1').split('\0')[0];
      const chunk = bytesOf(key.slice(-16)).toString('hex');
      return `${node} ${Number.parseInt(chunk.slice(16), 16)}${value.leaving ? ' leaving' : ''}`;
    });
  }

  run: SessionWorld['core']['engine']['run'] = (operation) => this.world.finish(this.world.core.engine.run(operation));

  count(table: Parameters<typeof count>[1]): Promise<number> {
    return count(this.world, table);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.world[Symbol.asyncDispose]();
  }
}

test('D2: a replica that its node lacks is taken from its row, and the chunk is one to repair', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2']);
  await scene.commit(2, ['n1', 'n2']);
  scene.orders.node('n1').copies.delete(idOf(1));
  await scene.compare();
  assert.deepEqual(await scene.places(1), ['n2']);
  assert.deepEqual(await scene.places(2), ['n1', 'n2']);
  assert.equal(await scene.count(UNDER_REPLICATED), 1);
  assert.deepEqual(scene.missing, ['n1 1']);
  await scene.compare();
  assert.deepEqual(scene.missing, ['n1 1'], 'told once');
});

test('the last place that is known of a chunk is kept as a damaged one, and counts again when it shows what it has', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2']);
  const { copies } = scene.orders.node('n2');
  const copy = copies.get(idOf(1));
  assert(copy !== undefined);
  scene.orders.node('n1').copies.delete(idOf(1));
  copies.delete(idOf(1));
  await scene.compare();
  assert.deepEqual(await scene.places(1), ['n2 damaged']);
  assert.deepEqual(scene.missing, ['n1 1', `n2 1 ${idOf(1)}`]);
  await scene.compare();
  assert.equal(scene.missing.length, 2);
  copies.set(idOf(1), copy);
  await scene.compare();
  assert.deepEqual(await scene.places(1), ['n2']);
});

test('a replica that was put after the list was made is not missing', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2']);
  let late = true;
  scene.orders.onOrder = async (order, node) => {
    if (order !== 'list' || node !== 'n1' || !late) return;
    late = false;
    // Named at once, and shown only by the next list.
    await scene.world.core.engine.run((tx) =>
      addReplica(tx, idOf(1), { ...at('n3'), incarnation: 1, sequence: scene.orders.node('n3').sequence + 1 }),
    );
  };
  await scene.compare();
  assert.deepEqual(await scene.places(1), ['n1', 'n2', 'n3']);
});

test('D2: what is collected while the list is on its way is no orphan, and what nobody committed is one', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2']);
  scene.orders.put('n1', idOf(2));
  scene.orders.onListed = async (node) => {
    if (node !== 'n1' || !scene.orders.node('n1').copies.has(idOf(1))) return;
    for (const name of ['n1', 'n2']) scene.orders.node(name).copies.delete(idOf(1));
    await scene.world.core.engine.run((tx) => tx.remove(CHUNKS, idOf(1)));
  };
  await scene.compare();
  assert.deepEqual(await scene.noted(), ['n1 2']);
  assert.equal(scene.inventory.figures.get('n1' as NodeName)?.orphans, 1);
});

test('D2: an upload that nobody commits is kept for the grace time, then refused, then forgotten', async () => {
  await using scene = await Scene.open();
  scene.orders.put('n1', idOf(1));
  scene.orders.put('n2', idOf(1));
  await scene.compare();
  assert.deepEqual(await scene.noted(), ['n1 1', 'n2 1']);
  await scene.later(GRACE_SECONDS - 5);
  await scene.letGo();
  assert.deepEqual(scene.holds(1), ['n1', 'n2']);
  assert.equal(scene.orphans.figures.chunks, 2);
  await scene.later(5);
  const refused: unknown[] = [];
  scene.orders.onOrder = async (order) => {
    if (order === 'forget')
      refused.push(await scene.world.core.engine.run((tx) => tx.get(GARBAGE, idOf(1))?.condemned));
  };
  await scene.letGo();
  assert.deepEqual(refused, [true, true], 'condemned before a node is told');
  assert.deepEqual(scene.holds(1), []);
  await assert.rejects(scene.name(1, ['n1', 'n2']), code('chunk_condemned'));
  assert.deepEqual(scene.orphans.figures, { chunks: 0, forgotten: 2 });
  await scene.compare();
  await scene.later(601);
  await scene.letGo();
  assert.deepEqual(await scene.noted(), []);
  assert.equal(await scene.count(GARBAGE), 1, 'the refusal stays');
});

test('D2: an upload that was noted and then committed is never forgotten', async () => {
  await using scene = await Scene.open();
  scene.orders.put('n1', idOf(1));
  scene.orders.put('n2', idOf(1));
  await scene.compare();
  await scene.later(GRACE_SECONDS);
  await scene.name(1, ['n1', 'n2']);
  await scene.letGo();
  assert.deepEqual(scene.holds(1), ['n1', 'n2']);
  assert.deepEqual(await scene.noted(), []);
  assert.equal((await blocks(scene.client, scene.inode)).chunks.length, 1);
});

test('D8: a copy that no row names becomes a replica where one is missing, after it was read', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2', 'n3'], ['n1']);
  await scene.commit(2, ['n1', 'n2'], ['n1']);
  const damaged = scene.orders.node('n2').copies.get(idOf(2));
  assert(damaged !== undefined);
  damaged.damaged = true;
  await scene.compare();
  assert.deepEqual(await scene.places(1), ['n1', 'n2', 'n3']);
  assert.deepEqual(await scene.places(2), ['n1'], 'a damaged copy is none');
  assert.deepEqual(await scene.noted(), ['n2 2']);
});

test('D8: what is read again keeps to the rate, in orders that are no more than a second of it', async () => {
  await using scene = await Scene.open();
  const numbers = Array.from({ length: 40 }, (_, i) => i + 1);
  for (const number of numbers) await scene.commit(number, ['n1', 'n2'], ['n1']);
  const [row] = await scene.run((tx) => numbers.map((number) => tx.get(CHUNKS, idOf(number))));
  const bytes = row?.storedLength ?? assert.fail();
  scene.bytesPerSecond = 2 * bytes;
  const beganMs = scene.world.clock.bootMs();
  await scene.compare();
  assert.deepEqual(await scene.places(40), ['n1', 'n2']);
  const tookMs = scene.world.clock.bootMs() - beganMs;
  assert.ok(tookMs >= 17_000 && tookMs <= 21_000, `${tookMs} ms for 40 chunks at two a second`);
  const orders = scene.orders.record.filter((line) => line.startsWith('verify'));
  assert.ok(orders.length >= 20, `${orders.length} orders`);
});

test('D3: a copy that is not stable yet does not become a replica', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2'], ['n1']);
  const node = scene.orders.node('n2');
  scene.orders.onOrder = (order, name) => {
    // The node has reported an earlier sequence as stable than the one it answers with.
    if (order === 'verify' && name === 'n2') node.sequence = 1;
  };
  await scene.compare();
  assert.deepEqual(await scene.places(1), ['n1']);
});

test('D8: a copy too many goes only after the other replicas were read again and are whole', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2', 'n3'], ['n1', 'n2']);
  const second = scene.orders.node('n2').copies.get(idOf(1));
  assert(second !== undefined);
  second.damaged = true;
  await scene.compare();
  await scene.later(GRACE_SECONDS);
  await scene.letGo();
  assert.deepEqual(scene.holds(1), ['n1', 'n2', 'n3'], 'one of the two is damaged');
  second.damaged = false;
  scene.orders.node('n1').isUp = false;
  await scene.letGo();
  assert.deepEqual(scene.holds(1), ['n1', 'n2', 'n3'], 'one of the two cannot be read');
  scene.orders.node('n1').isUp = true;
  await scene.letGo();
  assert.deepEqual(scene.holds(1), ['n1', 'n2']);
  assert.deepEqual(await scene.places(1), ['n1', 'n2']);
});

test('D8: a copy stays when its row changes while the others are read', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2', 'n3'], ['n1', 'n2']);
  await scene.compare();
  await scene.later(GRACE_SECONDS);
  scene.orders.onOrder = async (order, node) => {
    if (order === 'verify' && node === 'n2')
      await scene.world.core.engine.run((tx) => dropReplica(tx, idOf(1), at('n1')));
  };
  await scene.letGo();
  assert.deepEqual(scene.holds(1), ['n1', 'n2', 'n3']);
});

test('D8: a copy that leaves cannot become a replica, until it has long been forgotten', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2', 'n3'], ['n1', 'n2']);
  await scene.compare();
  await scene.later(GRACE_SECONDS);
  const fetched = { ...at('n3'), incarnation: 1, sequence: 2 };
  const adding: unknown[] = [];
  scene.orders.onOrder = async (order) => {
    if (order === 'forget') adding.push(await scene.world.core.engine.run((tx) => addReplica(tx, idOf(1), fetched)));
  };
  await scene.letGo();
  assert.deepEqual(scene.holds(1), ['n1', 'n2']);
  assert.deepEqual(adding, [undefined], 'while its node forgets');
  assert.equal(await scene.run((tx) => addReplica(tx, idOf(1), fetched)), undefined, 'by who has fetched before');
  await scene.later(601);
  await scene.letGo();
  await scene.run((tx) => addReplica(tx, idOf(1), fetched));
  assert.deepEqual(await scene.places(1), ['n1', 'n2', 'n3']);
});

test('a node that could not be told to forget is told later, and what leaves does not come back meanwhile', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2', 'n3'], ['n1', 'n2']);
  scene.orders.put('n3', idOf(2));
  await scene.compare();
  await scene.later(GRACE_SECONDS);
  scene.orders.onOrder = (order) => {
    if (order === 'forget') throw new CollectiveError('unavailable', 'its link ended');
  };
  await scene.letGo();
  assert.deepEqual(await scene.noted(), ['n3 1 leaving', 'n3 2 leaving']);
  scene.orders.onOrder = undefined;
  await scene.compare();
  await scene.letGo();
  assert.deepEqual([scene.holds(1), scene.holds(2)], [['n1', 'n2'], []]);
});

test('D10: notes about a removed node or a lost disk go', async () => {
  await using scene = await Scene.open();
  for (const node of ['n1', 'n2', 'n3']) scene.orders.put(node, idOf(1));
  await scene.compare();
  scene.orders.nodes.delete('n1');
  scene.orders.node('n2').disk = 'another-disk';
  await scene.letGo();
  assert.deepEqual(await scene.noted(), ['n3 1']);
});

test('a node that starts anew in the middle of its list takes no replica from any row, and is compared again', async () => {
  await using scene = await Scene.open();
  await scene.commit(1, ['n1', 'n2']);
  scene.orders.onOrder = (order, name) => {
    const node = scene.orders.node(name);
    if (order !== 'list' || name !== 'n1' || node.incarnation > 1) return;
    node.incarnation = 2;
    node.copies.clear();
  };
  await assert.rejects(scene.compare(), code('unavailable'));
  assert.deepEqual(await scene.places(1), ['n1', 'n2']);
  assert.equal(scene.inventory.isDue, true);
  await scene.world.finish(scene.inventory.work(round));
  assert.deepEqual(await scene.places(1), ['n2']);
  assert.equal(scene.inventory.isDue, false);
});

test('a node is compared after each of its starts, when asked, and once a day', async () => {
  await using scene = await Scene.open();
  await scene.world.finish(scene.inventory.work(round));
  assert.equal(scene.inventory.isDue, false);
  scene.orders.node('n2').incarnation = 2;
  scene.orders.record.length = 0;
  await scene.world.finish(scene.inventory.work(round));
  assert.deepEqual(scene.orders.record, ['list n2 2000']);
  scene.inventory.ask('n1' as NodeName);
  await scene.world.finish(scene.inventory.work(round));
  assert.deepEqual(scene.orders.record, ['list n2 2000', 'list n1 2000']);
  await scene.later(INVENTORY_EVERY_MS / 1_000);
  assert.equal(scene.inventory.isDue, true);
});

test('D2: lists of thousands are compared page by page, as if at once', async () => {
  await using scene = await Scene.open();
  const random = new SeededRandom(5);
  const id = (number: number): ChunkId => chunkIdOf({ generation: 7, start: 1 }, number * 3 + 1);
  const all = 7_000;
  const named: number[] = [];
  const held: number[] = [];
  const row = (): ChunkRow => ({
    length: 10,
    storedLength: 10,
    digest: Buffer.alloc(4),
    replicas: [
      { ...at('n1'), stable: true, incarnation: 1, sequence: 1, damaged: false },
      { ...at('n2'), stable: true, incarnation: 1, sequence: 1, damaged: false },
    ],
    wanted: 2,
    references: 1,
    inode: 5,
    block: 0,
    realm: 1,
  });
  // Stretches of both, of one, of the other, of none.
  let kind = 0;
  for (let number = 0; number < all; number++) {
    if (randomBelow(random, 300) === 0) kind = randomBelow(random, 5);
    const [isNamed, isHeld] =
      kind === 4 ? [randomBelow(random, 2) === 0, randomBelow(random, 2) === 0] : [(kind & 1) !== 0, (kind & 2) !== 0];
    if (isNamed) named.push(number);
    if (isHeld) held.push(number);
  }
  for (let from = 0; from < named.length; from += 2_000)
    await scene.run((tx) => {
      for (const number of named.slice(from, from + 2_000)) tx.put(CHUNKS, row(), id(number));
    });
  for (const number of held) scene.orders.put('n1', id(number));
  for (const number of named) scene.orders.put('n2', id(number));
  for (const node of ['n2', 'n3']) scene.orders.node(node).isUp = node === 'n2';
  await scene.compare();
  const [isNamed, isHeld] = [new Set(named), new Set(held)];
  const figures = scene.inventory.figures.get('n1' as NodeName);
  assert.equal(figures?.chunks, held.length);
  assert.equal(figures?.missing, named.filter((number) => !isHeld.has(number)).length);
  assert.equal(figures?.orphans, held.filter((number) => !isNamed.has(number)).length);
  assert.equal(scene.inventory.figures.get('n2' as NodeName)?.missing, 0);
  assert.equal((await scene.noted()).length, figures?.orphans);
  const again = await scene.run((tx) => tx.get(CHUNKS, id(named.find((number) => !isHeld.has(number)) ?? 0)));
  assert.deepEqual(
    again?.replicas.map(({ node }) => node),
    ['n2'],
  );
});

for (const how of ['kill', 'power-loss'] as const)
  test(`D2, D8: letting orphans go, cut off anywhere by ${how}, never takes a copy that a row names`, async () => {
    await using scene = await Scene.open();
    const { world, orders } = scene;
    for (let number = 1; number <= 60; number++) {
      const kind = number % 3;
      if (kind === 0) for (const node of ['n1', 'n2', 'n3']) orders.put(node, idOf(number));
      else await scene.commit(number, ['n1', 'n2', 'n3'], kind === 1 ? ['n1', 'n2'] : ['n1', 'n2', 'n3']);
    }
    await scene.compare();
    await scene.later(GRACE_SECONDS);
    let rounds = 0;
    for (let cutAfterMs = 0; rounds < 60; cutAfterMs += 2) {
      rounds += 1;
      [scene.inventory, scene.orphans] = scene.jobs();
      const stop = new AbortController();
      const work = scene.orphans.work({ signal: stop.signal, progress: () => undefined });
      work.catch(() => undefined);
      await world.clock.advance(cutAfterMs);
      stop.abort(new Error('the process ends'));
      await world.restart(how);
      for (let number = 1; number <= 60; number++)
        for (const node of (await scene.places(number)) ?? [])
          assert.ok(scene.holds(number).includes(node), `${number} on ${node}`);
      if (scene.orphans.figures.forgotten === 0 && (await scene.noted()).every((note) => note.endsWith('leaving')))
        break;
    }
    [scene.inventory, scene.orphans] = scene.jobs();
    await scene.letGo();
    assert.ok(rounds > 2, `it took ${rounds} tries`);
    for (let number = 1; number <= 60; number++)
      assert.deepEqual(scene.holds(number), [[], ['n1', 'n2'], ['n1', 'n2', 'n3']][number % 3], `chunk ${number}`);
  });
