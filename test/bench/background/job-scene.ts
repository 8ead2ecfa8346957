/**
 * A coordinator over a real log and database in a folder of its own, for measuring its jobs. Its cache is small, so that what
 * a job holds in memory is what is seen to grow. Rows are written as operations would have left them, some at a time.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock, Timer, Timestamp } from '@collective/base/clock';
import { FileDisk } from '@collective/base/disk/file-disk';
import { type ChunkId, chunkIdOf, chunkIdToBytes, type NodeName, ROOT_REALM } from '@collective/base/ids';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { CoordinatorCore } from '@collective/coordinator/core';
import type { Engine } from '@collective/coordinator/engine/engine';
import type { OperationRun } from '@collective/coordinator/engine/operation-run';
import { ByteRates } from '@collective/coordinator/jobs/byte-rates';
import type { Round } from '@collective/coordinator/jobs/keeper';
import type { NodeOrders } from '@collective/coordinator/jobs/node-orders';
import { FileLog } from '@collective/coordinator/log/file-log';
import type { PicturedNode } from '@collective/coordinator/placement/node-picture';
import { FakeNodes } from '@collective/coordinator/session/session-harness';
import { SqliteStore } from '@collective/coordinator/store/sqlite-store';
import type { ChunkRow, ReplicaPlace } from '@collective/coordinator/tables/gen/tables';
import { BLOCKS, CHUNKS } from '@collective/coordinator/tables/tables';

export const NODES = ['n1', 'n2'] as NodeName[];
export const DAY_SECONDS = 86_400;
export const DIGEST = Buffer.alloc(8, 1);
/** Of one chunk, and as it is stored. */
export const LENGTH = 20_000;
export const STORED_LENGTH = 20_024;

const CACHE_ENTRIES_MAX = 20_000;
const FILL_ROWS = 1_000;
const EPOCH = { generation: 7, start: 1 };

export const round: Round = { signal: new AbortController().signal, progress: () => undefined };

/** A clock that a bench sets ahead: graces are over at once. */
export class LateClock implements Clock {
  readonly #clock = new SystemClock();
  aheadSeconds = 0;

  now(): Timestamp {
    const { seconds, nanos } = this.#clock.now();
    return { seconds: seconds + this.aheadSeconds, nanos };
  }

  bootMs(): number {
    return this.#clock.bootMs() + this.aheadSeconds * 1_000;
  }

  setTimer(delayMs: number, fn: () => void, options: { background?: boolean } = {}): Timer {
    return this.#clock.setTimer(delayMs, fn, options);
  }

  defer(fn: () => void): void {
    this.#clock.defer(fn);
  }
}

export class JobScene implements AsyncDisposable {
  readonly core: CoordinatorCore;
  /** Without a limit: what the coordinator itself does is measured. */
  readonly rates: ByteRates;
  readonly #folder: string;

  static async open(): Promise<JobScene> {
    const folder = await mkdtemp(join(tmpdir(), 'collective-bench-background-'));
    const clock = new SystemClock();
    const disk = await FileDisk.at(folder);
    const core = await CoordinatorCore.start({
      clock,
      log: await FileLog.open({ disk, clock, random: new SystemRandom(), folder: 'log' }),
      store: await SqliteStore.open(join(folder, 'metadata.db')),
      data: () => new FakeNodes(),
      member: { name: 'bench', trustDomain: 'bench.home' },
      version: 'bench',
      rootOwner: { uid: 0, gid: 0 },
      cacheEntriesMax: CACHE_ENTRIES_MAX,
      onFatal: (error) => {
        throw error;
      },
    });
    return new JobScene(folder, core, new ByteRates({ clock, bytesPerSecond: () => 2 ** 40 }));
  }

  private constructor(folder: string, core: CoordinatorCore, rates: ByteRates) {
    this.#folder = folder;
    this.core = core;
    this.rates = rates;
  }

  get engine(): Engine {
    return this.core.engine;
  }

  /** Of each number from 1 to `count` what `write` puts. */
  async fill(count: number, write: (tx: OperationRun, number: number) => void): Promise<void> {
    for (let from = 1; from <= count; from += FILL_ROWS)
      await this.engine.run(
        (tx) => {
          for (let number = from; number < Math.min(from + FILL_ROWS, count + 1); number++) write(tx, number);
        },
        { durability: 'written' },
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.core.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

export function idOf(number: number): ChunkId {
  return chunkIdOf(EPOCH, number);
}

export function numberOf(chunk: ChunkId): number {
  return Number.parseInt(chunk.slice(16), 16);
}

export function replicaOn(node: string, number: number): ReplicaPlace {
  return { node, disk: diskOf(node), stable: true, incarnation: 1, sequence: number, damaged: false };
}

export function diskOf(node: string): string {
  return `disk-${node}`;
}

/** The chunk of that number, on both nodes unless it is said where. */
export function chunkRow(number: number, replicas = NODES.map((node) => replicaOn(node, number))): ChunkRow {
  const sizes = { length: LENGTH, storedLength: STORED_LENGTH };
  const named = { references: 1, inode: number, block: 0, realm: ROOT_REALM };
  return { ...sizes, digest: DIGEST, replicas, wanted: 2, ...named };
}

export function putChunk(tx: OperationRun, number: number): void {
  tx.put(CHUNKS, chunkRow(number), idOf(number));
}

/** What a node answers that holds the chunks of all numbers up to `count`. */
export function listing(count: number): NodeOrders['listChunks'] {
  return async (_node, after, limit) => {
    const first = after === undefined ? 1 : numberOf(after) + 1;
    const last = Math.min(count, first + limit - 1);
    const chunks = Array.from({ length: last - first + 1 }, (_, i) => idOf(first + i));
    return { chunks, end: last === count, sequence: count, incarnation: 1 };
  };
}

/** The only block of a file shows all of it. */
export function putBlock(tx: OperationRun, data: number, number: number): void {
  const slice = { offset: 0, length: LENGTH, chunk: chunkIdToBytes(idOf(number)), chunkOffset: 0 };
  tx.put(BLOCKS, { version: 1, slices: [slice] }, data, 0);
}

/** Ready, with room, and as full as all others. */
export function pictured(name: string, more: Partial<PicturedNode> = {}): PicturedNode {
  return {
    name,
    disk: diskOf(name),
    incarnation: 1,
    heard: 'ready',
    duty: 'active',
    zone: '',
    capacityBytes: 2 ** 50,
    usedBytes: 2 ** 40,
    freeBytes: 2 ** 49,
    awayForMs: 0,
    lost: false,
    ...more,
  };
}
