/**
 * For tests of repair: a member's coordinator with all its background work over scripted nodes, of which a test says who is
 * there, who is given up and what each is for. What nodes hold and what rows say can be looked at.
 */
import assert from 'node:assert/strict';
import { type ChunkId, type NodeName, parseChunkId, ROOT_REALM } from '@collective/base/ids';
import { SeededRandom } from '@collective/base/random';
import { commit, start } from '../ops/one-file.ts';
import type { NodePicture, PicturedNode } from '../placement/node-picture.ts';
import { replicaOf, testChunk } from '../session/scripted-operations.ts';
import type { ScriptedClient, SessionWorld } from '../session/session-harness.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { CHUNKS, REALMS, REPAIR_ORDER } from '../tables/tables.ts';
import { Background } from './background.ts';
import { MAINTENANCE_DEFAULTS, type MaintenanceSettings } from './maintenance.ts';
import { ScriptedOrders } from './scripted-orders.ts';

const GiB = 1024 ** 3;
export const PIECE_BYTES = 10;

export const chunkOf = (number: number): ChunkId => parseChunkId(testChunk(number).toString('hex'));
const numberOf = (chunk: string): number => Number.parseInt(chunk.slice(16), 16);

export interface SceneEvent {
  readonly kind: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string>>;
}

export class RepairScene implements AsyncDisposable {
  readonly world: SessionWorld;
  readonly client: ScriptedClient;
  readonly inode: number;
  readonly orders: ScriptedOrders;
  readonly events: SceneEvent[] = [];
  readonly failures: unknown[] = [];
  settings: MaintenanceSettings = MAINTENANCE_DEFAULTS;
  /** Nodes report as used what they hold. */
  isWeighed = false;
  background!: Background;
  readonly #board = new Map<string, PicturedNode>();

  /** Nodes n1, n2, ... all there. */
  static async open(nodes: number): Promise<RepairScene> {
    const scene = new RepairScene(await start());
    for (let i = 1; i <= nodes; i++) scene.addNode(`n${i}`);
    scene.begin();
    return scene;
  }

  private constructor(parts: Awaited<ReturnType<typeof start>>) {
    this.world = parts.world;
    this.client = parts.client;
    this.inode = parts.inode;
    this.orders = new ScriptedOrders(this.world.clock);
  }

  addNode(name: string, more: Partial<PicturedNode> = {}): void {
    this.orders.add(name);
    this.#board.set(name, {
      name,
      disk: `disk-${name}`,
      incarnation: 1,
      heard: 'ready',
      duty: 'active',
      zone: '',
      capacityBytes: 10 * GiB,
      usedBytes: GiB,
      freeBytes: 9 * GiB,
      awayForMs: 0,
      lost: false,
      ...more,
    });
  }

  /** Background work of a new start of the coordinator. */
  begin(): void {
    const { clock, core } = this.world;
    this.background = new Background({
      clock,
      random: new SeededRandom(5),
      engine: core.engine,
      orders: this.orders,
      nodes: {
        get: (node) => {
          const known = this.#board.get(node);
          return known === undefined ? undefined : { row: { disk: known.disk } };
        },
        stores: () => [],
        candidates: () => [],
        roomForNew: () => ({ capacityBytes: 100 * GiB, freeBytes: 90 * GiB, deadBytes: 0 }),
        picture: () => this.#picture(),
        wasDeaf: () => undefined,
      },
      ownsChunk: () => false,
      change: (caller, operation) => core.change(caller, operation),
      settings: () => this.settings,
      replaysOver: () => Promise.resolve(),
      drawChunkId: () => core.drawChunkId(),
      onCrowded: () => undefined,
      recallData: () => Promise.resolve(),
      event: (kind, message, details) => this.events.push({ kind, message, details }),
      onFailure: (_job, error) => this.failures.push(error),
    });
  }

  #picture(): NodePicture {
    if (!this.isWeighed) return new Map(this.#board);
    const used = (name: string): number => PIECE_BYTES * this.orders.node(name).copies.size;
    return new Map([...this.#board].map(([name, node]) => [name, { ...node, usedBytes: used(name) }]));
  }

  async restart(): Promise<void> {
    await this.world.restart();
    this.begin();
  }

  set(name: string, change: Partial<PicturedNode>): void {
    const node = this.#board.get(name);
    assert(node !== undefined, `there is a node ${name}`);
    this.#board.set(name, { ...node, ...change });
  }

  /** Away for less, or for more, than it may be. */
  down(name: string, how: 'away' | 'lost'): void {
    this.orders.node(name).isUp = false;
    this.set(name, { heard: 'away', lost: how === 'lost', awayForMs: how === 'lost' ? 700_000 : 10_000 });
  }

  up(name: string): void {
    this.orders.node(name).isUp = true;
    this.set(name, { heard: 'ready', lost: false, awayForMs: 0 });
  }

  removeNode(name: string): void {
    this.orders.node(name).isUp = false;
    this.#board.delete(name);
  }

  /** Chunks with these numbers, one behind the other in the file, on these nodes. */
  async store(numbers: readonly number[], nodes: readonly string[]): Promise<void> {
    for (const number of numbers) {
      for (const node of nodes) this.orders.put(node, chunkOf(number));
      const piece = { offset: number * PIECE_BYTES, length: PIECE_BYTES, chunk: number };
      await commit(this.client, this.inode, [piece], { replicas: nodes.map((node) => replicaOf(node)) });
    }
  }

  /** A change of the rule of the root realm. */
  async wantReplicas(replicas: number): Promise<void> {
    await this.run((tx) => {
      const row = tx.get(REALMS, ROOT_REALM);
      assert(row !== undefined, 'the root is a realm');
      tx.put(REALMS, { ...row, replicas }, ROOT_REALM);
    });
  }

  damage(name: string, number: number): void {
    const copy = this.orders.node(name).copies.get(chunkOf(number));
    assert(copy !== undefined, `${name} has chunk ${number}`);
    copy.damaged = true;
  }

  /** As a heartbeat tells it. */
  reportDamage(name: string, numbers: readonly number[]): void {
    const { disk } = this.orders.node(name);
    const damaged = numbers.map((number) => Buffer.from(chunkOf(number), 'hex'));
    this.background.nodeReported(name as NodeName, { disk, damaged });
  }

  run: SessionWorld['core']['engine']['run'] = (operation) => this.world.finish(this.world.core.engine.run(operation));

  async row(number: number): Promise<ChunkRow | undefined> {
    return await this.run((tx) => tx.get(CHUNKS, chunkOf(number)));
  }

  /** Nodes that the row names. */
  async placesOf(number: number): Promise<string[]> {
    return ((await this.row(number))?.replicas ?? []).map(({ node }) => node).sort();
  }

  /** Numbers of the chunks that really lie there, whole. */
  held(name: string): number[] {
    return [...this.orders.node(name).copies]
      .filter(([, { damaged }]) => !damaged)
      .map(([chunk]) => numberOf(chunk))
      .sort((a, b) => a - b);
  }

  /** Orders of a kind, as [node, numbers]. */
  given(order: string): [string, number[]][] {
    return this.orders.given
      .filter((each) => each.order === order)
      .map(({ node, chunks }) => [node, chunks.map(numberOf)]);
  }

  /** Chunks that are noted for repair, as [sound, number]. */
  async noted(): Promise<[number, number][]> {
    const rows = await this.run((tx) =>
      tx.scan(REPAIR_ORDER, REPAIR_ORDER.prefix, prefixEnd(REPAIR_ORDER.prefix), 5_000),
    );
    return rows.map(({ key }) => [key.charCodeAt(1), numberOf(Buffer.from(key.slice(2), 'latin1').toString('hex'))]);
  }

  /** Until nothing is noted any more. */
  async untilMended(withinMs = 120_000): Promise<void> {
    const { clock } = this.world;
    const endMs = clock.bootMs() + withinMs;
    // Notices need a look of the watch, and the survey after it.
    await clock.advance(5_000);
    while ((await this.noted()).length > 0) {
      assert(
        clock.bootMs() < endMs,
        `still noted: ${JSON.stringify(await this.noted())} ${JSON.stringify(this.events)}`,
      );
      await clock.advance(500);
    }
    assert.deepEqual(this.failures, []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world.finish(this.background[Symbol.asyncDispose]());
    await this.world[Symbol.asyncDispose]();
  }
}
