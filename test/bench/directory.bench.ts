/**
 * One directory with a million entries: made through a session, then listed, looked into, found in and removed by the SDK and by
 * the command, with the memory of the coordinator and of each command beside it. Both must stay bounded.
 *
 *   npm run bench -- directory
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Member } from '@collective/client';
import { BenchMember } from './bench-member.ts';
import { type Figures, rateAtDepth, secondsOf } from './figures.ts';
import { lookup, make } from './metadata.bench.ts';

const ENTRIES = Number(process.env.BENCH_ENTRIES ?? 1_000_000);
const DEPTH = 256;
const LOOKUPS = 20_000;
const LOOK_EVERY_MS = 100;
/** What a command may take above one that lists an empty directory: most of it is what the coordinator promised of 100,000 inodes. */
const COMMAND_MIB_MAX = 192;

export async function directoryBench(figures: Figures): Promise<void> {
  await using member = await BenchMember.start();
  const emptyBytes = await member.coordinatorMemoryBytes();
  const add = (name: string, value: number, unit: string, atMost?: number): void =>
    figures.add({ name, value, unit, ...(atMost === undefined ? {} : { atMost }) });
  {
    await using session = await member.session();
    const directory = await make(session, 1, 'large', 2);
    await make(session, 1, 'empty', 2);
    const rates: number[] = [];
    for (let tenth = 0; tenth < 10; tenth++) {
      const from = (tenth * ENTRIES) / 10;
      rates.push(await rateAtDepth(DEPTH, ENTRIES / 10, (i) => make(session, directory, nameOf(from + i), 1)));
    }
    add('creates in one directory, depth 256, first tenth', rates[0] ?? 0, '/s');
    add('the same, last tenth', rates.at(-1) ?? 0, '/s');
    add(
      'lookups of random names, depth 32',
      await rateAtDepth(32, LOOKUPS, (i) => lookup(session, directory, nameOf((i * 7919 * 104_729) % ENTRIES))),
      '/s',
    );
  }
  add('coordinator memory, grown by', ((await member.coordinatorMemoryBytes()) - emptyBytes) / 1e6, 'MB');
  {
    await using client = await member.connect();
    add('SDK list', await listRate(client), 'entries/s');
    add('SDK list, the first page', 1000 * (await secondsOf(() => firstEntry(client))), 'ms');
  }
  const empty = await command(member, ['ls', '/empty']);
  const run = async (name: string, args: string[], options: { lines?: number } = {}): Promise<void> => {
    const { seconds, peakBytes, lines } = await command(member, args, options);
    add(name, seconds, 's');
    add(`${name}: memory above an empty ls`, (peakBytes - empty.peakBytes) / 2 ** 20, 'MiB', COMMAND_MIB_MAX);
    if (options.lines === undefined && !args.includes('rm') && lines < ENTRIES)
      throw new Error(`${name} printed ${lines} lines of ${ENTRIES}`);
  };
  await run('collective ls', ['ls', '/large']);
  await run('collective ls -l', ['ls', '-l', '/large']);
  await run('collective ls -l | head', ['ls', '-l', '/large'], { lines: 10 });
  await run('collective find', ['find', '/large']);
  add(
    'coordinator memory after listings, grown by',
    ((await member.coordinatorMemoryBytes()) - emptyBytes) / 1e6,
    'MB',
  );
  await run('collective rm -r', ['rm', '-r', '/large']);
  add('coordinator memory at the end, grown by', ((await member.coordinatorMemoryBytes()) - emptyBytes) / 1e6, 'MB');
}

function nameOf(i: number): string {
  return `entry-${String(i).padStart(7, '0')}`;
}

async function listRate(client: Member): Promise<number> {
  let entries = 0;
  const seconds = await secondsOf(async () => {
    for await (const _entry of client.files.list('/large')) entries++;
  });
  if (entries !== ENTRIES) throw new Error(`${entries} of ${ENTRIES} entries came`);
  return entries / seconds;
}

async function firstEntry(client: Member): Promise<void> {
  for await (const _entry of client.files.list('/large')) return;
}

/** Runs the command as a person does, counts its lines, and watches its memory. With `lines` it is left after so many. */
async function command(
  member: BenchMember,
  args: readonly string[],
  options: { lines?: number } = {},
): Promise<{ seconds: number; peakBytes: number; lines: number }> {
  const began = performance.now();
  const child = member.spawnCommand(args);
  let lines = 0;
  child.stdout?.on('data', (piece: Buffer) => {
    for (const byte of piece) if (byte === 10) lines++;
    if (options.lines !== undefined && lines >= options.lines) child.stdout?.destroy();
  });
  let peakBytes = 0;
  const timer = setInterval(async () => {
    peakBytes = Math.max(peakBytes, await peakOf(child));
  }, LOOK_EVERY_MS);
  const errors: Buffer[] = [];
  child.stderr?.on('data', (piece: Buffer) => errors.push(piece));
  const [code] = await once(child, 'close');
  clearInterval(timer);
  if (code !== 0 && options.lines === undefined)
    throw new Error(`${args.join(' ')} ended with ${code}: ${Buffer.concat(errors)}`);
  return { seconds: (performance.now() - began) / 1000, peakBytes, lines };
}

async function peakOf(child: ChildProcess): Promise<number> {
  const status = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}
