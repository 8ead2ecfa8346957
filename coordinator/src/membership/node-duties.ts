/**
 * What an administrator makes of a storage node (D8): scrubbed, it reads all that it holds; cordoned, it takes no new chunks;
 * draining, its chunks move away as well; removed, the member forgets it. Removal trusts no count that was made earlier: it walks all chunks and refuses while
 * one of them lies there.
 */
import { CollectiveError } from '@collective/base/errors';
import { type NodeName, parseNodeName } from '@collective/base/ids';
import type { NodeHolding } from '@collective/protocol/gen/admin';
import type { Engine } from '../engine/engine.ts';
import type { EventLog } from '../events/event-log.ts';
import type { NodeOrders } from '../jobs/node-orders.ts';
import { closeDisks, openDisks } from '../ops/closed-disks.ts';
import { DUTIES, type Duty } from '../placement/node-picture.ts';
import type { ReplicaPlace } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { CHUNKS } from '../tables/tables.ts';
import type { NodeTable } from './node-table.ts';

/** Rows of one step of the walk; others run between two. */
const WALK_ROWS = 2_000;

export interface NodeDutyParts {
  readonly engine: Engine;
  readonly nodes: NodeTable;
  readonly events: Pick<EventLog, 'record'>;
  readonly orders: Pick<NodeOrders, 'scrub'>;
  /** The node's link stands. */
  isConnected(node: NodeName): boolean;
  /** A node has another duty now, stable. */
  onDuty(): void;
}

export class NodeDuties {
  readonly #parts: NodeDutyParts;

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
    if (wanted !== 'draining') await this.#parts.engine.run((tx) => openDisks(tx, this.#disksOf(node)));
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
   * What lies on the node by the rows of all chunks, counted now. That nothing lies on a draining one is said only when
   * nothing can come any more: uploads to it may have been under way.
   */
  async holding(name: string): Promise<NodeHolding> {
    const node = this.#known(name);
    let { chunks, bytes } = await this.#count(node);
    if (chunks === 0 && this.#dutyOf(node) === 'draining') {
      await this.#close(node);
      ({ chunks, bytes } = await this.#count(node));
    }
    return { name, duty: this.#dutyOf(node), state: this.#parts.nodes.stateOf(node), chunks, bytes };
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
    await this.#close(node);
    const holding = await this.holding(name);
    if (holding.chunks > 0 && !force) {
      if (duty !== 'draining') await this.#parts.engine.run((tx) => openDisks(tx, this.#disksOf(node)));
      throw new CollectiveError(
        'busy',
        `Remove node ${name}: ${holding.chunks} chunks lie there still; collective nodes drain ${name} --wait moves them away`,
        { details: { chunks: holding.chunks, bytes: holding.bytes } },
      );
    }
    const last = holding.chunks === 0 || loseLastCopies ? 0 : (await this.#count(node)).onlyHere;
    if (last > 0)
      throw new CollectiveError(
        'busy',
        `Remove node ${name}: it has the only known copy of ${last} chunks, which would be lost; collective verify / --only-bad names the files; --lose-data gives them up`,
        { details: { chunks: last } },
      );
    await this.#parts.nodes.remove(node);
    this.#parts.events.record('node-removed', `Node ${name} was removed; ${holding.chunks} chunks lay there`, {
      node: name,
      chunks: String(holding.chunks),
      by,
    });
    return holding;
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

  /** Resolves when it is stable: then no chunk comes to lie on its disks. */
  async #close(node: NodeName): Promise<void> {
    const { engine, nodes } = this.#parts;
    await engine.run((tx) => closeDisks(tx, node, this.#disksOf(node), (each) => nodes.get(each) !== undefined));
  }

  #disksOf(node: NodeName): string[] {
    const row = this.#parts.nodes.get(node)?.row;
    return row === undefined ? [] : [row.disk, ...row.lostDisks];
  }

  /** As far as is known: it may be away, but its disk is not lost. */
  #isThere({ node, disk, damaged }: ReplicaPlace): boolean {
    return !damaged && this.#parts.nodes.get(node as NodeName)?.row.disk === disk;
  }

  async #count(node: NodeName): Promise<{ chunks: number; bytes: number; onlyHere: number }> {
    let chunks = 0;
    let bytes = 0;
    let onlyHere = 0;
    for (let from = CHUNKS.prefix; ; ) {
      const start = from;
      const rows = await this.#parts.engine.run((tx) => tx.scan(CHUNKS, start, prefixEnd(CHUNKS.prefix), WALK_ROWS), {
        durability: 'written',
      });
      for (const { value } of rows) {
        // Garbage is on its way out, and nobody misses it.
        if (value.references === 0 || !value.replicas.some((replica) => replica.node === node)) continue;
        chunks += 1;
        bytes += value.storedLength;
        if (!value.replicas.some((replica) => replica.node !== node && this.#isThere(replica))) onlyHere += 1;
      }
      const last = rows.at(-1);
      if (rows.length < WALK_ROWS || last === undefined) return { chunks, bytes, onlyHere };
      from = `${last.key}\0`;
    }
  }
}
