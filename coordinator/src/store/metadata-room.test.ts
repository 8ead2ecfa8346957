import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { FakeClock } from '@collective/base/fake-clock';
import { silentLog } from '@collective/base/log';
import { isFull, METADATA_RESERVE_BYTES, METADATA_RESUME_BYTES, MetadataRoom, roomOf } from './metadata-room.ts';

const MiB = 1024 * 1024;
const SEEN_WITHIN_MS = 300;

async function openRoom(free: number) {
  const clock = new FakeClock();
  const told: boolean[] = [];
  const disk = {
    free,
    reusable: 0,
    fails: false,
    space: async () => {
      if (disk.fails) throw new CollectiveError('disk_failed', 'Ask the disk');
      return { capacityBytes: 1_000 * MiB, freeBytes: disk.free };
    },
  };
  const room = await MetadataRoom.open({
    clock,
    disk,
    log: silentLog,
    reusableBytes: () => disk.reusable,
    onChange: (full) => told.push(full),
  });
  return { clock, disk, room, told };
}

const refused = (error: unknown): boolean => error instanceof CollectiveError && error.code === 'metadata_full';

test('M10: growing stops below the reserve and goes on only with clearly more room', () => {
  const cases: [before: boolean, roomMiB: number, after: boolean][] = [
    [false, 33, false],
    [false, 32, false],
    [false, 31, true],
    [true, 33, true],
    [true, 47, true],
    [true, 48, false],
  ];
  for (const [before, roomMiB, after] of cases)
    assert.equal(isFull(before, roomMiB * MiB), after, `${before} ${roomMiB}`);
  assert.ok(METADATA_RESERVE_BYTES < METADATA_RESUME_BYTES);
});

test('M10: empty pages of the database count as room, but no more than the disk has for the log beside them', () => {
  const room = (free: number, reusable: number): number =>
    roomOf({ freeBytes: free * MiB, reusableBytes: reusable * MiB }) / MiB;
  assert.equal(room(20, 0), 20);
  assert.equal(room(20, 15), 35);
  assert.equal(room(20, 500), 40);
  assert.equal(room(0, 500), 0);
});

test('M10: what a start finds is known before it serves', async () => {
  const { room, told } = await openRoom(10 * MiB);
  using _ = room;
  assert.deepEqual([room.isFull, told], [true, [true]]);
  assert.throws(() => room.require('Make a file'), /^CollectiveError.*Make a file: .* room for 10\.0 MiB/s);
});

test('M10: it sees by itself that room goes and comes, and tells each once', async () => {
  const { clock, disk, room, told } = await openRoom(500 * MiB);
  using _ = room;
  room.require('Make a file');
  assert.equal(room.isTight, false);
  disk.free = 20 * MiB;
  await clock.advance(SEEN_WITHIN_MS);
  assert.throws(() => room.require('Make a file'), refused);
  assert.equal(room.isTight, true);
  disk.free = 40 * MiB;
  await clock.advance(SEEN_WITHIN_MS);
  assert.throws(() => room.require('Make a file'), refused);
  // Files were removed: the database holds pages of nothing.
  disk.reusable = 30 * MiB;
  await clock.advance(SEEN_WITHIN_MS);
  room.require('Make a file');
  assert.deepEqual(told, [true, false]);
});

test('M10: while the disk cannot be asked, what was seen last holds, and it goes on asking', async () => {
  const { clock, disk, room, told } = await openRoom(10 * MiB);
  using _ = room;
  disk.fails = true;
  disk.free = 500 * MiB;
  await clock.advance(5 * SEEN_WITHIN_MS);
  assert.equal(room.isFull, true);
  disk.fails = false;
  await clock.advance(SEEN_WITHIN_MS);
  assert.deepEqual([room.isFull, told], [false, [true, false]]);
});
