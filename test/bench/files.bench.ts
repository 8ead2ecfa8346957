/**
 * Large files through the SDK against real processes, each beside a bare TLS copy and a synced plain file of the same bytes
 * in the same run, since the machine's speed drifts. Random bytes, which do not compress, and text, which does.
 *
 *   npm run bench -- files
 */
import { randomBytes } from 'node:crypto';
import type { Member } from '@collective/client';
import { BenchMember } from './bench-member.ts';
import { type Figures, secondsOf } from './figures.ts';
import { bareTlsCopy, plainFileCopy } from './reference-copies.ts';

const MiB = 1024 * 1024;
const FILE_BYTES = 1024 * MiB;
const BLOCK_BYTES = 64 * MiB;
const READ_ROUNDS = 3;
/** Of the Go prototype that this system follows, published for 200-500 MB of real data. */
const PROTOTYPE_UP_MB_S = 63;
const PROTOTYPE_DOWN_MB_S = 250;

export async function filesBench(figures: Figures): Promise<void> {
  await using member = await BenchMember.start();
  await using client = await member.connect();
  const random = randomBytes(BLOCK_BYTES);
  await client.admin.createRealm({ path: '/once', replicas: 1, minReplicas: 1 });
  await client.files.mkdir('/twice');
  await store(client, '/twice/warm', random, 256 * MiB);

  const rate = async (act: () => Promise<unknown>): Promise<number> => FILE_BYTES / 1e6 / (await secondsOf(act));
  const tlsUp = await rate(() => bareTlsCopy('send', random, FILE_BYTES));
  const disk = await rate(() => plainFileCopy(random, FILE_BYTES));
  const once = await rate(() => store(client, '/once/random', random, FILE_BYTES));
  const twice = await rate(() => store(client, '/twice/random', random, FILE_BYTES));
  await drain(client, '/twice/warm', { bytes: 256 * MiB });
  // The machine is rarely alone: each round measures ours and the bare copy close together, and the best of each counts.
  let [tlsDown, down, borrowed, downTwice] = [0, 0, 0, 0];
  for (let round = 0; round < READ_ROUNDS; round++) {
    tlsDown = Math.max(tlsDown, await rate(() => bareTlsCopy('receive', random, FILE_BYTES)));
    down = Math.max(down, await rate(() => drain(client, '/once/random')));
    borrowed = Math.max(borrowed, await rate(() => drain(client, '/once/random', { borrow: true })));
    downTwice = Math.max(downTwice, await rate(() => drain(client, '/twice/random')));
  }

  figures.add({ name: 'bare TLS, sent', value: tlsUp, unit: 'MB/s' });
  figures.add({ name: 'bare TLS, received', value: tlsDown, unit: 'MB/s' });
  figures.add({ name: 'plain file, synced', value: disk, unit: 'MB/s' });
  figures.add({
    name: 'put, replication 1',
    value: once,
    unit: 'MB/s',
    goal: Math.min(4 * PROTOTYPE_UP_MB_S, 0.6 * disk),
    note: 'goal: 4 x the prototype, as far as the disk allows',
  });
  figures.add({
    name: 'put, replication 1 / smaller of TLS and disk',
    value: once / Math.min(tlsUp, disk),
    unit: '',
    goal: 0.6,
  });
  figures.add({ name: 'put, replication 2', value: twice, unit: 'MB/s' });
  figures.add({
    name: 'put, replication 2 / smaller of half TLS and half disk',
    value: twice / Math.min(tlsUp / 2, disk / 2),
    unit: '',
    goal: 0.6,
  });
  figures.add({
    name: 'get',
    value: down,
    unit: 'MB/s',
    goal: 2 * PROTOTYPE_DOWN_MB_S,
    note: 'goal: 2 x the prototype',
  });
  figures.add({ name: 'get / bare TLS', value: down / tlsDown, unit: '', goal: 0.7 });
  figures.add({ name: 'get as `cp` reads (borrowed pieces)', value: borrowed, unit: 'MB/s' });
  figures.add({ name: 'get as `cp` reads / bare TLS', value: borrowed / tlsDown, unit: '', goal: 0.7 });
  figures.add({ name: 'get, replication 2 / bare TLS', value: downTwice / tlsDown, unit: '' });

  const text = Buffer.from(
    'The quick brown fox jumps over the lazy dog. '.repeat(BLOCK_BYTES / 45).padEnd(BLOCK_BYTES, '.'),
  );
  figures.add({
    name: 'put, replication 2, compressible',
    value: await rate(() => store(client, '/twice/text', text, FILE_BYTES)),
    unit: 'MB/s',
  });
  figures.add({ name: 'get, compressible', value: await rate(() => drain(client, '/twice/text')), unit: 'MB/s' });
}

async function store(client: Member, path: string, block: Buffer, bytes: number): Promise<void> {
  await client.files.write(path, repeat(block, bytes), { sizeHintBytes: bytes });
}

async function* repeat(block: Buffer, bytes: number): AsyncIterable<Buffer> {
  for (let sent = 0; sent < bytes; sent += MiB) yield block.subarray(sent % block.length, (sent % block.length) + MiB);
}

/** Looks at all bytes and keeps none, as the bare copy does. */
async function drain(
  client: Member,
  path: string,
  { bytes: wanted = FILE_BYTES, borrow = false }: { bytes?: number; borrow?: boolean } = {},
): Promise<void> {
  let bytes = 0;
  for await (const piece of client.files.read(path, { borrow })) bytes += piece.length;
  if (bytes !== wanted) throw new Error(`${bytes} of ${wanted} bytes came`);
}
