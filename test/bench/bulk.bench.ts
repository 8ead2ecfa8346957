/**
 * Put and get of chunks through real processes and real mutual TLS, beside a bare TLS copy and a synced plain copy to the disk of
 * the same bytes in the same run. Random bytes, which do not compress. Prints a table and one line of JSON.
 *
 *   hack/node test/bench/bulk.bench.ts [MiB]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChunkId, chunkIdOf, type TrustDomain } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import { SystemClock } from '@collective/base/system-clock';
import {
  fixedTrust,
  SCRATCH_EPOCH,
  ScratchCoordinator,
  type ScratchNodeOptions,
} from '@collective/node/server/scratch-node';
import { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import type { BulkTarget } from '@collective/protocol/bulk/connection';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import { BulkExchange } from '@collective/protocol/bulk/exchange';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { bareTlsCopy, plainFileCopy } from './reference-copies.ts';

const SUBJECT = 'spiffe://alice.home/user/bench';
const MiB = 1024 * 1024;
/** On one connection; several would only compete for the cores. */
const CHUNKS_AT_ONCE = 4;
const ROUNDS = 3;
const sizeMiB = Number(process.argv[2] ?? 1024);
const chunkCount = Math.max(1, Math.floor((sizeMiB * MiB) / BLOCK_BYTES));
const totalBytes = chunkCount * BLOCK_BYTES;

interface Result {
  readonly mbPerSecond: number;
  readonly seconds: number;
  readonly cpuSecondsHere: number;
}

const results = new Map<string, Result>();
let grownMiB = 0;
const authority = await ScratchAuthority.create('alice.home' as TrustDomain);
const coordinator = new ScratchCoordinator();
const user = await authority.peer('user', 'bench');
const buffers = new ChunkBuffers(2 * CHUNKS_AT_ONCE);
const forever = new AbortController().signal;
/** Some different blocks, so that no cache sees the same bytes again and again. */
const random = randomBytes(16 * BLOCK_BYTES);
const blockOf = (i: number): Buffer => random.subarray((i % 16) * BLOCK_BYTES, ((i % 16) + 1) * BLOCK_BYTES);

// The machine is rarely alone: each round measures ours and the bare copies close together, and the best of each counts.
for (let round = 0; round < ROUNDS; round++) {
  await measure('bare TLS, sent', () => bareTlsCopy('send', random, totalBytes));
  await measure('plain file, synced', () => plainFileCopy(random, totalBytes));
  await replicated(1);
  await measure('bare TLS, received', () => bareTlsCopy('receive', random, totalBytes));
}
await replicated(2);
report();

async function replicated(replicas: 1 | 2): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'collective-bench-'));
  const names = ['one', 'two'].slice(0, replicas);
  const children = await Promise.all(names.map((name) => startNode(name, join(folder, name))));
  const targets = children.map(({ target }) => target);
  for (const { child } of children) child.send([...targets]);
  const exchange = await connectTo(targets[0]);
  try {
    const number = (i: number): ChunkId => chunkIdOf(SCRATCH_EPOCH, i + 1);
    const title = `put, ${replicas} replica${replicas > 1 ? 's' : ''}, stable`;
    const idleMiB = children.map(({ child }) => peakMiB(child));
    await measure(title, () => putAll(exchange, names.slice(1), number));
    if (replicas === 1) await measure('get', () => getAll(exchange, number));
    children.forEach(({ child }, i) => {
      grownMiB = Math.max(grownMiB, peakMiB(child) - (idleMiB[i] ?? 0));
    });
    if (replicas === 2)
      await measure('put 4 KiB, depth 32, stable on 2', () => putSmall(exchange, names.slice(1)), 4096 * 4096);
  } finally {
    exchange.close();
    for (const { child } of children) child.disconnect();
    await Promise.all(children.map(({ child }) => once(child, 'exit')));
    await rm(folder, { recursive: true, force: true });
  }
}

/** Peak memory of a process so far; 0 where the kernel does not tell. */
function peakMiB(child: ChildProcess): number {
  const path = `/proc/${child.pid}/status`;
  if (!existsSync(path)) return 0;
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(path, 'utf8'))?.[1] ?? 0) / 1024);
}

async function putAll(
  exchange: BulkExchange,
  forwardTo: readonly string[],
  number: (i: number) => ChunkId,
): Promise<void> {
  const token = coordinator.token(SUBJECT);
  let highest = 0;
  let incarnation = 0;
  await inParallel(CHUNKS_AT_ONCE, chunkCount, async (i) => {
    const encoded = encodeChunk([blockOf(i)], { compress: true, buffers });
    const request = {
      token,
      chunk: number(i),
      length: encoded.rawLength,
      inode: 1,
      block: i,
      forwardTo,
      stable: false,
    };
    const outcomes = await exchange.put(request, encoded, { signal: forever });
    encoded.release();
    for (const { failure } of outcomes) if (failure !== undefined) throw new Error(failure.message);
    highest = Math.max(highest, outcomes[0]?.sequence ?? 0);
    incarnation = outcomes[0]?.incarnation ?? 0;
  });
  await exchange.sync({ token, sequence: highest, incarnation }, { signal: forever });
}

async function getAll(exchange: BulkExchange, number: (i: number) => ChunkId): Promise<void> {
  const token = coordinator.token(SUBJECT);
  let bytes = 0;
  await inParallel(CHUNKS_AT_ONCE, chunkCount, async (i) => {
    const request = {
      token,
      chunk: number(i),
      offset: 0,
      length: BLOCK_BYTES,
      ...coordinator.ticket('one', number(i)),
    };
    for await (const piece of exchange.get(request, { signal: forever })) {
      bytes += piece.bytes.length;
      piece.release();
    }
  });
  if (bytes !== totalBytes) throw new Error(`${bytes} of ${totalBytes} bytes came`);
}

async function putSmall(exchange: BulkExchange, forwardTo: readonly string[]): Promise<void> {
  const token = coordinator.token(SUBJECT);
  const encoded = encodeChunk([randomBytes(4096)], { compress: true });
  await inParallel(32, 4096, async (i) => {
    const chunk = chunkIdOf(SCRATCH_EPOCH, 1_000_000 + i);
    const outcomes = await exchange.put(
      { token, chunk, length: 4096, inode: 1, block: 0, forwardTo, stable: true },
      encoded,
      { signal: forever },
    );
    for (const { failure } of outcomes) if (failure !== undefined) throw new Error(failure.message);
  });
}

async function inParallel(width: number, count: number, act: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (next < count) await act(next++);
    }),
  );
}

async function startNode(name: string, folder: string): Promise<{ child: ChildProcess; target: BulkTarget }> {
  const child = fork(new URL('./scratch-node-process.ts', import.meta.url), { serialization: 'advanced' });
  const { certificatePem, keyPem, bundlePem } = await authority.peer('node', name);
  const options: ScratchNodeOptions = {
    name,
    identity: { certificatePem, keyPem, bundlePem },
    welcome: coordinator.welcome(name),
    folder,
  };
  child.send({ ...options });
  const [target] = (await once(child, 'message')) as [BulkTarget];
  return { child, target };
}

async function connectTo(target: BulkTarget | undefined): Promise<BulkExchange> {
  if (target === undefined) throw new Error('no node');
  const clock = new SystemClock();
  const connection = await new TlsBulkConnector({ trust: fixedTrust(user), clock }).connect(target, forever);
  return await BulkExchange.open(connection, { clock, program: 'bench', progressWithinMs: 60_000 }, forever);
}

async function measure(name: string, act: () => Promise<void>, bytes = totalBytes): Promise<void> {
  const cpu = process.cpuUsage();
  const began = performance.now();
  await act();
  const seconds = (performance.now() - began) / 1000;
  const used = process.cpuUsage(cpu);
  const result = { seconds, mbPerSecond: bytes / 1e6 / seconds, cpuSecondsHere: (used.user + used.system) / 1e6 };
  if (result.mbPerSecond > (results.get(name)?.mbPerSecond ?? 0)) results.set(name, result);
}

function report(): void {
  console.log(`${totalBytes / MiB} MiB in chunks of 4 MiB, ${cpus().length} cores, best of ${ROUNDS}`);
  for (const [name, { mbPerSecond, seconds, cpuSecondsHere }] of results) {
    const [rate, time, cpu] = [mbPerSecond.toFixed(0), seconds.toFixed(2), cpuSecondsHere.toFixed(2)];
    console.log(`${name.padEnd(36)} ${rate.padStart(6)} MB/s  ${time.padStart(6)} s  ${cpu.padStart(6)} CPU s here`);
  }
  const rate = (name: string): number => results.get(name)?.mbPerSecond ?? Number.NaN;
  const share = (name: string, of: number): string =>
    `${name}: ${(rate(name) / of).toFixed(2)} of ${of.toFixed(0)} MB/s`;
  const [sent, received, file] = [rate('bare TLS, sent'), rate('bare TLS, received'), rate('plain file, synced')];
  console.log(share('put, 1 replica, stable', Math.min(sent, file)));
  console.log(share('put, 2 replicas, stable', Math.min(sent / 2, file / 2)));
  console.log(share('get', received));
  console.log(`memory of a node grew by at most ${grownMiB} MiB`);
  console.log(JSON.stringify({ bench: 'bulk', bytes: totalBytes, grownMiB, results: Object.fromEntries(results) }));
}
