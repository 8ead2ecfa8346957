/**
 * All that a coordinator does by itself, put together in one place from ports: the member's process and the simulation make
 * the same. Each job is a keeper of its own; what happens elsewhere only pokes them, so a lost poke costs time, not truth.
 */
import type { Clock, Timer } from '@collective/base/clock';
import type { NodeName } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import { DOOMED } from '../tables/tables.ts';
import { GarbageCollector, type GarbageFigures } from './garbage.ts';
import { Keeper, type KeeperFigures, type Round } from './keeper.ts';
import type { MaintenanceSettings } from './maintenance.ts';
import type { NodeOrders } from './node-orders.ts';
import { BlockRelease } from './release-blocks.ts';

export interface BackgroundParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly orders: NodeOrders;
  readonly nodes: NodePicture;
  settings(): MaintenanceSettings;
  onFailure(job: string, error: unknown): void;
}

/** What is known of nodes; `NodeTable` is one. */
export interface NodePicture {
  get(node: NodeName): { readonly row: { readonly disk: string } } | undefined;
}

const HOUR_MS = 3_600_000;
const GARBAGE_EVERY_MS = 600_000;
/** Removals come in bursts: their blocks are let go of together. */
const RELEASE_AFTER_MS = 500;

export class Background implements AsyncDisposable {
  readonly #parts: BackgroundParts;
  readonly #keepers: Keeper[] = [];
  readonly #pokes = new Map<Keeper, Timer>();
  readonly #garbage: GarbageCollector;
  readonly #collecting: Keeper;

  constructor(parts: BackgroundParts) {
    this.#parts = parts;
    const { clock, engine, orders, nodes, settings } = parts;
    const release = new BlockRelease(engine);
    const releasing = this.#keep('release', HOUR_MS, (round) => release.work(round));
    engine.watch(DOOMED, () => this.#pokeAfter(RELEASE_AFTER_MS, releasing));
    this.#garbage = new GarbageCollector({
      clock,
      engine,
      orders,
      settings,
      diskOf: (node) => nodes.get(node)?.row.disk,
      releaseBlocks: (round) => release.work(round),
    });
    this.#collecting = this.#keep('garbage', GARBAGE_EVERY_MS, (round) => this.#garbage.work(round));
    // What an earlier start has left.
    releasing.poke();
  }

  /** A node is there again. */
  nodeCame(node: NodeName): void {
    if (this.#garbage.figures.waitsFor.has(node)) this.#collecting.poke();
  }

  /** Answers the number of the request, for `garbage.finished`. Throws `not_permitted`. */
  collectGarbage(graceSeconds: number): number {
    const asked = this.#garbage.ask(graceSeconds);
    this.#collecting.poke();
    return asked;
  }

  get garbage(): GarbageFigures {
    return this.#garbage.figures;
  }

  get figures(): readonly KeeperFigures[] {
    return this.#keepers.map(({ figures }) => figures);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#pokes.values()) timer.cancel();
    await Promise.all(this.#keepers.map((keeper) => keeper[Symbol.asyncDispose]()));
  }

  #keep(name: string, everyMs: number, work: (round: Round) => Promise<void>): Keeper {
    const { clock, onFailure } = this.#parts;
    const keeper = new Keeper({ clock, name, everyMs, work, onFailure });
    this.#keepers.push(keeper);
    return keeper;
  }

  /** Never in the turn of a commit, where nothing may run; many calls within the time make one poke. */
  #pokeAfter(delayMs: number, keeper: Keeper): void {
    if (this.#pokes.has(keeper)) return;
    const poke = (): void => {
      this.#pokes.delete(keeper);
      keeper.poke();
    };
    this.#pokes.set(keeper, this.#parts.clock.setTimer(delayMs, poke, { background: true }));
  }
}
