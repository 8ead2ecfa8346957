/**
 * Evens out how much lies on each node (D8): by itself when one differs from the average by more than is set, within the hours
 * that are set; or when somebody asks. It first walks over all chunks to know what lies where, then over them again and moves
 * copies as `placement/plan-rebalance.ts` says, by the mover of repair and at its rate. In memory are a page, sums, and the moves under way.
 *
 * A move is a copy more, and then the old copy goes as any that is too many does: after the others were read again. Cut off in
 * between, repair finds one copy too many and gives one up.
 */
import type { Clock } from '@collective/base/clock';
import type { ChunkId, NodeName, RealmId } from '@collective/base/ids';
import type { Engine } from '../engine/engine.ts';
import type { OperationRun } from '../engine/operation-run.ts';
import { judgeChunks, type Outlook, outlooksFor } from '../ops/chunk-repair.ts';
import { replicaRule } from '../ops/chunks.ts';
import {
  type ChunkMove,
  evenEnough,
  isWithinHours,
  NodeLoads,
  planMove,
  planRelief,
} from '../placement/plan-rebalance.ts';
import { planRepair } from '../placement/plan-repair.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { CHUNKS, REALMS } from '../tables/tables.ts';
import type { ChunkMover } from './chunk-mover.ts';
import type { Round } from './keeper.ts';
import type { MaintenanceSettings } from './maintenance.ts';

export interface RebalanceParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly mover: Pick<ChunkMover, 'begin' | 'end' | 'copy' | 'drop'>;
  outlook(): Outlook;
  settings(): Pick<MaintenanceSettings, 'rebalancePercent' | 'rebalanceHours' | 'garbageWaits'>;
  onNodeFailed(node: NodeName): void;
  onMoved(chunks: number, bytes: number, spreadPercent: number): void;
}

/** Rows of one step of a walk; others run between two. */
const WALK_ROWS = 1_000;
/** Their rows are in memory. */
const MOVES_AT_ONCE = 64;
/** Walks of one rebalance: the first moves nearly all. */
const PASSES_MAX = 4;

export interface RebalanceFigures {
  /** Since the start. */
  readonly movedChunks: number;
  readonly movedBytes: number;
  /** As of the last walk: how far the node that is furthest from the average is from it, as a share of its capacity. */
  readonly spread: number | undefined;
  readonly asked: number;
  readonly finished: number;
}

export interface RebalancePlan {
  readonly chunks: number;
  readonly bytes: number;
  readonly spread: number;
  readonly spreadAfter: number;
}

interface NamedRow {
  readonly chunk: ChunkId;
  readonly row: ChunkRow;
  readonly wanted: number;
}

export class RebalanceJob {
  readonly #parts: RebalanceParts;
  #figures: RebalanceFigures = { movedChunks: 0, movedBytes: 0, spread: undefined, asked: 0, finished: 0 };

  constructor(parts: RebalanceParts) {
    this.#parts = parts;
  }

  get figures(): RebalanceFigures {
    return this.#figures;
  }

  /** The next round evens out, whatever is set. Answers the number of the request. */
  ask(): number {
    this.#figures = { ...this.#figures, asked: this.#figures.asked + 1 };
    return this.#figures.asked;
  }

  /** What a rebalance would move now. */
  async plan(signal: AbortSignal): Promise<RebalancePlan> {
    const { outlook } = this.#parts;
    const loads = new NodeLoads(await this.#weigh({ signal, progress: () => undefined }), outlook().picture);
    const { spread } = loads;
    const even = evenEnough(0);
    let chunks = 0;
    let bytes = 0;
    for await (const rows of this.#walk(signal))
      for (const named of rows) {
        const move = loads.spread <= even ? undefined : await this.#planned(named, loads, even, signal);
        if (move === undefined) continue;
        const { storedLength } = named.row;
        loads.moved(move, storedLength);
        chunks += 1;
        bytes += storedLength;
      }
    return { chunks, bytes, spread, spreadAfter: loads.spread };
  }

  async work(round: Round): Promise<void> {
    const { settings, outlook, onMoved } = this.#parts;
    const { asked, finished, movedChunks, movedBytes } = this.#figures;
    const isAsked = asked > finished;
    const { rebalancePercent } = settings();
    // D9: it gives up copies, and after a restore nobody has said yet that this may be.
    if (!settings().garbageWaits && (isAsked || (rebalancePercent > 0 && this.#isTime && this.#looksUneven))) {
      const loads = new NodeLoads(await this.#weigh(round), outlook().picture);
      if (isAsked || loads.spread * 100 > rebalancePercent) {
        const even = evenEnough(isAsked ? 0 : rebalancePercent);
        for (let pass = 0; pass < PASSES_MAX && loads.spread > even; pass++)
          if ((await this.#pass(loads, even, isAsked, round)) === 0) break;
      }
      this.#figures = { ...this.#figures, spread: loads.spread };
      const chunks = this.#figures.movedChunks - movedChunks;
      if (chunks > 0) onMoved(chunks, this.#figures.movedBytes - movedBytes, Math.round(loads.spread * 100));
    }
    this.#figures = { ...this.#figures, finished: asked };
  }

  get #isTime(): boolean {
    const hour = Math.floor(this.#parts.clock.now().seconds / 3_600) % 24;
    return isWithinHours(this.#parts.settings().rebalanceHours, hour);
  }

  /** By what nodes report, which costs nothing to know: whether a walk is worth it. */
  get #looksUneven(): boolean {
    const { picture } = this.#parts.outlook();
    const used = new Map([...picture].map(([name, { usedBytes }]) => [name, usedBytes]));
    return new NodeLoads(used, picture).spread * 100 > this.#parts.settings().rebalancePercent;
  }

  /** What lies on each node and stays there. */
  async #weigh({ signal, progress }: Round): Promise<ReadonlyMap<string, number>> {
    const bytes = new Map<string, number>();
    let seen = 0;
    for await (const rows of this.#walk(signal)) {
      const { picture, random } = this.#parts.outlook();
      for (const { row, wanted } of rows) {
        const { actions } = planRepair(row, wanted, picture, random);
        const goes = new Set(actions.flatMap((action) => (action.kind === 'drop' ? [action.place.node] : [])));
        for (const { node } of row.replicas)
          if (!goes.has(node)) bytes.set(node, (bytes.get(node) ?? 0) + row.storedLength);
      }
      seen += rows.length;
      progress(seen, undefined, 'chunks');
    }
    return bytes;
  }

  /** Answers how many chunks were moved. */
  async #pass(loads: NodeLoads, even: number, isAsked: boolean, { signal, progress }: Round): Promise<number> {
    const { mover } = this.#parts;
    const underWay = new Set<Promise<void>>();
    const failures: unknown[] = [];
    const before = this.#figures;
    for await (const rows of this.#walk(signal)) {
      if (failures.length > 0 || loads.spread <= even || !(isAsked || this.#isTime)) break;
      for (const named of rows) {
        const move = await this.#planned(named, loads, even, signal);
        if (move === undefined || !mover.begin(named.chunk)) continue;
        const bytes = named.row.storedLength;
        loads.moved(move, bytes);
        const work = this.#move(named, move, signal)
          .then((isMoved) => {
            if (!isMoved) loads.moved({ ...move, from: move.to, to: move.from }, bytes);
          })
          .catch((error) => void failures.push(error))
          .finally(() => {
            mover.end(named.chunk);
            underWay.delete(work);
            progress(this.#figures.movedBytes - before.movedBytes, undefined, 'bytes');
          });
        underWay.add(work);
        while (underWay.size >= MOVES_AT_ONCE) await Promise.race(underWay);
      }
    }
    await Promise.all(underWay);
    if (failures.length > 0) throw failures[0];
    return this.#figures.movedChunks - before.movedChunks;
  }

  /** A node that has just given the chunk up takes it only after a while: a copy there would be made for nothing. */
  async #planned(
    { chunk, row, wanted }: NamedRow,
    loads: NodeLoads,
    even: number,
    signal: AbortSignal,
  ): Promise<ChunkMove | undefined> {
    const { engine, outlook } = this.#parts;
    const move = planMove(row, wanted, loads, even, outlook());
    if (move === undefined) return undefined;
    const seen = (await engine.run((tx) => outlooksFor(tx, [chunk], outlook()), { durability: 'written', signal })).get(
      chunk,
    );
    return seen === undefined ? move : planMove(row, wanted, loads, even, seen);
  }

  /** False: it lies as before, or its repair does the rest. */
  async #move({ chunk, row }: NamedRow, { from, to, sources }: ChunkMove, signal: AbortSignal): Promise<boolean> {
    const { engine, mover, outlook } = this.#parts;
    const copied = await mover.copy(chunk, row, { kind: 'copy', to, replaces: false, sources });
    // It is no taker for a while.
    if (copied.state === 'failed' && copied.of !== undefined) this.#parts.onNodeFailed(copied.of);
    if (copied.state !== 'done') return false;
    const { storedLength } = row;
    this.#figures = {
      ...this.#figures,
      movedChunks: this.#figures.movedChunks + 1,
      movedBytes: this.#figures.movedBytes + storedLength,
    };
    const [now] = await engine.run((tx) => namedRows(tx, [chunk]), { durability: 'written', signal });
    const drop = now === undefined ? undefined : planRelief(now.row, now.wanted, from.node, outlook());
    if (now !== undefined && drop !== undefined && (await mover.drop(chunk, now.row, drop)).state === 'done')
      return true;
    // Repair gives it up later.
    await engine.run((tx) => judgeChunks(tx, [chunk], outlook()), { durability: 'written', signal });
    return true;
  }

  /** All chunks that something names, in the order of ids, page by page. */
  async *#walk(signal: AbortSignal): AsyncGenerator<readonly NamedRow[], void, undefined> {
    const { engine } = this.#parts;
    for (let from = CHUNKS.prefix; ; ) {
      const start = from;
      const page = await engine.run(
        (tx) => {
          const rows = tx.scan(CHUNKS, start, prefixEnd(CHUNKS.prefix), WALK_ROWS);
          return { named: withRules(tx, rows), last: rows.at(-1)?.key, isEnd: rows.length < WALK_ROWS };
        },
        { durability: 'written', signal },
      );
      yield page.named;
      if (page.isEnd || page.last === undefined) return;
      from = `${page.last}\0`;
    }
  }
}

function namedRows(tx: OperationRun, chunks: readonly ChunkId[]): NamedRow[] {
  tx.need(chunks.map((chunk) => CHUNKS.key(chunk)));
  return withRules(
    tx,
    chunks.flatMap((chunk) => {
      const value = tx.get(CHUNKS, chunk);
      return value === undefined ? [] : [{ key: CHUNKS.key(chunk), value }];
    }),
  );
}

function withRules(tx: OperationRun, rows: readonly { readonly key: string; readonly value: ChunkRow }[]): NamedRow[] {
  tx.need([...new Set(rows.map(({ value }) => REALMS.key(value.realm as RealmId)))]);
  return rows.flatMap(({ key, value: row }) => {
    if (row.references === 0) return [];
    const chunk = bytesOf(key.slice(CHUNKS.prefix.length)).toString('hex') as ChunkId;
    return [{ chunk, row, wanted: replicaRule(tx.get(REALMS, row.realm as RealmId)).wanted }];
  });
}
