/**
 * Keeps every chunk at the replicas that it should have (D8), out of its parts: the watch over the nodes and the reports of
 * damage say when to look, the survey judges all chunks, repair works off what is noted, through one mover.
 */
import type { Clock } from '@collective/base/clock';
import type { ChunkId, NodeName } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import type { Engine } from '../engine/engine.ts';
import type { Outlook } from '../ops/chunk-repair.ts';
import { soundReplicas } from '../ops/replica-places.ts';
import type { NodePicture } from '../placement/node-picture.ts';
import type { ChunkRow } from '../tables/gen/tables.ts';
import { CHUNKS, REALMS, REPAIR_ORDER } from '../tables/tables.ts';
import { Backoffs } from './backoffs.ts';
import type { ByteRates } from './byte-rates.ts';
import { ChunkMover, type MoverFigures } from './chunk-mover.ts';
import { type DamagedCopy, DamageReports } from './damage-reports.ts';
import type { Keeper, Round } from './keeper.ts';
import type { MaintenanceSettings } from './maintenance.ts';
import { MisplacedChunks } from './misplaced-chunks.ts';
import { MovingLoads, type NodeLoad } from './moving-loads.ts';
import type { NodeOrders } from './node-orders.ts';
import { NodeWatch } from './node-watch.ts';
import { PaceMeter } from './pace-meter.ts';
import { type RebalanceFigures, RebalanceJob, type RebalancePlan } from './rebalance.ts';
import { type RepairFigures, RepairJob } from './repair.ts';
import { Survey, type SurveyFigures } from './survey.ts';

export interface ReplicaKeepingParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly engine: Engine;
  readonly orders: NodeOrders;
  readonly nodes: PicturedNodes;
  readonly rates: ByteRates;
  settings(): MaintenanceSettings;
  event(kind: string, message: string, details: Readonly<Record<string, string>>): void;
  onFailure(job: string, error: unknown): void;
  /** Makes a keeper of the member's background work. */
  keep(name: string, everyMs: number, work: (round: Round) => Promise<void>): Keeper;
  pokeAfter(delayMs: number, keeper: Keeper): void;
}

/** `NodeTable` is one. */
export interface PicturedNodes {
  picture(repairAfterSeconds: number): NodePicture;
  wasDeaf(): void;
}

const LOOK_EVERY_MS = 1_000;
/** Nodes register within a heartbeat after a start: before that, nothing is known. */
const FIRST_SURVEY_AFTER_MS = 30_000;
const SURVEY_EVERY_MS = 24 * 3_600_000;
/** Several nodes that come or go together are one change. */
const SURVEY_AFTER_MS = 1_000;
/** All that is noted is looked at so often, whatever was noticed. */
const REPAIR_EVERY_MS = 600_000;
/** Notes come in bursts; a round that finds few is cheap. */
const REPAIR_AFTER_MS = 50;
/** How often it is looked whether nodes are used unevenly. */
const REBALANCE_EVERY_MS = 3_600_000;
const NODE_PAUSES = { firstMs: 5_000, longestMs: 60_000, entriesMax: 10_000 };
/** Chunks that events name. */
const NAMED_MAX = 20;

export interface ReplicaFigures {
  /** Of the last whole walk. */
  readonly survey: SurveyFigures;
  readonly repair: RepairFigures;
  readonly mover: MoverFigures;
  readonly rebalance: RebalanceFigures;
  /** Of repair, at the speed of the last while; 0: nothing is left, or nothing moves. */
  readonly restSeconds: number;
  /** Nodes or rules have changed since the last whole walk began: more may be short than is noted. */
  readonly counting: boolean;
}

export class ReplicaKeeping implements Disposable {
  readonly #parts: ReplicaKeepingParts;
  readonly #stop = new AbortController();
  readonly #mover: ChunkMover;
  readonly #survey: Survey;
  readonly #surveying: Keeper;
  readonly #repair: RepairJob;
  readonly #repairing: Keeper;
  readonly #rebalance: RebalanceJob;
  readonly #rebalancing: Keeper;
  readonly #watch: NodeWatch;
  readonly #damage: DamageReports;
  readonly #misplaced: MisplacedChunks;
  readonly #nodeBackoffs: Backoffs<NodeName>;
  readonly #pace: PaceMeter;
  /** What asked for a walk over all chunks so far, and how much of it the last whole one has seen. */
  #asked = 0;
  #answered = 0;
  readonly #loads = new MovingLoads();

  constructor(parts: ReplicaKeepingParts) {
    this.#parts = parts;
    const { clock, engine, orders, nodes, settings, keep, pokeAfter, onFailure } = parts;
    this.#nodeBackoffs = new Backoffs({ clock, ...NODE_PAUSES });
    this.#pace = new PaceMeter(clock);
    const outlook = (): Outlook => ({ picture: this.#picture(), random: parts.random });
    this.#damage = new DamageReports({
      engine,
      onDamaged: (found) => this.#tellDamaged(found),
      onFailure: (error) => onFailure('damage reports', error),
    });
    this.#mover = new ChunkMover({
      engine,
      orders,
      outlook,
      signal: this.#stop.signal,
      rates: parts.rates,
      onDamaged: (found) => this.#tellDamaged(found),
      onCopied: (node, chunk) => {
        this.#nodeBackoffs.succeeded(node);
        this.#damage.mended(node, chunk);
      },
      onGivenUp: ({ node }, chunk, { references, storedLength }) => {
        if (references > 0) this.#loads.movedAway(node as NodeName, chunk, storedLength);
      },
    });
    this.#survey = new Survey({
      engine,
      outlook,
      loads: this.#loads,
      onLost: (named, inAll) => this.#tellLost(named, inAll),
    });
    this.#surveying = keep('survey', SURVEY_EVERY_MS, async (round) => {
      const asked = this.#asked;
      await this.#survey.work(round);
      this.#answered = asked;
      // What it noted is under way; what cannot be done is counted by a look at all.
      this.#repair.forgetLeft();
      this.#lookAtAll({ forgives: false });
    });
    this.#repair = new RepairJob({
      clock,
      engine,
      outlook,
      mover: this.#mover,
      onNodeFailed: (node) => this.#nodeBackoffs.failed(node),
      mayRemove: () => !settings().garbageWaits,
    });
    this.#repairing = keep('repair', REPAIR_EVERY_MS, (round) => this.#workRepair(round));
    this.#rebalance = new RebalanceJob({
      clock,
      engine,
      outlook,
      settings,
      mover: this.#mover,
      onNodeFailed: (node) => this.#nodeBackoffs.failed(node),
      onMoved: (chunks, bytes, percent) =>
        parts.event(
          'rebalanced',
          `${chunks} chunks with ${bytes} bytes were moved to nodes with more room: none is further than ${percent} % of its capacity from the average now`,
          { chunks: String(chunks), bytes: String(bytes), percent: String(percent) },
        ),
    });
    this.#rebalancing = keep('rebalance', REBALANCE_EVERY_MS, (round) => this.#rebalance.work(round));
    this.#watch = new NodeWatch({
      clock,
      everyMs: LOOK_EVERY_MS,
      picture: () => {
        this.#pace.note(this.#mover.figures.copiedBytes);
        return nodes.picture(settings().repairAfterSeconds);
      },
      wasDeaf: () => nodes.wasDeaf(),
      onJudgementChanged: () => this.#askForSurvey(SURVEY_AFTER_MS),
      onMorePossible: () => this.nodeCame(),
      onGivenUp: ({ name, awayForMs }) =>
        parts.event(
          'node-given-up',
          `Node ${name} has been away for ${Math.round(awayForMs / 1000)} s: copies of what lies on it are made on other nodes`,
          { node: name },
        ),
      onReturned: ({ name }) =>
        parts.event('node-returned', `Node ${name}, which was given up, is back: what it has counts again`, {
          node: name,
        }),
    });
    this.#misplaced = new MisplacedChunks({
      engine,
      outlook,
      picture: () => this.#watch.seen,
      isUnderWay: (chunk) => this.#mover.isUnderWay(chunk),
      onFound: () => pokeAfter(REPAIR_AFTER_MS, this.#repairing),
      onTooMany: () => this.#askForSurvey(SURVEY_AFTER_MS),
    });
    engine.watch(CHUNKS, (key, row) => this.#misplaced.noted(key, row));
    engine.watch(REPAIR_ORDER, (key, row) => {
      this.#repair.noted(key, row);
      pokeAfter(REPAIR_AFTER_MS, this.#repairing);
    });
    engine.watch(REALMS, () => this.#askForSurvey(SURVEY_AFTER_MS));
    this.#askForSurvey(FIRST_SURVEY_AFTER_MS);
    // What an earlier start has left.
    this.#repairing.poke();
  }

  /** Before the keepers are waited for: orders to nodes under way are given up. */
  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#stop.abort();
  }

  /** A duty or a disk: nobody waits for the next look, nor for further changes. */
  nodesChanged(): void {
    this.#watch.look();
    this.#askForSurvey(0);
  }

  /**
   * A node that has come back is worth a try at once, however often it failed while it was going. Said also of one that was away between
   * two looks: what was judged without it would wait for the next survey.
   */
  nodeCame(): void {
    this.#nodeBackoffs.forgive();
    this.#lookAtAll({ forgives: true });
  }

  /** What was left as it is may be done now: by other settings, or since a node that had given a chunk up may take it again. */
  moreIsPossible(): void {
    this.#lookAtAll({ forgives: false });
  }

  /** A node has registered or reported. */
  nodeReported(node: NodeName, disk: string, damaged: readonly ChunkId[]): void {
    this.#damage.reported(node, disk, damaged);
  }

  /** Answers the number of the request, for `rebalance.finished`. */
  rebalanceNow(): number {
    const asked = this.#rebalance.ask();
    this.#rebalancing.poke();
    return asked;
  }

  planRebalance(): Promise<RebalancePlan> {
    return this.#rebalance.plan(this.#stop.signal);
  }

  #askForSurvey(afterMs: number): void {
    this.#asked += 1;
    this.#parts.pokeAfter(afterMs, this.#surveying);
  }

  get figures(): ReplicaFigures {
    return {
      survey: this.#survey.figures,
      repair: this.#repair.figures,
      mover: this.#mover.figures,
      rebalance: this.#rebalance.figures,
      restSeconds: restSeconds(this.#repair.figures.leftBytes, this.#pace.perSecond),
      counting: this.#answered < this.#asked,
    };
  }

  /** What lies on the node by the last whole walk, without what has moved away since; undefined before the first. */
  loadOf(node: NodeName): NodeLoad | undefined {
    return this.#loads.of(node);
  }

  /** Nodes that failed a moment ago get nothing new for a while; what they have still counts. */
  #picture(): NodePicture {
    const { nodes, settings } = this.#parts;
    const picture = nodes.picture(settings().repairAfterSeconds);
    return new Map(
      [...picture].map(([name, node]) =>
        this.#nodeBackoffs.isWaiting(name as NodeName) && node.heard === 'ready'
          ? [name, { ...node, heard: 'full' as const }]
          : [name, node],
      ),
    );
  }

  #lookAtAll(how: { readonly forgives: boolean }): void {
    this.#repair.lookAtAll(how);
    this.#parts.pokeAfter(REPAIR_AFTER_MS, this.#repairing);
  }

  async #workRepair(round: Round): Promise<void> {
    const { pokeAfter } = this.#parts;
    await this.#misplaced.work(round.signal);
    const isNodeBack = this.#nodeBackoffs.takeDue(NODE_PAUSES.entriesMax).length > 0;
    // Without news it is the clock that has begun this round.
    if (isNodeBack || !this.#repair.hasNews) this.#repair.lookAtAll({ forgives: false });
    await this.#repair.work(round);
    const retries = [this.#repair.retryInMs, this.#nodeBackoffs.nextInMs].filter((each) => each !== undefined);
    if (retries.length > 0) pokeAfter(Math.max(1_000, Math.min(...retries)), this.#repairing);
  }

  #tellDamaged(found: readonly DamagedCopy[]): void {
    const { event } = this.#parts;
    const [first] = found;
    if (first === undefined) return;
    const { node, disk } = first.place;
    event(
      'chunk-damaged',
      `Node ${node} has wrong bytes in ${found.length} of its chunks: they are made anew from other copies`,
      {
        node,
        disk,
        chunks: namesOf(found),
        inodes: [...new Set(found.map(({ row }) => row.inode))].slice(0, NAMED_MAX).join(' '),
      },
    );
    const lost = found.filter(({ row }) => row.references > 0 && soundReplicas(row) === 0);
    if (lost.length > 0) this.#tellLost(lost.slice(0, NAMED_MAX), lost.length);
  }

  #tellLost(named: readonly { readonly chunk: ChunkId; readonly row: ChunkRow }[], inAll: number): void {
    const { event } = this.#parts;
    for (const { chunk, row } of named)
      event(
        'chunk-unreadable',
        `Chunk ${chunk} has no sound copy left: block ${row.block} of inode ${row.inode} cannot be read in full`,
        {
          chunk,
          inode: String(row.inode),
          block: String(row.block),
          nodes: row.replicas.map(({ node }) => node).join(' '),
        },
      );
    if (inAll > named.length)
      event('chunk-unreadable', `${inAll - named.length} more chunks have no sound copy left`, {
        chunks: String(inAll - named.length),
      });
  }
}

function restSeconds(leftBytes: number, bytesPerSecond: number): number {
  return bytesPerSecond >= 1 ? Math.ceil(leftBytes / bytesPerSecond) : 0;
}

function namesOf(found: readonly { readonly chunk: ChunkId }[]): string {
  return found
    .slice(0, NAMED_MAX)
    .map(({ chunk }) => chunk)
    .join(' ');
}
