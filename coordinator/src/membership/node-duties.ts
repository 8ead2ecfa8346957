/**
 * What an administrator makes of a storage node (D8): scrubbed, it reads all that it holds; cordoned, it takes no new chunks;
 * draining, its chunks move away as well; removed, the member forgets it. Removal trusts no count that was made earlier: it walks all chunks and refuses while
 * one of them lies there.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdFromBytes, type NodeName, parseNodeName } from '@collective/base/ids';
import type { NodeHolding } from '@collective/protocol/gen/admin';
import type { Engine } from '../engine/engine.ts';
import type { OperationRun } from '../engine/operation-run.ts';
import type { EventLog } from '../events/event-log.ts';
import type { NodeLoad } from '../jobs/moving-loads.ts';
import type { NodeOrders } from '../jobs/node-orders.ts';
import { closeDisks, closedKeys, isClosed, openDisk } from '../ops/closed-disks.ts';
import { DUTIES, type Duty, type NodePicture } from '../placement/node-picture.ts';
import { isLastOfGarbage } from '../placement/plan-repair.ts';
import type { ChunkRow, ReplicaPlace } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { CHUNKS, GARBAGE } from '../tables/tables.ts';
import type { NodeTable } from './node-table.ts';

/** Rows of one step of the walk; others run between two. */
const WALK_ROWS = 2_000;
/**
 * For who asks again and again while a node drains: after a count none is made for so many times as long as it took, so that at most so
 * much of the coordinator goes into counting. By the figure of background work something is left; or it says that nothing is.
 */
const REST_WHILE_LEFT = 20;
const REST_NEAR_END = 2;
const REST_WHILE_LEFT_MS = 1_000;

interface Row {
  readonly key: string;
  readonly value: ChunkRow;
}

interface Count extends NodeLoad {
  readonly endedAtMs: number;
  readonly tookMs: number;
}

export interface NodeDutyParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly nodes: NodeTable;
  readonly events: Pick<EventLog, 'record'>;
  readonly orders: Pick<NodeOrders, 'scrub'>;
  /** Of the nodes, as background work sees them. */
  picture(): NodePicture;
  /** What lies on the node as far as background work knows without a count. */
  loadOf(node: NodeName): NodeLoad | undefined;
  /** The node's link stands. */
  isConnected(node: NodeName): boolean;
  /** A node has another duty now, stable. */
  onDuty(): void;
}

export class NodeDuties {
  readonly #parts: NodeDutyParts;
  /** Of draining nodes: the last that was made. */
  readonly #counts = new Map<NodeName, Count>();
  readonly #counting = new Map<NodeName, Promise<NodeHolding>>();

  constructor(parts: NodeDutyParts) {
    this.#parts = parts;
  }

  /** Resolves when it is stable. Throws `not_found`, `invalid_argument`. `by`: who said so, for the event. */
  async set(name: string, duty: string, by: string): Promise<NodeHolding> {
    const node = this.#known(name);
    const wanted = DUTIES.find((known) => known === duty);
    if (wanted === undefined)
      throw new CollectiveError(
        'invalid_argument',
        `Set the duty of node ${name} to '${duty}': it is ${DUTIES.join(', ')}`,
      );
    const before = this.#dutyOf(node);
    await this.#parts.nodes.setDuty(node, wanted);
    if (before !== wanted) {
      this.#parts.onDuty();
      this.#parts.events.record('node-duty', `Node ${name} is ${wanted} now, it was ${before}`, {
        node: name,
        duty: wanted,
        by,
      });
    }
    return await this.holding(name);
  }

  /** Resolves when a pass has begun. Throws `not_found`, `unavailable`. */
  async scrub(name: string, by: string, signal: AbortSignal): Promise<void> {
    await this.#parts.orders.scrub(this.#known(name), signal);
    this.#parts.events.record('scrub-asked', `Node ${name} reads and verifies all that it holds, as ${by} asked`, {
      node: name,
      by,
    });
  }

  /**
   * What lies on the node by the rows of all chunks, counted now; on a draining one also garbage within its grace that has no copy
   * elsewhere yet: a backup that is younger than the grace names it, and finds it only if it moves too. That nothing lies on a draining one is said only when
   * nothing can come any more: uploads to it may have been under way.
   */
  async holding(name: string): Promise<NodeHolding> {
    const node = this.#known(name);
    return await this.#holding(node, this.#dutyOf(node) === 'draining');
  }

  /** `leaves`: also what nobody names, but may again, and has no copy that stays. */
  async #holding(node: NodeName, leaves: boolean): Promise<NodeHolding> {
    const { clock } = this.#parts;
    const beganMs = clock.bootMs();
    let { chunks, bytes } = await this.#count(node, leaves);
    if (chunks === 0 && leaves && this.#dutyOf(node) === 'draining') {
      await this.#close(node, () => this.#dutyOf(node) === 'draining');
      ({ chunks, bytes } = await this.#count(node, leaves));
      // The count saw changes that the power may yet undo (M4): what they released would lie there again.
      const { engine } = this.#parts;
      if (chunks === 0) await engine.stableThrough(engine.lastPosition);
    }
    const endedAtMs = clock.bootMs();
    if (this.#dutyOf(node) !== 'draining') this.#counts.delete(node);
    else this.#counts.set(node, { chunks, bytes, endedAtMs, tookMs: endedAtMs - beganMs });
    return this.#held(node, { chunks, bytes });
  }

  /**
   * The same for who asks again and again until a drain has ended: what is left may be what background work knows, which costs
   * nothing; that nothing is left is said only by a count that is made now.
   */
  async roughHolding(name: string): Promise<NodeHolding> {
    const node = this.#known(name);
    const { clock, loadOf } = this.#parts;
    const last = this.#counts.get(node);
    if (this.#dutyOf(node) === 'draining' && last !== undefined && last.chunks > 0) {
      const known = loadOf(node) ?? last;
      const restMs =
        known.chunks > 0 ? Math.max(REST_WHILE_LEFT_MS, REST_WHILE_LEFT * last.tookMs) : REST_NEAR_END * last.tookMs;
      // What went in another way than by a drain is known by the count alone.
      const left = known.chunks > 0 && known.chunks < last.chunks ? known : last;
      if (clock.bootMs() < last.endedAtMs + restMs) return this.#held(node, left);
    }
    const counting = this.#counting.get(node) ?? this.holding(name).finally(() => this.#counting.delete(node));
    this.#counting.set(node, counting);
    return await counting;
  }

  #held(node: NodeName, { chunks, bytes }: NodeLoad): NodeHolding {
    const { nodes } = this.#parts;
    return { name: node, duty: this.#dutyOf(node), state: nodes.stateOf(node), chunks, bytes };
  }

  /**
   * Throws `busy` while it runs, takes chunks, or chunks lie there; with `force` what lies there is given up, but for chunks of which
   * no other copy is known. Answers what lay there.
   */
  async remove(
    name: string,
    { force, loseLastCopies }: { readonly force: boolean; readonly loseLastCopies: boolean },
    by: string,
  ): Promise<NodeHolding> {
    const node = this.#known(name);
    const duty = this.#dutyOf(node);
    if (duty === 'active' && !force)
      throw new CollectiveError(
        'busy',
        `Remove node ${name}: it takes new chunks; drain it first: collective nodes drain ${name}`,
      );
    // It would register again with its next heartbeat.
    if (this.#parts.isConnected(node))
      throw new CollectiveError('busy', `Remove node ${name}: it is running and connected; stop it first`);
    const disks = this.#disksOf(node);
    let holding: NodeHolding;
    try {
      await this.#close(node, () => this.#dutyOf(node) === duty);
      holding = await this.#givenUp(node, { force, loseLastCopies });
      await this.#parts.nodes.remove(node, (tx) => this.#checkUnchanged(tx, node, { duty, disks }));
    } catch (thrown) {
      await this.#openAgain(node);
      throw thrown;
    }
    this.#counts.delete(node);
    this.#parts.events.record('node-removed', `Node ${name} was removed; ${holding.chunks} chunks lay there`, {
      node: name,
      chunks: String(holding.chunks),
      by,
    });
    return holding;
  }

  /** What lies there and may be lost with the node. Throws `busy` where that is more than was said. */
  async #givenUp(
    node: NodeName,
    { force, loseLastCopies }: { readonly force: boolean; readonly loseLastCopies: boolean },
  ): Promise<NodeHolding> {
    const holding = await this.#holding(node, !force);
    if (holding.chunks > 0 && !force)
      throw new CollectiveError(
        'busy',
        `Remove node ${node}: ${holding.chunks} chunks lie there still; collective nodes drain ${node} --wait moves them away`,
        { details: { chunks: holding.chunks, bytes: holding.bytes } },
      );
    const last = holding.chunks === 0 || loseLastCopies ? 0 : (await this.#count(node, false)).onlyHere;
    if (last > 0)
      throw new CollectiveError(
        'busy',
        `Remove node ${node}: it has the only known copy of ${last} chunks, which would be lost; collective verify / --only-bad names the files; --lose-data gives them up`,
        { details: { chunks: last } },
      );
    return holding;
  }

  /** In the step that removes it: since the count nothing could come, and nobody has come back. */
  #checkUnchanged(
    tx: OperationRun,
    node: NodeName,
    { duty, disks }: { readonly duty: Duty; readonly disks: readonly string[] },
  ): void {
    tx.need(closedKeys(disks));
    const isOpen = disks.some((disk) => !isClosed(tx, disk));
    const isChanged = this.#parts.nodes.get(node) === undefined || this.#dutyOf(node) !== duty;
    if (isOpen || isChanged || this.#parts.isConnected(node))
      throw new CollectiveError(
        'busy',
        `Remove node ${node}: it has started, or somebody else has changed its duty or tried to remove it meanwhile; try again`,
      );
  }

  #known(name: string): NodeName {
    const node = parseNodeName(name);
    if (this.#parts.nodes.get(node) === undefined)
      throw new CollectiveError('not_found', `Find node ${name}: no node of that name has registered`);
    return node;
  }

  #dutyOf(node: NodeName): Duty {
    return DUTIES[this.#parts.nodes.get(node)?.row.duty ?? 0] ?? 'cordoned';
  }

  /**
   * Resolves when it is stable: then no chunk comes to lie on its disks. `still` is asked in the step that closes: who gives the node
   * another duty meanwhile has changed it before the step that opens its disk.
   */
  async #close(node: NodeName, still: () => boolean): Promise<void> {
    const { engine, nodes } = this.#parts;
    await engine.run((tx) => {
      if (still()) closeDisks(tx, node, this.#disksOf(node), (each) => nodes.get(each) !== undefined);
    });
  }

  /** After a removal that was refused. A draining node's disk stays closed: it may have been said that nothing lies there. */
  async #openAgain(node: NodeName): Promise<void> {
    const { engine, nodes } = this.#parts;
    await engine.run((tx) => {
      const row = nodes.get(node)?.row;
      if (row === undefined || this.#dutyOf(node) === 'draining') return;
      openDisk(tx, node, row.disk, (each) => nodes.get(each) !== undefined);
    });
  }

  #disksOf(node: NodeName): string[] {
    const row = this.#parts.nodes.get(node)?.row;
    return row === undefined ? [] : [row.disk, ...row.lostDisks];
  }

  /** As far as is known: it may be away, but its disk is not lost. */
  #isThere({ node, disk, damaged }: ReplicaPlace): boolean {
    return !damaged && this.#parts.nodes.get(node as NodeName)?.row.disk === disk;
  }

  async #count(node: NodeName, leaves: boolean): Promise<{ chunks: number; bytes: number; onlyHere: number }> {
    const isThere = ({ value }: Row): boolean => value.replicas.some((replica) => replica.node === node);
    let chunks = 0;
    let bytes = 0;
    let onlyHere = 0;
    for (let from = CHUNKS.prefix; ; ) {
      const start = from;
      const { rows, condemned } = await this.#parts.engine.run(
        (tx) => {
          const rows = tx.scan(CHUNKS, start, prefixEnd(CHUNKS.prefix), WALK_ROWS);
          const garbage = leaves ? rows.filter((row) => row.value.references === 0 && isThere(row)).map(chunkOf) : [];
          tx.need(garbage.map((chunk) => GARBAGE.key(chunk)));
          return { rows, condemned: new Set(garbage.filter((chunk) => tx.get(GARBAGE, chunk)?.condemned)) };
        },
        { durability: 'written' },
      );
      const picture = this.#parts.picture();
      for (const row of rows) {
        const { value } = row;
        if (!isThere(row)) continue;
        const isGarbage = value.references === 0;
        const moves = isGarbage && leaves && !condemned.has(chunkOf(row)) && isLastOfGarbage(value, node, picture);
        // Other garbage is on its way out, and nobody misses it.
        if (isGarbage && !moves) continue;
        chunks += 1;
        bytes += value.storedLength;
        if (isGarbage) continue;
        if (!value.replicas.some((replica) => replica.node !== node && this.#isThere(replica))) onlyHere += 1;
      }
      const last = rows.at(-1);
      if (rows.length < WALK_ROWS || last === undefined) return { chunks, bytes, onlyHere };
      from = `${last.key}\0`;
    }
  }
}

function chunkOf({ key }: Row): ChunkId {
  return chunkIdFromBytes(bytesOf(key.slice(CHUNKS.prefix.length)));
}
