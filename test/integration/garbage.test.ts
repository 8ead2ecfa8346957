/**
 * The room of removed files comes back: real processes, real disks. What is removed is garbage, is kept for the grace time,
 * and goes with a collection; a node that was away is told when it is back; a block of many small writes becomes one chunk.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { BLOCK_BYTES } from '@collective/base/limits';
import { connectAdmin, type GarbageStatus, type Member, type MemberStatus } from '@collective/client';
import { CliWorld, freePortBase, partsOf, until } from './cli-world.ts';
import { seededBytes, seededFile, sha256Of } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const slow = { timeout: 240_000 };
const KiB = 1024;
let running: RunningMember | undefined;

afterEach((context) => running?.printLogs(context));

async function garbage<T>(member: RunningMember, ask: (admin: Member['admin']) => Promise<T>): Promise<T> {
  using connected = await connectAdmin(member.connectOptions());
  return await ask(connected.admin);
}

function collect(member: RunningMember, graceSeconds = 0): Promise<GarbageStatus> {
  const signal = AbortSignal.timeout(120_000);
  return garbage(member, (admin) => admin.collectGarbage({ graceSeconds, wait: true }, { signal }));
}

async function fill(session: Member, folder: string, small: number, blocks: number): Promise<void> {
  await session.files.mkdir(folder);
  for (let at = 0; at < small; at += 50)
    await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        session.files.write(`${folder}/small-${at + i}`, seededFile(at + i, 20 * KiB)),
      ),
    );
  await session.files.write(`${folder}/large`, seededBytes(7, blocks * BLOCK_BYTES));
}

function chunksOf(member: RunningMember, counts: Readonly<Record<string, number>>): Promise<MemberStatus> {
  return member.untilStatus(
    ({ nodes }) => nodes.every(({ name, chunks }) => chunks === (counts[name] ?? chunks)),
    `nodes hold ${JSON.stringify(counts)} chunks`,
    30_000,
  );
}

test('D8: after everything is removed and collected, used space is within 2 % of empty', slow, async () => {
  await using member = await RunningMember.start();
  running = member;
  const session = await member.connect();
  const empty = await member.untilStatus(({ nodes }) => nodes.length === 2, 'both nodes have registered', 20_000);
  await fill(session, '/gone', 1_000, 120);
  const full = await member.untilStatus(
    ({ nodes }) => nodes.every(({ chunks }) => chunks === 1_120),
    'all is there',
    20_000,
  );
  const heldBytes = full.usedBytes - empty.usedBytes;
  assert.ok(heldBytes > 2 * 120 * BLOCK_BYTES, `${heldBytes} bytes`);
  await session.files.remove('/gone', { recursive: true, permanent: true });
  await collect(member);
  await member.untilStatus(
    ({ usedBytes }) => usedBytes - empty.usedBytes < 0.02 * heldBytes,
    `used space is back to ${empty.usedBytes} of ${full.usedBytes}`,
    30_000,
  );
});

test(
  'D8: after everything is removed a collection takes every chunk from the nodes, and nothing else',
  slow,
  async () => {
    await using member = await RunningMember.start();
    running = member;
    const session = await member.connect();
    await fill(session, '/gone', 400, 40);
    await session.files.write('/kept', seededBytes(3, 5 * BLOCK_BYTES));
    await chunksOf(member, { 'node-1': 445, 'node-2': 445 });
    await session.files.remove('/gone', { recursive: true, permanent: true });
    assert.equal((await collect(member, 3_600)).collectedChunks, 0, 'younger than the grace time');
    const done = await collect(member);
    assert.equal(done.collectedChunks, 440);
    assert.ok(done.collectedBytes > 2 * (400 * 20 * KiB + 40 * BLOCK_BYTES));
    assert.deepEqual([done.chunks, done.condemned, done.removedFiles, done.waitsFor], [0, 0, 0, []]);
    await chunksOf(member, { 'node-1': 5, 'node-2': 5 });
    assert.equal(await sha256Of(session.files.read('/kept')), await sha256Of(seededBytes(3, 5 * BLOCK_BYTES)));
  },
);

test('D8: a node that was away forgets when it is back, by itself', slow, async () => {
  await using member = await RunningMember.start();
  running = member;
  const session = await member.connect();
  await fill(session, '/gone', 50, 3);
  await chunksOf(member, { 'node-1': 53, 'node-2': 53 });
  await member.node('node-2').kill();
  await session.files.remove('/gone', { recursive: true, permanent: true });
  const done = await collect(member);
  assert.deepEqual([done.condemned, done.waitsFor.map(({ node }) => node)], [53, ['node-2']]);
  await chunksOf(member, { 'node-1': 0 });
  await member.coordinator.kill();
  await member.coordinator.start();
  await member.node('node-2').start();
  await chunksOf(member, { 'node-1': 0, 'node-2': 0 });
  const left = (): Promise<GarbageStatus> => garbage(member, (admin) => admin.garbage());
  await until(
    async () => (await left()).condemned === 0,
    'nothing waits any more',
    30_000,
    () => '',
  );
});

test(
  'D8: a collection has dead bytes given back that are too few for a node to do it by itself, also without garbage',
  slow,
  async () => {
    await using member = await RunningMember.start();
    running = member;
    const session = await member.connect();
    await session.files.mkdir('/few');
    const bytesOf = (i: number): Buffer => seededFile(i, 1024 * KiB);
    for (let i = 0; i < 40; i++) await session.files.write(`/few/${i}`, bytesOf(i));
    const full = await chunksOf(member, { 'node-1': 40, 'node-2': 40 });
    await member.node('node-2').kill();
    for (let i = 0; i < 40; i += 10) await session.files.remove(`/few/${i}`, { permanent: true });
    const first = await collect(member);
    assert.deepEqual(
      first.compactions.map(({ node, state }) => [node, state]),
      [
        ['node-1', 'done'],
        ['node-2', 'unfinished'],
      ],
    );
    await member.node('node-2').start();
    await chunksOf(member, { 'node-1': 36, 'node-2': 36 });
    const used = ({ nodes }: MemberStatus, name: string): number =>
      nodes.find((node) => node.name === name)?.usedBytes ?? 0;
    const told = await member.status();
    assert.ok(used(told, 'node-2') > used(full, 'node-2') - 1024 * KiB, 'a tenth is dead, which is left');
    const second = await collect(member);
    assert.deepEqual([second.chunks, second.condemned, second.collectedChunks], [0, 0, 4], 'no garbage was left');
    assert.ok(second.compactions.every(({ state }) => state === 'done'));
    await member.untilStatus(
      (status) => used(status, 'node-2') < used(full, 'node-2') - 3 * 1024 * KiB,
      'node-2 gave the room of four chunks back',
      20_000,
    );
    for (let i = 1; i < 40; i += 13)
      assert.ok((await session.files.readAll(`/few/${i}`)).equals(bytesOf(i)), `/few/${i}`);
  },
);

test('D8: a file that was written in very many pieces is folded, and reads as before', slow, async () => {
  await using member = await RunningMember.start();
  running = member;
  const session = await member.connect();
  await using file = await session.files.open('/pieces', { access: 'write', create: true });
  const wanted = Buffer.alloc(200 * KiB);
  for (let i = 0; i < 60; i++) {
    const offset = (i * 37 * 997) % (190 * KiB);
    const bytes = seededFile(i, 8 * KiB);
    bytes.copy(wanted, offset);
    await file.write(offset, bytes);
  }
  const size = (await file.attributes()).sizeBytes;
  const reader = await member.connect({ cache: true });
  assert.ok((await reader.files.readAll('/pieces')).equals(wanted.subarray(0, size)));
  let last: GarbageStatus | undefined;
  const folded = async (): Promise<boolean> => {
    last = await garbage(member, (admin) => admin.garbage());
    return last.foldedBlocks === 1;
  };
  await until(folded, 'the block is folded', 90_000, () => JSON.stringify(last));
  assert.ok((await reader.files.readAll('/pieces')).equals(wanted.subarray(0, size)));
  await collect(member);
  await chunksOf(member, { 'node-1': 1, 'node-2': 1 });
  assert.ok((await reader.files.readAll('/pieces')).equals(wanted.subarray(0, size)));
  const report = await session.files.verify('/pieces');
  assert.deepEqual([report.chunks, report.replicas, report.bad], [1, 2, []]);
});

test('collective garbage: list what would go, collect it, look at what is left', slow, async () => {
  await using world = await CliWorld.create();
  await world.up(['--member', 'alice', '--port-base', String(await freePortBase()), '--capacity', '1GiB']);
  await world.ok(['write', '/one'], { stdin: 'one' });
  await world.ok(['write', '/two'], { stdin: Buffer.alloc(300_000, 7) });
  await world.ok(['rm', '--permanent', '/one', '/two']);
  const waiting = async (): Promise<number> => JSON.parse(await world.ok(['garbage', 'status', '--json'])).removedFiles;
  await until(
    async () => (await waiting()) === 0,
    'the blocks of both are let go of',
    20_000,
    () => '',
  );
  const kept = await world.run(['garbage', 'collect', '--dry-run']);
  assert.match(kept.err, /^0 chunks/, 'younger than a day');
  const dry = await world.run(['garbage', 'collect', '--grace', '0s', '--dry-run', '--json']);
  const due = JSON.parse(dry.out) as { chunk: string; nodes: string[]; storedBytes: number }[];
  assert.deepEqual(
    due.map(({ nodes }) => nodes.toSorted()),
    [
      ['node-1', 'node-2'],
      ['node-1', 'node-2'],
    ],
  );
  assert.match(dry.err, /^2 chunks, .* would be collected\n$/);
  assert.match(await world.ok(['garbage', 'collect', '--grace', '0s', '--wait']), /^collected 2 chunks, /);
  assert.equal(JSON.parse(await world.ok(['garbage', 'collect', '--grace', '0s', '--dry-run', '--json'])).length, 0);
  const status = JSON.parse(await world.ok(['garbage', 'status', '--json']));
  assert.deepEqual([status.chunks, status.collectedChunks, status.graceSeconds, status.waits], [0, 2, 86_400, false]);
  assert.match(await world.ok(['garbage', 'status', '-o', 'wide']), /Garbage: .*0 chunks/);
  assert.match(await world.ok(['garbage', 'orphans']), /^NODE +CHUNK +SEEN FOR +STATE\n$/);
  await world.fails(2, /its unit is missing/, ['garbage', 'collect', '--grace', '0']);
  assert.match(await world.ok(['garbage', 'status', '-o', 'wide']), /Compacted: +node-1 done; node-2 done\n/);
  const node = (await partsOf(world.dataOf('alice'))).find(({ name }) => name === 'node-2');
  assert.ok(node !== undefined);
  process.kill(node.pid, 'SIGSTOP');
  await world.fails(5, /^node node-2 has not given all room back: .*; collect again when it is back$/m, [
    ...['garbage', 'collect', '--wait'],
  ]);
  process.kill(node.pid, 'SIGCONT');
});
