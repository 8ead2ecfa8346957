/**
 * What the care of chunks costs and reaches, through the product's own commands: a drain, and the repair after a node was lost for
 * good, each at full speed beside a bare copy of a file between two processes in the same run; and how long a small write and read take
 * while one runs at its default limit.
 *
 *   npm run bench -- repair
 */
import { randomBytes } from 'node:crypto';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import type { Member } from '@collective/client';
import { RunningMember } from '../integration/running-member.ts';
import { BenchMember } from './bench-member.ts';
import type { Figures } from './figures.ts';
import { bareNodeCopy } from './reference-copies.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** A third of it lies on each node. */
const BYTES = 3 * 1024 * MiB;
/** On two of four nodes each: at first a quarter of twice as much is lost with one, then a third. */
const TWICE_BYTES = 1536 * MiB;
const COPY_BYTES = 1024 * MiB;
const UNTHROTTLED = 2 ** 40;
const FOREGROUND_ROUNDS = 2;
const FOREGROUND_MS = 8_000;
const clock = new SystemClock();

export async function repairBench(figures: Figures): Promise<void> {
  const block = randomBytes(64 * MiB);
  await drains(figures, block);
  await lostNodes(figures, block);
}

async function drains(figures: Figures, block: Buffer): Promise<void> {
  await using member = await BenchMember.start({ nodes: 3 });
  await using client = await member.connect();
  const { repairBytesPerSecond: defaultRate } = await client.admin.maintenance();
  await client.admin.createRealm({ path: '/once', replicas: 1, minReplicas: 1 });
  await client.files.write('/once/data', pieces(block, BYTES), { sizeHintBytes: BYTES });
  await client.files.mkdir('/small');

  await client.admin.setMaintenance({ repairBytesPerSecond: UNTHROTTLED });
  // The machine is rarely alone: the bare copy is made before and after, and the better one counts.
  const bare = [await bareCopy(block)];
  const drained = await drain(client, 'node-1');
  bare.push(await bareCopy(block));
  figures.add({ name: 'bare copy between two processes, synced', value: Math.max(...bare), unit: 'MB/s' });
  figures.add({ name: 'drain, unthrottled', value: drained, unit: 'MB/s' });
  figures.add({ name: 'drain / bare copy', value: drained / Math.max(...bare), unit: '', goal: 0.5 });
  await client.admin.setNodeDuty('node-1', 'active');

  await client.admin.setMaintenance({ repairBytesPerSecond: defaultRate });
  const [quiet, busy]: [number[], number[]] = [[], []];
  for (let round = 0; round < FOREGROUND_ROUNDS; round++) {
    quiet.push(...(await foreground(client, `quiet-${round}`)));
    await client.admin.setNodeDuty('node-2', 'draining');
    const before = await moving(client, 'node-2');
    busy.push(...(await foreground(client, `busy-${round}`)));
    const moved = before - (await client.admin.nodeHolding('node-2')).bytes;
    figures.add({ name: 'drained beside it', value: moved / 1e3 / FOREGROUND_MS, unit: 'MB/s' });
    await client.admin.setNodeDuty('node-2', 'active');
    await still(client, 'node-2');
  }
  figures.add({ name: 'small write and read, p99, nothing else runs', value: p99(quiet), unit: 'ms' });
  figures.add({ name: 'the same beside a drain at the default limit', value: p99(busy), unit: 'ms' });
  figures.add({ name: 'p99 beside a drain / without', value: p99(busy) / p99(quiet), unit: '', atMost: 2 });
}

async function lostNodes(figures: Figures, block: Buffer): Promise<void> {
  const nodes = [1, 2, 3, 4].map((number) => ({ name: `node-${number}`, capacity: '60GiB' }));
  await using member = await RunningMember.start({ nodes });
  const client = await member.connect();
  const { repairBytesPerSecond: defaultRate } = await client.admin.maintenance();
  await client.files.write('/data', pieces(block, TWICE_BYTES), { sizeHintBytes: TWICE_BYTES });
  await client.files.mkdir('/small');

  await client.admin.setMaintenance({ repairAfterSeconds: 1, repairBytesPerSecond: UNTHROTTLED });
  const bare = [await bareCopy(block)];
  await member.node('node-4').kill();
  const repaired = await repair(client);
  bare.push(await bareCopy(block));
  figures.add({ name: 'bare copy, as above', value: Math.max(...bare), unit: 'MB/s' });
  figures.add({ name: 'repair after a lost node, unthrottled', value: repaired, unit: 'MB/s' });
  figures.add({ name: 'repair / bare copy', value: repaired / Math.max(...bare), unit: '', goal: 0.5 });

  await client.admin.setMaintenance({ repairBytesPerSecond: defaultRate });
  const quiet = await foreground(client, 'before-repair');
  await member.node('node-3').kill();
  const began = await repairing(client);
  const busy: number[] = [];
  for (let round = 0; round < FOREGROUND_ROUNDS; round++)
    busy.push(...(await foreground(client, `beside-repair-${round}`)));
  const { repairedBytes, underReplicated } = (await client.admin.status()).replication;
  if (underReplicated === 0) throw new Error('The repair had ended before the small files: give it more to do');
  const rate = (repairedBytes - began.repairedBytes) / 1e3 / (performance.now() - began.atMs);
  await repair(client);
  quiet.push(...(await foreground(client, 'after-repair')));
  figures.add({ name: 'repaired beside it', value: rate, unit: 'MB/s' });
  figures.add({ name: 'small write and read, p99, nothing else runs', value: p99(quiet), unit: 'ms' });
  figures.add({ name: 'the same beside a repair at the default limit', value: p99(busy), unit: 'ms' });
  figures.add({ name: 'p99 beside a repair / without', value: p99(busy) / p99(quiet), unit: '', atMost: 2 });
}

interface Repairing {
  readonly atMs: number;
  readonly repairedBytes: number;
}

/** Resolves when copies are being made. */
async function repairing(client: Member): Promise<Repairing> {
  const { repairedBytes } = (await client.admin.status()).replication;
  for (;;) {
    await sleep(clock, 20);
    const now = (await client.admin.status()).replication.repairedBytes;
    if (now > repairedBytes) return { atMs: performance.now(), repairedBytes: now };
  }
}

/** MB/s from the first copies until every chunk has all of its own again. */
async function repair(client: Member): Promise<number> {
  const began = await repairing(client);
  for (;;) {
    const { repairedBytes, underReplicated, counting } = (await client.admin.status()).replication;
    const seconds = (performance.now() - began.atMs) / 1000;
    if (underReplicated === 0 && !counting) return (repairedBytes - began.repairedBytes) / 1e6 / seconds;
    await sleep(clock, 20);
  }
}

async function bareCopy(block: Buffer): Promise<number> {
  return COPY_BYTES / 1e6 / (await bareNodeCopy(block, COPY_BYTES));
}

/** MB/s from the order until nothing is left there. */
async function drain(client: Member, node: string): Promise<number> {
  const began = performance.now();
  const { bytes } = await client.admin.setNodeDuty(node, 'draining');
  for (let left = bytes; left > 0; ) {
    await sleep(clock, 50);
    // As who waits for a drain asks: counting all chunks each time would be measured with it.
    left = (await client.admin.nodeHolding(node, { rough: true })).bytes;
  }
  return bytes / 1e6 / ((performance.now() - began) / 1000);
}

/** Resolves when something has left the node, with what is there then. */
async function moving(client: Member, node: string): Promise<number> {
  const { bytes } = await client.admin.nodeHolding(node);
  for (;;) {
    await sleep(clock, 20);
    const now = (await client.admin.nodeHolding(node)).bytes;
    if (now < bytes) return now;
  }
}

/** Resolves when nothing leaves the node any more. */
async function still(client: Member, node: string): Promise<void> {
  for (let before = -1; ; ) {
    const { bytes } = await client.admin.nodeHolding(node);
    if (bytes === before) return;
    before = bytes;
    await sleep(clock, 2_000);
  }
}

/** How long storing 4 KiB and reading them back took each time, in ms, one after the other. */
async function foreground(client: Member, name: string): Promise<number[]> {
  const took: number[] = [];
  const bytes = randomBytes(4 * KiB);
  const endsAt = performance.now() + FOREGROUND_MS;
  for (let i = 0; performance.now() < endsAt; i++) {
    const began = performance.now();
    await client.files.write(`/small/${name}-${i}`, bytes);
    const read = await client.files.readAll(`/small/${name}-${i}`);
    if (!read.equals(bytes)) throw new Error(`${name}-${i} came back with other bytes`);
    took.push(performance.now() - began);
  }
  return took;
}

function p99(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
}

async function* pieces(block: Buffer, bytes: number): AsyncIterable<Buffer> {
  for (let sent = 0; sent < bytes; sent += MiB) yield block.subarray(sent % block.length, (sent % block.length) + MiB);
}
