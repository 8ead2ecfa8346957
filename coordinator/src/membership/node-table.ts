/**
 * The storage nodes that a coordinator knows (D10): what they last reported, whether they can take chunks, how clients
 * reach them. A node is ready while it reports; without a report for NODE_AWAY_AFTER_MS it is away (D8), and after a set time given up. Nodes register by
 * themselves, so after a restart all is known again within one heartbeat; until then the rows of the store tell who exists.
 */
import { type Clock, type Timestamp, wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { NodeName } from '@collective/base/ids';
import { NODE_AWAY_AFTER_MS } from '@collective/base/limits';
import type { NodeScrub, NodeStatus, RefusedNode } from '@collective/protocol/gen/admin';
import { type NodeAddress, type NodeRoute, NodeState } from '@collective/protocol/gen/common';
import { type NodeReport, ScrubReport } from '@collective/protocol/gen/node';
import type { Engine } from '../engine/engine.ts';
import type { OperationRun } from '../engine/operation-run.ts';
import { openDisk } from '../ops/closed-disks.ts';
import type { NodeCandidate } from '../placement/choose-replicas.ts';
import { DUTIES, type Duty, type NodePicture, type PicturedNode } from '../placement/node-picture.ts';
import type { NodeRow } from '../tables/gen/tables.ts';
import { bytesOf, prefixEnd } from '../tables/table.ts';
import { NODES } from '../tables/tables.ts';

const NODES_MAX = 10_000;
/** The row of a node is written again when one of its facts changed, or after so long. */
const ROW_EVERY_MS = 60_000;
/** A node that is refused tries again every few seconds: what has not for so long does so no more. */
const REFUSED_KEPT_MS = 600_000;
const REFUSED_MAX = 100;

interface KnownNode {
  readonly name: NodeName;
  row: NodeRow;
  /** The last report of this start; undefined: not heard of yet. */
  report: NodeReport | undefined;
  reportedAtMs: number;
  reportedAt: Timestamp | undefined;
  rowWrittenAtMs: number;
  /** The node's clock less ours, when the report came. */
  clockOffMs: number;
}

export interface NodeEvents {
  /** D10: a known name with another disk uuid. */
  diskLost(node: NodeName, lost: string, found: string): void;
  nodeCame(node: NodeName): void;
  nodeWentAway(node: NodeName): void;
}

export interface NodeStore {
  readonly node: NodeName;
  /** uuid */
  readonly disk: string;
  readonly incarnation: number;
  readonly stableSequence: number;
}

export class NodeTable {
  readonly #clock: Clock;
  readonly #engine: Engine;
  readonly #events: NodeEvents;
  readonly #nodes: Map<NodeName, KnownNode>;
  /** Those that the coordinator does not take, whether it knows them or not; the latest last. */
  readonly #refused = new Map<NodeName, RefusedNode & { readonly atMs: number }>();
  /** Before it nobody could be heard, on boot time. */
  #listensSinceMs: number;

  static async load(parts: { clock: Clock; engine: Engine; events: NodeEvents }): Promise<NodeTable> {
    const rows = await parts.engine.run((tx) => tx.scan(NODES, NODES.prefix, prefixEnd(NODES.prefix), NODES_MAX));
    const nodes = new Map<NodeName, KnownNode>();
    for (const { key, value } of rows) {
      const name = bytesOf(key.slice(NODES.prefix.length)).toString('utf8') as NodeName;
      nodes.set(name, {
        name,
        row: value,
        report: undefined,
        reportedAtMs: Number.NEGATIVE_INFINITY,
        reportedAt: value.lastHeartbeat,
        rowWrittenAtMs: Number.NEGATIVE_INFINITY,
        clockOffMs: 0,
      });
    }
    return new NodeTable(parts, nodes);
  }

  private constructor(parts: { clock: Clock; engine: Engine; events: NodeEvents }, nodes: Map<NodeName, KnownNode>) {
    this.#clock = parts.clock;
    this.#engine = parts.engine;
    this.#events = parts.events;
    this.#nodes = nodes;
    this.#listensSinceMs = parts.clock.bootMs();
  }

  /** A registration or heartbeat. Resolves when what must not be forgotten of it is stable. */
  async reported(name: NodeName, report: NodeReport): Promise<void> {
    this.#refused.delete(name);
    const before = this.#nodes.get(name);
    const lostDisk = before !== undefined && before.row.disk !== report.disk ? before.row.disk : undefined;
    const row: NodeRow = {
      disk: report.disk,
      capacityBytes: report.capacityBytes,
      zone: report.zone,
      incarnation: report.incarnation,
      stableSequence: report.stableSequence,
      lastHeartbeat: this.#clock.now(),
      version: report.version,
      addresses: report.addresses,
      duty: before?.row.duty ?? 0,
      lostDisks: [...(before?.row.lostDisks ?? []), ...(lostDisk === undefined ? [] : [lostDisk])],
    };
    const nowMs = this.#clock.bootMs();
    const wasReady = before !== undefined && this.#isHeard(before);
    const node: KnownNode = {
      name,
      row,
      report,
      reportedAtMs: nowMs,
      reportedAt: row.lastHeartbeat,
      rowWrittenAtMs: before?.rowWrittenAtMs ?? Number.NEGATIVE_INFINITY,
      clockOffMs:
        report.time === undefined
          ? 0
          : Math.round(report.time.seconds * 1000 + report.time.nanos / 1e6 - wallMs(this.#clock)),
    };
    this.#nodes.set(name, node);
    if (!wasReady) this.#events.nodeCame(name);
    if (lostDisk !== undefined) this.#events.diskLost(name, lostDisk, report.disk);
    if (before !== undefined && nowMs - node.rowWrittenAtMs < ROW_EVERY_MS && sameFacts(before.row, row)) return;
    node.rowWrittenAtMs = nowMs;
    await this.#write(name);
  }

  /** Resolves when it is stable. Throws `not_found`. */
  async setDuty(name: NodeName, duty: Duty): Promise<void> {
    const node = this.#nodes.get(name);
    if (node === undefined)
      throw new CollectiveError('not_found', `Set the duty of node ${name}: there is no such node`);
    node.row = { ...node.row, duty: DUTIES.indexOf(duty) };
    await this.#write(name);
  }

  /**
   * The member knows it no more; should it register again, it is a new node. Resolves when that is stable. `check` runs in the same
   * step; what it throws leaves the node as it is.
   */
  async remove(name: NodeName, check: (tx: OperationRun) => void): Promise<void> {
    await this.#engine.run((tx) => {
      check(tx);
      tx.remove(NODES, name);
      // Last: a step that stops for want of a row runs again from its beginning.
      this.#nodes.delete(name);
    });
  }

  /** A registration or heartbeat that is not taken. */
  refused(name: NodeName, { code, message }: Pick<CollectiveError, 'code' | 'message'>): void {
    this.#refused.delete(name);
    this.#refused.set(name, { name, code, message, at: this.#clock.now(), atMs: this.#clock.bootMs() });
    const [oldest] = this.#refused.keys();
    if (this.#refused.size > REFUSED_MAX && oldest !== undefined) this.#refused.delete(oldest);
  }

  refusals(): RefusedNode[] {
    const sinceMs = this.#clock.bootMs() - REFUSED_KEPT_MS;
    for (const [name, { atMs }] of this.#refused) if (atMs < sinceMs) this.#refused.delete(name);
    return [...this.#refused.values()].map(({ atMs: _atMs, ...refused }) => refused);
  }

  stateOf(name: NodeName): NodeState {
    const node = this.#nodes.get(name);
    return node === undefined ? NodeState.UNKNOWN : this.#state(node);
  }

  /** This process did not run for a while: that nobody was heard in that time says nothing of the nodes. */
  wasDeaf(): void {
    this.#listensSinceMs = this.#clock.bootMs();
  }

  /** The node's link ended: a fact worth an event; it stays ready until its reports are missed. */
  linkEnded(name: NodeName): void {
    if (this.#nodes.has(name)) this.#events.nodeWentAway(name);
  }

  get names(): NodeName[] {
    return [...this.#nodes.keys()].sort();
  }

  get(name: NodeName): { readonly report: NodeReport | undefined; readonly row: NodeRow } | undefined {
    return this.#nodes.get(name);
  }

  /** The chunk stores of nodes that are there, as they last reported. */
  stores(): NodeStore[] {
    return [...this.#nodes.values()].flatMap((node) => {
      if (node.report === undefined || !this.#isHeard(node)) return [];
      const { disk, incarnation, stableSequence } = node.report;
      return [{ node: node.name, disk, incarnation, stableSequence }];
    });
  }

  routes(listener: string): NodeRoute[] {
    return [...this.#nodes.values()].flatMap((node) => {
      const address = addressFor(node.row.addresses, listener);
      return address === undefined
        ? []
        : [
            {
              name: node.name,
              host: address.host,
              port: address.port,
              state: this.#routeState(node),
              zone: node.row.zone,
            },
          ];
    });
  }

  /** Nodes that can take new chunks, for placement. */
  candidates(): NodeCandidate[] {
    return [...this.#nodes.values()]
      .filter((node) => this.#routeState(node) === NodeState.READY)
      .map(({ name, row, report }) => ({ name, zone: row.zone, freeBytes: report?.freeBytes ?? 0 }));
  }

  /** `repairAfterSeconds`: a node that is away for longer is given up. */
  picture(repairAfterSeconds: number): NodePicture {
    return new Map([...this.#nodes.values()].map((node) => [node.name, this.#pictured(node, repairAfterSeconds)]));
  }

  space(): { capacityBytes: number; freeBytes: number; usedBytes: number } {
    let capacityBytes = 0;
    let freeBytes = 0;
    let usedBytes = 0;
    for (const node of this.#nodes.values()) {
      capacityBytes += node.row.capacityBytes;
      usedBytes += node.report?.usedBytes ?? 0;
      if (this.#routeState(node) === NodeState.READY) freeBytes += node.report?.freeBytes ?? 0;
    }
    return { capacityBytes, freeBytes, usedBytes };
  }

  /** A node that is away or closed has no room for anything new, whatever is free there; one that is full has. */
  roomForNew(): { capacityBytes: number; freeBytes: number; deadBytes: number } {
    const sum = { capacityBytes: 0, freeBytes: 0, deadBytes: 0 };
    for (const node of this.#nodes.values()) {
      if (node.report === undefined || !this.#isHeard(node) || node.row.duty !== 0) continue;
      sum.capacityBytes += node.report.capacityBytes;
      sum.freeBytes += node.report.freeBytes;
      sum.deadBytes += node.report.deadBytes;
    }
    return sum;
  }

  status(): NodeStatus[] {
    return [...this.#nodes.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((node) => ({
        name: node.name,
        state: this.#state(node),
        zone: node.row.zone,
        capacityBytes: node.row.capacityBytes,
        usedBytes: node.report?.usedBytes ?? 0,
        freeBytes: node.report?.freeBytes ?? 0,
        lastHeartbeat: node.reportedAt,
        version: node.row.version,
        disk: node.row.disk,
        chunks: node.report?.chunkCount ?? 0,
        addresses: node.row.addresses,
        certificateExpires: node.report?.certificateExpires,
        incarnation: node.row.incarnation,
        duty: dutyOf(node.row),
        leftChunks: 0,
        leftBytes: 0,
        waiting: [],
        scrub: node.report === undefined ? undefined : scrubOf(node.report),
        clockOffMs: node.clockOffMs,
      }));
  }

  /**
   * As it is in memory when the write runs: of two changes at once the later one's row holds both. The disk of a node that does not
   * drain is open from the same step on: one that was drained, removed and comes back is a new node, also with its old disk.
   */
  #write(name: NodeName): Promise<void> {
    return this.#engine.run((tx) => {
      const row = this.#nodes.get(name)?.row;
      if (row === undefined) return;
      if (dutyOf(row) !== 'draining') openDisk(tx, name, row.disk, (other) => this.#nodes.has(other));
      tx.put(NODES, row, name);
    });
  }

  #pictured(node: KnownNode, repairAfterSeconds: number): PicturedNode {
    const { name, row, report } = node;
    const isHeard = this.#isHeard(node);
    const awayForMs = isHeard ? 0 : this.#clock.bootMs() - Math.max(node.reportedAtMs, this.#listensSinceMs);
    return {
      name,
      disk: row.disk,
      incarnation: row.incarnation,
      heard: isHeard ? (report?.full ? 'full' : 'ready') : 'away',
      duty: dutyOf(row),
      zone: row.zone,
      capacityBytes: row.capacityBytes,
      usedBytes: report?.usedBytes ?? 0,
      freeBytes: report?.freeBytes ?? 0,
      awayForMs,
      lost: !isHeard && awayForMs >= repairAfterSeconds * 1000,
    };
  }

  #isHeard(node: KnownNode): boolean {
    return node.report !== undefined && this.#clock.bootMs() - node.reportedAtMs < NODE_AWAY_AFTER_MS;
  }

  #state(node: KnownNode): NodeState {
    if (!this.#isHeard(node)) return NodeState.AWAY;
    return node.report?.full ? NodeState.FULL : NodeState.READY;
  }

  /** What clients need to know: who takes new chunks. */
  #routeState(node: KnownNode): NodeState {
    const state = this.#state(node);
    return state === NodeState.READY && node.row.duty !== 0 ? NodeState.CLOSED : state;
  }
}

function scrubOf({ scrub, damaged }: NodeReport): NodeScrub {
  const { damaged: damagedFound = 0, ...rest } = scrub ?? ScrubReport.fromPartial({});
  return { ...rest, damagedFound, damagedNow: damaged.length };
}

function dutyOf({ duty }: NodeRow): Duty {
  return DUTIES[duty] ?? 'cordoned';
}

/** The listener's own address; a member with only one listener is reached there. */
function addressFor(addresses: readonly NodeAddress[], listener: string): NodeAddress | undefined {
  return (
    addresses.find((address) => address.listener === listener) ??
    addresses.find((address) => address.listener === 'internal') ??
    addresses[0]
  );
}

function sameFacts(a: NodeRow, b: NodeRow): boolean {
  return (
    a.disk === b.disk &&
    a.capacityBytes === b.capacityBytes &&
    a.zone === b.zone &&
    a.incarnation === b.incarnation &&
    a.version === b.version &&
    JSON.stringify(a.addresses) === JSON.stringify(b.addresses)
  );
}
