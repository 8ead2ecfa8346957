import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../fake-clock.ts';
import { SeededRandom } from '../random.ts';
import { readWhole, replaceWhole } from './disk.ts';
import { diskContract } from './disk-contract.ts';
import { type DiskOperation, FakeDisk, type FakeDiskOptions } from './fake-disk.ts';
import { FakePlatter } from './fake-platter.ts';

const SEEDS = Array.from({ length: 200 }, (_, i) => i);

async function diskWithStableFile(content: string, options: FakeDiskOptions = {}): Promise<FakeDisk> {
  const disk = new FakeDisk(options);
  const file = await disk.open('f', 'create');
  await file.write(0, [Buffer.from(content)]);
  await file.sync();
  await disk.syncDirectory('');
  return disk;
}

async function contentOf(disk: FakeDisk, path: string): Promise<string | undefined> {
  return (await readWhole(disk, path))?.toString('latin1');
}

/** What is left of `change` on a disk with the stable file f = 'old', over many power losses. */
async function outcomesOfPowerLoss(change: (disk: FakeDisk) => Promise<void>, path = 'f'): Promise<Set<string>> {
  const outcomes = new Set<string>();
  for (const seed of SEEDS) {
    const disk = await diskWithStableFile('old');
    await change(disk);
    disk.powerLoss(new SeededRandom(seed));
    outcomes.add((await contentOf(disk.again(), path)) ?? 'away');
  }
  return outcomes;
}

test('what was synced in a synced name survives every power loss', async () => {
  const outcomes = await outcomesOfPowerLoss(async (disk) => {
    const file = await disk.open('g', 'create');
    await file.write(0, [Buffer.from('new')]);
    await file.sync();
    await disk.syncDirectory('');
  }, 'g');
  assert.deepEqual(outcomes, new Set(['new']));
});

test('an unsynced write may be kept, dropped, or kept for some of its sectors', async () => {
  const first = 'a'.repeat(512);
  const second = 'b'.repeat(512);
  const outcomes = await outcomesOfPowerLoss(async (disk) => {
    const file = await disk.open('f', 'write');
    await file.write(0, [Buffer.from(first + second)]);
  });
  assert.ok(outcomes.has('old'), 'dropped');
  assert.ok(outcomes.has(first + second), 'kept');
  assert.ok(outcomes.has(first), 'only the first sector');
  assert.ok(outcomes.has(`old${'\0'.repeat(509)}${second}`), 'only the second sector');
});

test('an unsynced truncation may be kept or dropped', async () => {
  const outcomes = await outcomesOfPowerLoss(async (disk) => {
    const file = await disk.open('f', 'write');
    await file.truncate(1);
  });
  assert.deepEqual(outcomes, new Set(['o', 'old']));
});

test('the name of a new file needs the sync of its folder, even when the file was synced', async () => {
  const outcomes = await outcomesOfPowerLoss(async (disk) => {
    const file = await disk.open('g', 'create');
    await file.write(0, [Buffer.from('new')]);
    await file.sync();
  }, 'g');
  assert.deepEqual(outcomes, new Set(['new', 'away']));
});

test('an unsynced rename happens whole or not at all', async () => {
  for (const seed of SEEDS) {
    const disk = await diskWithStableFile('old');
    await disk.rename('f', 'g');
    disk.powerLoss(new SeededRandom(seed));
    const after = disk.again();
    assert.equal((await after.list('')).length, 1, `seed ${seed}`);
  }
});

test('an unsynced removal may come back, with the stable content', async () => {
  const outcomes = await outcomesOfPowerLoss((disk) => disk.remove('f'));
  assert.deepEqual(outcomes, new Set(['old', 'away']));
});

test('changes of one name keep their order', async () => {
  const outcomes = await outcomesOfPowerLoss(async (disk) => {
    await disk.rename('f', 'g');
    const file = await disk.open('f', 'create');
    await file.write(0, [Buffer.from('second')]);
    await file.sync();
  });
  assert.deepEqual(outcomes, new Set(['old', 'away', 'second']));
});

test('replaceWhole leaves the old or the new content at every crash point, after power loss too', async () => {
  let points = 0;
  for (const seed of SEEDS.slice(0, 30)) {
    for (let stopAt = 0; ; stopAt++) {
      let operations = 0;
      const random = new SeededRandom(seed);
      const disk = await diskWithStableFile('old');
      const watched = disk.again({ random, before: () => (operations++ === stopAt ? 'stop' : 'go') });
      const ended = await Promise.race([
        replaceWhole(watched, 'f', Buffer.from('new')).then(() => true),
        turns(100).then(() => false),
      ]);
      watched.powerLoss(random);
      const found = await contentOf(watched.again({ before: () => 'go' }), 'f');
      points++;
      if (ended) {
        assert.equal(found, 'new');
        break;
      }
      assert.ok(found === 'old' || found === 'new', `seed ${seed}, stopped before operation ${stopAt}: ${found}`);
    }
  }
  assert.ok(points >= 30 * 5);
});

test('D4: after a failed sync its pages count as clean; the next sync answers well and does not bring them back', async () => {
  const outcomes = await outcomesOfPowerLoss(async (disk) => {
    const file = await disk.open('f', 'write');
    await file.write(0, [Buffer.from('new')]);
    disk.failNextSync();
    await assert.rejects(file.sync(), { code: 'disk_failed' });
    assert.equal(await contentOf(disk, 'f'), 'new', 'the page cache still shows it');
    await file.sync();
    assert.equal(disk.platter.isStable, false, 'a power loss would still take it');
  });
  assert.ok(outcomes.has('old'));
  const disk = await diskWithStableFile('old', { random: new SeededRandom(3) });
  const file = await disk.open('f', 'write');
  await file.write(0, [Buffer.from('n')]);
  disk.failNextSync();
  await assert.rejects(file.sync(), { code: 'disk_failed' });
  disk.platter.evictCleanPages();
  assert.match((await contentOf(disk, 'f')) ?? '', /^[on]ld$/);
  assert.equal(disk.platter.isStable, true);
});

test('a killed process leaves what was written, loses its lock, and is never answered', async () => {
  const disk = await diskWithStableFile('old');
  await disk.lock('');
  await assert.rejects(disk.again().lock(''), { code: 'data_in_use' });
  const file = await disk.open('f', 'write');
  await file.write(3, [Buffer.from('er')]);
  disk.kill();
  let answered = false;
  for (const asked of [file.read(0, 1), disk.list(''), file.sync()])
    asked.then(
      () => {
        answered = true;
      },
      () => {
        answered = true;
      },
    );
  await turns(20);
  assert.equal(answered, false);
  const next = disk.again();
  assert.equal(await contentOf(next, 'f'), 'older');
  await next.lock('');
});

test('a write under way at the kill is there whole, in part or not', async () => {
  const outcomes = new Set<string>();
  for (const seed of SEEDS) {
    const clock = new FakeClock();
    const disk = new FakeDisk({ clock, latencyMs: () => 1, random: new SeededRandom(seed) });
    const file = await clock.finish(disk.open('f', 'create'));
    void file.write(0, [Buffer.from('abc')]);
    disk.kill();
    await clock.advance(10);
    outcomes.add((await clock.finish(readWhole(disk.again(), 'f')))?.toString() ?? 'away');
  }
  assert.deepEqual(outcomes, new Set(['', 'a', 'ab', 'abc']));
});

test('a sync covers only what was written before it began', async () => {
  const outcomes = new Set<string>();
  for (const seed of SEEDS) {
    const clock = new FakeClock();
    const disk = new FakeDisk({ clock, latencyMs: (operation) => (operation.kind === 'sync' ? 10 : 1) });
    const file = await clock.finish(disk.open('f', 'create'));
    await clock.finish(disk.syncDirectory(''));
    await clock.finish(file.write(0, [Buffer.from('a')]));
    const sync = file.sync();
    await clock.finish(file.write(1, [Buffer.from('b')]));
    await clock.finish(sync);
    disk.powerLoss(new SeededRandom(seed));
    outcomes.add((await clock.finish(readWhole(disk.again(), 'f')))?.toString() ?? 'away');
  }
  assert.deepEqual(outcomes, new Set(['a', 'a\0', 'ab']), 'the second byte may be lost, also with its size kept');
});

test('a full disk refuses growth with no_space and may have written a part; reads go on', async () => {
  const platter = new FakePlatter({ capacityBytes: 1000 });
  const disk = new FakeDisk({ platter });
  const file = await disk.open('f', 'create');
  await file.write(0, [Buffer.alloc(900)]);
  await assert.rejects(file.write(900, [Buffer.alloc(200, 1)]), { code: 'no_space' });
  assert.ok((await file.size()) <= 1000);
  await file.write(0, [Buffer.from('over')]);
  assert.equal((await file.read(0, 4)).toString(), 'over');
  assert.ok((await disk.space()).freeBytes <= 100);
});

test('a sync that is told to lie keeps nothing, so that a test can prove that it would notice', async () => {
  const outcomes = await outcomesOfPowerLoss(async (disk) => {
    disk.platter.ignoreSyncs = true;
    const file = await disk.open('f', 'write');
    await file.write(0, [Buffer.from('new')]);
    await file.sync();
  });
  assert.ok(outcomes.has('old'));
});

test('a flipped bit shows in live and stable bytes', async () => {
  const disk = await diskWithStableFile('old');
  const content = disk.platter.files()[0]?.content;
  content?.flipBit(0, 0);
  assert.equal(await contentOf(disk, 'f'), 'nld');
  disk.powerLoss();
  assert.equal(await contentOf(disk.again(), 'f'), 'nld');
});

test('every operation passes the hook, which may fail it', async () => {
  const seen: DiskOperation[] = [];
  const disk = new FakeDisk({
    before: (operation) => {
      seen.push(operation);
      return operation.kind === 'rename' ? 'fail' : 'go';
    },
  });
  await disk.makeFolder('a/b');
  const file = await disk.open('a/b/f', 'create');
  await file.write(0, [Buffer.from('xy'), Buffer.from('z')]);
  await assert.rejects(disk.rename('a/b/f', 'g'), { code: 'disk_failed' });
  assert.deepEqual(
    seen.map(({ kind, path, bytes }) => `${kind} ${path} ${bytes}`),
    ['makeFolder a/b 0', 'create a/b/f 0', 'write a/b/f 3', 'rename a/b/f 0'],
  );
});

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await Promise.resolve();
}

diskContract('fake', async () => {
  const disk = new FakeDisk();
  return { disk, next: async () => disk.again(), dispose: async () => disk.kill() };
});
