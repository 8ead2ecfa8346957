/**
 * What the care of chunks costs and reaches, through the product's own commands: a drain at full speed beside a bare copy of
 * the same bytes in the same run, and how long a small read and write take while one runs at its default limit.
 *
 *   npm run bench -- repair
 */
import { randomBytes } from 'node:crypto';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import type { Member } from '@collective/client';
import { BenchMember } from './bench-member.ts';
import { type Figures, secondsOf } from './figures.ts';
import { bareTlsCopy, plainFileCopy } from './reference-copies.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const BYTES = 1024 * MiB;
const NODE = 'node-1';
const UNTHROTTLED = 2 ** 40;
const DEFAULT_RATE = 64 * MiB;
const FOREGROUND_MS = 12_000;
const clock = new SystemClock();

export async function repairBench(figures: Figures): Promise<void> {
  await using member = await BenchMember.start({ nodes: 3 });
  await using client = await member.connect();
  const block = randomBytes(64 * MiB);
  await client.admin.createRealm({ path: '/once', replicas: 1, minReplicas: 1 });
  await client.files.write('/once/data', pieces(block, BYTES), { sizeHintBytes: BYTES });
  await client.files.mkdir('/small');

  // A bare copy between two nodes: read, one TLS connection, a synced file. The slower of the two is what it can reach.
  const rate = async (act: () => Promise<unknown>): Promise<number> => BYTES / 1e6 / (await secondsOf(act));
  const tls = await rate(() => bareTlsCopy('send', block, BYTES));
  const disk = await rate(() => plainFileCopy(block, BYTES));
  await client.admin.setMaintenance({ repairBytesPerSecond: UNTHROTTLED });
  const drained = await drain(client, NODE);
  figures.add({ name: 'bare copy: TLS', value: tls, unit: 'MB/s' });
  figures.add({ name: 'bare copy: synced file', value: disk, unit: 'MB/s' });
  figures.add({ name: 'drain, unthrottled', value: drained, unit: 'MB/s' });
  figures.add({ name: 'drain / smaller of the two', value: drained / Math.min(tls, disk), unit: '', goal: 0.5 });

  await client.admin.setNodeDuty(NODE, 'active');
  await client.admin.setMaintenance({ repairBytesPerSecond: DEFAULT_RATE });
  const quiet = await foreground(client, 'quiet');
  const [busy] = await Promise.all([foreground(client, 'busy'), drain(client, 'node-2')]);
  figures.add({ name: 'small write and read, p99, nothing else runs', value: quiet, unit: 'ms' });
  figures.add({ name: 'the same beside a drain at the default limit', value: busy, unit: 'ms' });
  figures.add({ name: 'p99 beside a drain / without', value: busy / quiet, unit: '', atMost: 2 });
}

/** MB/s until nothing is left there. */
async function drain(client: Member, node: string): Promise<number> {
  const began = performance.now();
  const { bytes } = await client.admin.setNodeDuty(node, 'draining');
  for (let left = bytes; left > 0; ) {
    await sleep(clock, 50);
    left = (await client.admin.nodeHolding(node)).bytes;
  }
  return bytes / 1e6 / ((performance.now() - began) / 1000);
}

/** 99th percentile, in ms, of storing 4 KiB and reading them back, one after the other. */
async function foreground(client: Member, name: string): Promise<number> {
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
  took.sort((a, b) => a - b);
  return took[Math.floor(took.length * 0.99)] ?? Number.NaN;
}

async function* pieces(block: Buffer, bytes: number): AsyncIterable<Buffer> {
  for (let sent = 0; sent < bytes; sent += MiB) yield block.subarray(sent % block.length, (sent % block.length) + MiB);
}
