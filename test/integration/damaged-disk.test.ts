import assert from 'node:assert/strict';
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { CollectiveError, ERROR_CODES } from '@collective/base/errors';
import { FRAME_BYTES } from '@collective/base/limits';
import type { Member } from '@collective/client';
import { until } from './cli-world.ts';
import { seededFile } from './random-file.ts';
import { RunningMember } from './running-member.ts';

const MiB = 1024 * 1024;
const FLIPS = 100;
/** A test that hangs shall fail and show the logs. */
const ENDS = { timeout: 180_000 };

describe('bits that flip on a disk', () => {
  let member: RunningMember;
  let session: Member;

  before(async () => {
    member = await RunningMember.start();
    session = await member.connect();
  });
  after(() => member?.[Symbol.asyncDispose]());
  afterEach((t) => member?.printLogs(t));

  test(
    'D5: a flipped bit on one node is found by verify, which names node and chunk, and the other replica serves',
    ENDS,
    async () => {
      const content = seededFile(1, 5 * MiB);
      await session.files.write('/one.raw', content);
      assert.deepEqual((await session.files.verify('/one.raw')).bad, []);
      await flipBit('node-2', content, 3 * FRAME_BYTES + 77);

      const report = await session.files.verify('/one.raw');
      assert.deepEqual([report.chunks, report.replicas, report.underReplicated, report.lost], [2, 4, 1, 0]);
      const [found, ...others] = report.bad;
      assert.ok(found !== undefined && others.length === 0);
      assert.match(found.chunk, /^[0-9a-f]{32}$/);
      assert.deepEqual([found.node, found.offset], ['node-2', 0]);
      assert.ok(found.error instanceof CollectiveError && found.error.code === 'chunk_corrupt', String(found.error));
      for (let i = 0; i < 4; i++)
        assert.ok((await session.files.readAll('/one.raw')).equals(content), 'whichever replica is asked first');

      const { replication, events } = await member.untilStatus(
        ({ events }) => events.some(({ kind }) => kind === 'chunk-damaged'),
        'the damage is an event',
        20_000,
      );
      assert.deepEqual(
        [replication.lost, events[0]?.details.node, events[0]?.details.chunks],
        [0, 'node-2', found.chunk],
      );
      await untilSound('/one.raw');
      assert.equal((await session.files.verify('/one.raw')).replicas, 4, 'replaced where it lay');
      assert.ok((await session.files.readAll('/one.raw')).equals(content));
    },
  );

  test(
    'D8: a scrub that is asked for finds a flipped bit, tells how many, and the copy is made anew',
    ENDS,
    async () => {
      const content = seededFile(6, 3 * MiB);
      await session.files.write('/rotten.raw', content);
      await flipBit('node-1', content, 7 * FRAME_BYTES + 9);
      const { scrub } = await session.admin.scrubNode('node-1', { wait: true });
      assert.equal(scrub?.lastDamaged, 1);
      await untilSound('/rotten.raw');
      const again = await session.admin.scrubNode('node-1', { wait: true });
      assert.deepEqual([again.scrub?.lastDamaged, again.scrub?.damagedNow], [0, 0]);
    },
  );

  test('D6: replicas damaged in different places serve every byte together', ENDS, async () => {
    const content = seededFile(2, 4 * MiB);
    await session.files.write('/crossed.raw', content);
    await flipBit('node-1', content, 2 * FRAME_BYTES);
    await flipBit('node-2', content, 20 * FRAME_BYTES + 5);
    const report = await session.files.verify('/crossed.raw');
    assert.deepEqual(report.bad.map(({ node }) => node).sort(), ['node-1', 'node-2']);
    assert.ok((await session.files.readAll('/crossed.raw')).equals(content));
    await member.untilStatus(
      ({ events }) =>
        events.some(({ kind, details }) => kind === 'chunk-unreadable' && details.chunk === report.bad[0]?.chunk),
      'that no copy is whole is an event',
      20_000,
    );
    assert.ok((await session.files.readAll('/crossed.raw')).equals(content), 'damaged copies are better than none');
  });

  test(
    'D5: both copies damaged in one place: an error like EIO that names the path, and no wrong byte before it',
    ENDS,
    async () => {
      const content = seededFile(3, 6 * MiB);
      const damagedAt = 9 * FRAME_BYTES + 1_000;
      await session.files.write('/both.raw', content);
      for (const { name } of member.nodes) await flipBit(name, content, damagedAt);

      const arrived: Buffer[] = [];
      await assert.rejects(
        async () => {
          for await (const piece of session.files.read('/both.raw')) arrived.push(piece);
        },
        (thrown) => {
          assert.ok(thrown instanceof CollectiveError, String(thrown));
          assert.equal(thrown.code, 'chunk_corrupt');
          assert.equal(ERROR_CODES[thrown.code].errno, 'EIO');
          assert.match(thrown.message, /\/both\.raw/);
          return true;
        },
      );
      const before = Buffer.concat(arrived);
      assert.ok(before.length <= 9 * FRAME_BYTES, `${before.length} bytes came, some of them from the damaged frame`);
      assert.ok(before.equals(content.subarray(0, before.length)), 'what came is right');

      // D5: damage costs the frame that it is in, not the file.
      const elsewhere = await session.files.readAll('/both.raw', { offset: 10 * FRAME_BYTES, length: 2 * MiB });
      assert.ok(elsewhere.equals(content.subarray(10 * FRAME_BYTES, 10 * FRAME_BYTES + 2 * MiB)));
      await member.untilStatus(
        ({ events }) => events.filter(({ kind }) => kind === 'chunk-unreadable').length === 2,
        'that no copy is whole is an event',
        20_000,
      );
      const { lost, bad } = await session.files.verify('/both.raw');
      assert.deepEqual([lost, bad.length], [1, 2]);
    },
  );

  test('D4: damage to a node that was off is found, mended, and takes no other chunk along', ENDS, async () => {
    const content = seededFile(4, 3 * MiB);
    await session.files.write('/off.raw', content);
    await session.files.write('/beside.raw', seededFile(5, 3 * MiB));
    await member.node('node-2').end();
    await flipBit('node-2', content, 7 * FRAME_BYTES + 5);
    await member.node('node-2').start();
    await member.untilStatus(({ nodes }) => nodes.every(({ state }) => state === 'ready'), 'node-2 is back', 20_000);
    const seen = new Set<string>();
    for (const path of ['/off.raw', '/beside.raw'])
      for (const { node } of (await session.files.verify(path)).bad) seen.add(`${path} ${node}`);
    // It may have been mended already since its start found it.
    assert.deepEqual(
      [...seen].filter((each) => each !== '/off.raw node-2'),
      [],
    );
    await member.untilStatus(
      ({ events }) =>
        events.filter(({ kind, details }) => kind === 'chunk-damaged' && details.node === 'node-2').length >= 3,
      'the damage is an event',
      20_000,
    );
    await untilSound('/off.raw');
    assert.ok((await session.files.readAll('/off.raw')).equals(content));
    assert.deepEqual((await session.files.verify('/beside.raw')).bad, []);
  });

  test(
    'D5, D8: bits flipped in a hundred places are found by one scrub, each is mended, and the next finds none',
    ENDS,
    async () => {
      await session.files.mkdir('/many');
      const contents = Array.from({ length: FLIPS }, (_, i) =>
        seededFile(1_000 + i, 1_000 + ((i * 48_271) % (300 * 1024))),
      );
      await Promise.all(contents.map((content, i) => session.files.write(`/many/${i}`, content)));
      const { scrub: before } = await session.admin.scrubNode('node-1', { wait: true });
      await flipBits(
        'node-1',
        contents.map((content, i) => ({ content, offset: (i * 7_919) % content.length })),
      );
      const { scrub } = await session.admin.scrubNode('node-1', { wait: true });
      assert.deepEqual([scrub?.lastDamaged, (scrub?.damagedFound ?? 0) - (before?.damagedFound ?? 0)], [FLIPS, FLIPS]);
      for (const [i, content] of contents.entries()) {
        await untilSound(`/many/${i}`);
        assert.ok((await session.files.readAll(`/many/${i}`)).equals(content));
      }
      const { scrub: after } = await session.admin.scrubNode('node-1', { wait: true });
      assert.equal(after?.lastDamaged, 0);
    },
  );

  /** All that the realm wants is there and whole. */
  async function untilSound(path: string): Promise<void> {
    let seen: unknown;
    await until(
      async () => {
        const { underReplicated, bad } = await session.files.verify(path);
        seen = { underReplicated, bad: bad.map(({ node }) => node) };
        return underReplicated === 0 && bad.length === 0;
      },
      `${path} is mended`,
      30_000,
      () => JSON.stringify(seen),
    );
  }

  function flipBit(node: string, content: Buffer, offset: number): Promise<void> {
    return flipBits(node, [{ content, offset }]);
  }

  /** Flips one bit of a node's copy of each content, whose frames lie uncompressed on its disk since they are random. */
  async function flipBits(
    node: string,
    flips: readonly { readonly content: Buffer; readonly offset: number }[],
  ): Promise<void> {
    const folder = join(member.folder, node, 'store');
    let left = flips;
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      const bytes = await readFile(path);
      await using file = await open(path, 'r+');
      const missing = [];
      for (const flip of left) {
        const from = Math.floor(flip.offset / FRAME_BYTES) * FRAME_BYTES;
        const found = bytes.indexOf(flip.content.subarray(from, from + 64));
        if (found < 0) missing.push(flip);
        else {
          const at = found + flip.offset - from;
          assert.equal(bytes[at], flip.content[flip.offset]);
          await file.write(Buffer.of((bytes[at] ?? 0) ^ 0x10), 0, 1, at);
        }
      }
      left = missing;
    }
    assert.equal(
      left.length,
      0,
      `${node} holds the bytes of ${left.length} contents in none of its files in ${folder}`,
    );
  }
});
