/**
 * All that a coordinator does by itself, put together in one place from ports: the member's process and the simulation make
 * the same. Each job is a keeper of its own; what happens elsewhere only pokes them, so a lost poke costs time, not truth.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { type ChunkId, chunkIdFromBytes, type InodeNumber, type NodeName } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import type { NodeReport } from '@collective/protocol/gen/node';
import type { Engine } from '../engine/engine.ts';
import { hasEnded } from '../ops/realm-moves.ts';
import type { FoldingNode } from '../placement/plan-fold.ts';
import { BLOCKS, DOOMED, GARBAGE, JOBS } from '../tables/tables.ts';
import { ByteRates } from './byte-rates.ts';
import { CompactionJob, type NodeCompaction } from './compaction.ts';
import { type FoldFigures, FoldJob } from './fold.ts';
import { GarbageCollector, type GarbageFigures } from './garbage.ts';
import { type InventoriedStore, InventoryJob, type NodeInventory } from './inventory.ts';
import { Keeper, type KeeperFigures, type Round } from './keeper.ts';
import type { MaintenanceSettings } from './maintenance.ts';
import type { NodeLoad } from './moving-loads.ts';
import type { NodeOrders } from './node-orders.ts';
import { type OrphanFigures, OrphanJob } from './orphans.ts';
import { RealmMover, type RealmMoverParts } from './realm-moves.ts';
import type { RebalancePlan } from './rebalance.ts';
import { BlockRelease } from './release-blocks.ts';
import { type PicturedNodes, ReplicaKeeping } from './replica-keeping.ts';
import { TrashCollector } from './trash.ts';

export interface BackgroundParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly engine: Engine;
  readonly orders: NodeOrders;
  readonly nodes: KnownNodes;
  /** A change of the namespace that no session asks for. */
  change: RealmMoverParts['change'];
  settings(): MaintenanceSettings;
  /** Resolves when no change that was lost with the power can be made again (M4). */
  replaysOver(signal: AbortSignal): Promise<void>;
  drawChunkId(): ChunkId;
  /** Whether it was drawn by that in this start. */
  ownsChunk(chunk: ChunkId): boolean;
  /** `told` hears of each commit that was refused because a block must be folded first. */
  onCrowded(told: (inode: InodeNumber, block: number) => void): void;
  /** What sessions cache of the inode's block map is called back (M7). */
  recallData(inode: InodeNumber): Promise<void>;
  /** Something that an operator should find again. */
  event(kind: string, message: string, details: Readonly<Record<string, string>>): void;
  onFailure(job: string, error: unknown): void;
  /** Instead of ORPHAN_GRACE_MIN_SECONDS, for the simulation. */
  readonly orphanGraceMinSeconds?: number;
}

/** What is known of nodes; `NodeTable` is one. */
export interface KnownNodes extends PicturedNodes {
  get(node: NodeName): { readonly row: { readonly disk: string } } | undefined;
  /** The chunk stores of nodes that are there. */
  stores(): readonly InventoriedStore[];
  /** Nodes that take new chunks. */
  candidates(): readonly FoldingNode[];
  /** Over those that are there and take new chunks. */
  roomForNew(): { readonly capacityBytes: number; readonly freeBytes: number; readonly deadBytes: number };
}

const HOUR_MS = 3_600_000;
const GARBAGE_EVERY_MS = 600_000;
/** How often it is looked whether a node is to be compared. */
const INVENTORY_LOOK_MS = 600_000;
const ORPHANS_EVERY_MS = 600_000;
/** How often it is looked whether a block has become quiet. */
const FOLD_LOOK_MS = 10_000;
const TRASH_EVERY_MS = 10_000;
/** Removals come in bursts: their blocks are let go of together. */
const RELEASE_AFTER_MS = 500;

export class Background implements AsyncDisposable {
  readonly #parts: BackgroundParts;
  readonly #keepers: Keeper[] = [];
  readonly #pokes = new Map<Keeper, { readonly timer: Timer; readonly atMs: number }>();
  readonly #garbage: GarbageCollector;
  readonly #collecting: Keeper;
  readonly #compaction: CompactionJob;
  readonly #inventory: InventoryJob;
  readonly #comparing: Keeper;
  readonly #orphans: OrphanJob;
  readonly #lettingGo: Keeper;
  readonly #fold: FoldJob;
  readonly #replicas: ReplicaKeeping;
  /** Boot time at which links of nodes ended. */
  readonly #awaySinceMs = new Map<NodeName, number>();

  constructor(parts: BackgroundParts) {
    this.#parts = parts;
    const { clock, engine, orders, nodes, settings, replaysOver, drawChunkId, ownsChunk, recallData } = parts;
    const diskOf = (node: NodeName): string | undefined => nodes.get(node)?.row.disk;
    const rates = new ByteRates({ clock, bytesPerSecond: () => settings().repairBytesPerSecond });
    const release = new BlockRelease(engine);
    const releasing = this.#keep('release', HOUR_MS, (round) => release.work(round));
    engine.watch(DOOMED, () => this.#pokeAfter(RELEASE_AFTER_MS, releasing));
    this.#compaction = new CompactionJob({
      clock,
      orders,
      epoch: engine.epoch,
      nodes: () =>
        [...nodes.picture(settings().repairAfterSeconds).values()].map(({ name, heard }) => ({
          node: name as NodeName,
          isThere: heard !== 'away',
        })),
    });
    const compacting = this.#keep('compaction', HOUR_MS, (round) => this.#compaction.work(round));
    this.#garbage = new GarbageCollector({
      clock,
      engine,
      orders,
      settings,
      diskOf,
      replaysOver,
      ownsChunk,
      releaseBlocks: (round) => release.work(round),
      onCollected: (upTo) => {
        this.#compaction.ask(upTo);
        compacting.poke();
      },
    });
    engine.watch(GARBAGE, (key, row) => this.#garbage.noted(key, row));
    this.#collecting = this.#keep('garbage', GARBAGE_EVERY_MS, (round) => this.#garbage.work(round));
    this.#inventory = new InventoryJob({
      clock,
      engine,
      orders,
      rates,
      stores: () => nodes.stores(),
      onMissing: (store, dropped, lost) => this.#tellMissing(store, dropped, lost),
    });
    this.#comparing = this.#keep('inventory', INVENTORY_LOOK_MS, (round) => this.#inventory.work(round));
    this.#orphans = new OrphanJob({
      clock,
      engine,
      orders,
      diskOf,
      settings,
      rates,
      replaysOver,
      onMayTakeAgain: () => this.#replicas.moreIsPossible(),
      graceMinSeconds: parts.orphanGraceMinSeconds,
    });
    this.#lettingGo = this.#keep('orphans', ORPHANS_EVERY_MS, (round) => this.#orphans.work(round));
    this.#fold = new FoldJob({
      clock,
      engine,
      orders,
      rates,
      drawChunkId,
      recallData,
      candidates: () => nodes.candidates(),
    });
    const folding = this.#keep('fold', FOLD_LOOK_MS, (round) => this.#fold.work(round));
    engine.watch(BLOCKS, (key, row) => {
      if (this.#fold.noted(key, row)) this.#pokeAfter(0, folding);
    });
    this.#replicas = new ReplicaKeeping({
      ...parts,
      rates,
      keep: (name, everyMs, work) => this.#keep(name, everyMs, work),
      pokeAfter: (delayMs, keeper) => this.#pokeAfter(delayMs, keeper),
    });
    parts.onCrowded((inode, block) => this.#crowded(inode, block, folding));
    const trash = new TrashCollector({
      clock,
      engine,
      change: parts.change,
      room: () => nodes.roomForNew(),
      garbage: () => this.#garbage.figures,
      onYielded: ({ files, bytes }) =>
        parts.event(
          'trash-yielded',
          `The storage nodes run out of room: ${files} files of the trash with ${bytes} bytes were let go before their time`,
          { files: String(files), bytes: String(bytes) },
        ),
    });
    this.#keep('trash', TRASH_EVERY_MS, (round) => trash.work(round));
    const mover = new RealmMover({
      engine,
      change: parts.change,
      event: (kind, message, details) => parts.event(kind, message, details),
    });
    const moving = this.#keep('realms', HOUR_MS, (round) => mover.work(round));
    engine.watch(JOBS, (_key, row) => {
      if (!hasEnded(row)) this.#pokeAfter(0, moving);
    });
    // What an earlier start has left.
    for (const keeper of [releasing, this.#collecting, this.#lettingGo, moving]) keeper.poke();
  }

  /** A node has registered or reported. */
  nodeReported(node: NodeName, { disk, damaged }: Pick<NodeReport, 'disk' | 'damaged'>): void {
    if (this.#inventory.isDue) this.#comparing.poke();
    const chunks = damaged.filter(({ length }) => length === 16).map((chunk) => chunkIdFromBytes(chunk));
    this.#replicas.nodeReported(node, disk, chunks);
  }

  nodeWentAway(node: NodeName): void {
    this.#awaySinceMs.set(node, this.#parts.clock.bootMs());
  }

  /** A node is there again. */
  nodeCame(node: NodeName): void {
    const awaySinceMs = this.#awaySinceMs.get(node);
    this.#awaySinceMs.delete(node);
    const { clock, settings } = this.#parts;
    // It may have been given up meanwhile, and its replicas made anew elsewhere.
    if (awaySinceMs !== undefined && clock.bootMs() - awaySinceMs >= settings().repairAfterSeconds * 1_000)
      this.#inventory.ask(node);
    if (this.#garbage.figures.waitsFor.has(node)) this.#collecting.poke();
    this.#replicas.nodeCame();
  }

  /** A node has another duty or another disk: it is looked at now. */
  nodesChanged(): void {
    this.#replicas.nodesChanged();
  }

  /** What was left as it is may be done now, as after a restore that a person has confirmed. */
  settingsChanged(): void {
    this.#replicas.moreIsPossible();
  }

  /** Compares all nodes that are there, and looks which orphans are due. */
  compareInventories(): void {
    this.#inventory.askAll();
    this.#comparing.poke();
    this.#lettingGo.poke();
  }

  get folds(): FoldFigures {
    return this.#fold.figures;
  }

  get inventories(): ReadonlyMap<NodeName, NodeInventory> {
    return this.#inventory.figures;
  }

  get orphans(): OrphanFigures {
    return this.#orphans.figures;
  }

  /** Answers the number of the request, for `compactions.finished`: then nodes have given the room back too. Throws `not_permitted`. */
  collectGarbage(graceSeconds: number): number {
    const asked = this.#garbage.ask(graceSeconds);
    this.#collecting.poke();
    return asked;
  }

  get compactions(): { readonly finished: number; readonly nodes: readonly NodeCompaction[] } {
    return this.#compaction;
  }

  get garbage(): GarbageFigures {
    return this.#garbage.figures;
  }

  /** Answers the number of the request, for `replicas.rebalance.finished`. */
  rebalanceNow(): number {
    return this.#replicas.rebalanceNow();
  }

  /** What that would move now. */
  planRebalance(): Promise<RebalancePlan> {
    return this.#replicas.planRebalance();
  }

  /** What lies on the node, as far as it is known without a count (`moving-loads.ts`). */
  loadOf(node: NodeName): NodeLoad | undefined {
    return this.#replicas.loadOf(node);
  }

  /** Survey, repair and rebalance. */
  get replicas(): ReplicaKeeping['figures'] {
    return this.#replicas.figures;
  }

  get figures(): readonly KeeperFigures[] {
    return this.#keepers.map(({ figures }) => figures);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { timer } of this.#pokes.values()) timer.cancel();
    const ended = this.#keepers.map((keeper) => keeper[Symbol.asyncDispose]());
    this.#replicas[Symbol.dispose]();
    await Promise.all(ended);
  }

  #crowded(inode: InodeNumber, block: number, folding: Keeper): void {
    const { clock, onFailure } = this.#parts;
    clock.defer(() => {
      this.#fold.crowded(inode, block).then(
        () => folding.poke(),
        (error) => onFailure('fold', error),
      );
    });
  }

  #tellMissing({ node, disk }: InventoriedStore, dropped: number, lost: readonly ChunkId[]): void {
    const { event } = this.#parts;
    event(
      'replicas-missing',
      `Node ${node} lacks ${dropped} chunks that it should have: they are made anew from others`,
      {
        node,
        disk,
        chunks: String(dropped),
      },
    );
    if (lost.length > 0)
      event('chunks-lost', `Node ${node} was the last that had ${lost.length} chunks, and it lacks them`, {
        node,
        disk,
        chunks: lost.join(' '),
      });
  }

  #keep(name: string, everyMs: number, work: (round: Round) => Promise<void>): Keeper {
    const { clock, onFailure } = this.#parts;
    const keeper = new Keeper({ clock, name, everyMs, work, onFailure });
    this.#keepers.push(keeper);
    return keeper;
  }

  /** Never in the turn of a commit, where nothing may run; many calls within the time make one poke. */
  #pokeAfter(delayMs: number, keeper: Keeper): void {
    const { clock } = this.#parts;
    const before = this.#pokes.get(keeper);
    const atMs = clock.bootMs() + delayMs;
    if (before !== undefined && before.atMs <= atMs) return;
    before?.timer.cancel();
    const poke = (): void => {
      this.#pokes.delete(keeper);
      keeper.poke();
    };
    this.#pokes.set(keeper, { timer: clock.setTimer(delayMs, poke, { background: true }), atMs });
  }
}
