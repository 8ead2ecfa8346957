/**
 * Metadata over one session, and small files through the SDK, against real processes: creates, lookups and unlinks at depth 32,
 * creates one after the other as a mount makes them (answered when written), 4 KiB files stable on two nodes.
 *
 *   npm run bench -- metadata
 */
import { randomBytes } from 'node:crypto';
import type { Session } from '@collective/client/session/session';
import { BenchMember } from './bench-member.ts';
import { type Figures, rateAtDepth } from './figures.ts';

const CREATES = 20_000;
const LOOKUPS = 100_000;
const SERIAL_CREATES = 5_000;
const SMALL_FILES = 8_000;
const DEPTH = 32;
const FILE = 1;
const DIRECTORY = 2;

export async function metadataBench(figures: Figures): Promise<void> {
  await using member = await BenchMember.start();
  {
    await using session = await member.session();
    const directory = await make(session, 1, 'metadata', DIRECTORY);
    await rateAtDepth(DEPTH, CREATES / 10, (i) => make(session, directory, `warm-${i}`, FILE));
    figures.add({
      name: 'creates, depth 32, stable',
      value: await rateAtDepth(DEPTH, CREATES, (i) => make(session, directory, `file-${i}`, FILE)),
      unit: '/s',
      goal: 4_000,
    });
    figures.add({
      name: 'lookups, depth 32',
      value: await rateAtDepth(DEPTH, LOOKUPS, (i) => lookup(session, directory, `file-${i % CREATES}`)),
      unit: '/s',
      goal: 20_000,
    });
    figures.add({
      name: 'unlinks, depth 32, stable',
      value: await rateAtDepth(DEPTH, CREATES, (i) => unlink(session, directory, `file-${i}`)),
      unit: '/s',
    });
    figures.add({
      name: 'creates, depth 1, written (mount session)',
      value: await rateAtDepth(1, SERIAL_CREATES, (i) => make(session, directory, `serial-${i}`, FILE, 'written')),
      unit: '/s',
      goal: 1_500,
    });
    figures.add({
      name: 'creates, depth 1, stable',
      value: await rateAtDepth(1, SERIAL_CREATES / 10, (i) => make(session, directory, `stable-${i}`, FILE)),
      unit: '/s',
      note: 'one fsync each',
    });
  }
  await using client = await member.connect();
  await client.files.mkdir('/small');
  const blocks = Array.from({ length: 64 }, () => randomBytes(4096));
  const store = (prefix: string) => (i: number) =>
    client.files.write(`/small/${prefix}-${i}`, blocks[i % 64] ?? Buffer.alloc(4096));
  await rateAtDepth(DEPTH, SMALL_FILES / 10, store('warm'));
  figures.add({
    name: 'files of 4 KiB, depth 32, stable on two nodes',
    value: await rateAtDepth(DEPTH, SMALL_FILES, store('file')),
    unit: '/s',
    goal: 1_000,
  });
}

export async function make(
  session: Session,
  parent: number,
  name: string,
  type: 1 | 2,
  durability: 'written' | 'stable' = 'stable',
): Promise<number> {
  const reply = await session.call(
    {
      $case: 'makeNode',
      value: {
        parent,
        name: Buffer.from(name),
        type,
        mode: 0o755,
        umask: 0,
        rdev: 0,
        linkTarget: Buffer.alloc(0),
        existing: 0,
        content: undefined,
        targetHeld: false,
        targetInode: 0,
      },
    },
    { durability },
  );
  return reply.result?.$case === 'attributes' ? reply.result.value.inode : 0;
}

async function unlink(session: Session, parent: number, name: string): Promise<void> {
  const value = { parent, name: Buffer.from(name), directory: false, held: false, expectedInode: 0, permanent: false };
  await session.call({ $case: 'unlink', value }, { durability: 'stable' });
}

export async function lookup(session: Session, parent: number, name: string): Promise<void> {
  await session.call({ $case: 'lookup', value: { parent, name: Buffer.from(name) } });
}
