/**
 * What every Disk must do; run for the real one and for the fake, so that what is proven on the fake holds on files.
 * `open` gives an empty disk, `next` the disk of another process on the same storage while the first one lives.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Disk, readWhole, replaceWhole } from './disk.ts';

export interface DiskUnderTest {
  readonly disk: Disk;
  /** Another process on the same storage. */
  readonly next: () => Promise<Disk>;
  readonly dispose: () => Promise<void>;
}

export function diskContract(name: string, open: () => Promise<DiskUnderTest>): void {
  const onDisk = (title: string, body: (under: DiskUnderTest) => Promise<void>): void => {
    test(`${name} disk: ${title}`, async () => {
      const under = await open();
      try {
        await body(under);
      } finally {
        await under.dispose();
      }
    });
  };

  onDisk('bytes that were written are read back, over several buffers and from any offset', async ({ disk }) => {
    const file = await disk.open('f', 'create');
    await file.write(0, [Buffer.from('abc'), Buffer.alloc(0), Buffer.from('defg')]);
    assert.equal((await file.read(0, 7)).toString(), 'abcdefg');
    assert.equal((await file.read(2, 3)).toString(), 'cde');
    assert.equal(await file.size(), 7);
    await file.write(1, [Buffer.from('XY')]);
    assert.equal((await file.read(0, 100)).toString(), 'aXYdefg');
    await file.close();
  });

  onDisk('a read gives fewer bytes only at the end of the file', async ({ disk }) => {
    const file = await disk.open('f', 'create');
    await file.write(0, [Buffer.alloc(300_000, 7)]);
    assert.equal((await file.read(0, 300_000)).length, 300_000);
    assert.equal((await file.read(299_999, 10)).length, 1);
    assert.equal((await file.read(300_000, 10)).length, 0);
    const into = Buffer.alloc(10, 1);
    assert.equal(await file.readInto(299_996, into), 4);
    assert.deepEqual([...into], [7, 7, 7, 7, 1, 1, 1, 1, 1, 1]);
    await file.close();
  });

  onDisk(
    'a file that is read directly gives the same bytes from any offset, written just before, and fewer only at its end',
    async ({ disk }) => {
      const content = Buffer.alloc(7_000_001);
      for (let i = 0; i < content.length; i++) content[i] = (i * 7 + (i >> 12)) & 0xff;
      const written = await disk.open('f', 'create');
      await written.write(0, [content]);
      const file = await disk.open('f', 'readDirect');
      for (const [offset, length] of [
        [0, 4096],
        [0, 1],
        [4095, 2],
        [4096, 8192],
        [123, 6_900_000],
        [1, 7_000_000],
        [6_999_999, 100],
        [6_995_968, 10_000],
        [7_000_001, 10],
        [8_000_000, 4096],
      ] as const) {
        const into = Buffer.alloc(length);
        const count = await file.readInto(offset, into);
        const wanted = content.subarray(offset, offset + length);
        assert.equal(count, wanted.length, `${length} bytes at ${offset}`);
        assert.ok(into.subarray(0, count).equals(wanted), `${length} bytes at ${offset}`);
      }
      // Side by side they do not take each other's memory.
      const pieces = await Promise.all([0, 1, 2, 3].map((i) => file.read(i * 1_000_000 + i, 1_000_000)));
      for (const [i, piece] of pieces.entries())
        assert.ok(piece.equals(content.subarray(i * 1_000_000 + i, i * 1_000_000 + i + 1_000_000)));
      await written.write(5, [Buffer.from('new')]);
      assert.equal((await file.read(5, 3)).toString(), 'new');
      await Promise.all([written.close(), file.close()]);
      await assert.rejects(
        disk.open('nowhere', 'readDirect'),
        (thrown) => (thrown as { code?: string }).code === 'not_found',
      );
    },
  );

  onDisk('a write behind the end leaves zeros between', async ({ disk }) => {
    const file = await disk.open('f', 'create');
    await file.write(4, [Buffer.from('x')]);
    assert.deepEqual([...(await file.read(0, 5))], [0, 0, 0, 0, 120]);
    await file.close();
  });

  onDisk('truncate cuts, and grows with zeros', async ({ disk }) => {
    const file = await disk.open('f', 'create');
    await file.write(0, [Buffer.from('abcdef')]);
    await file.truncate(2);
    assert.equal(await file.size(), 2);
    await file.truncate(4);
    assert.deepEqual([...(await file.read(0, 10))], [97, 98, 0, 0]);
    await file.close();
  });

  onDisk("'create' refuses an existing file, 'read' and 'write' a missing one", async ({ disk }) => {
    await assert.rejects(disk.open('f', 'read'), { code: 'not_found' });
    await assert.rejects(disk.open('f', 'write'), { code: 'not_found' });
    await (await disk.open('f', 'create')).close();
    await assert.rejects(disk.open('f', 'create'), { code: 'exists' });
    const file = await disk.open('f', 'write');
    await file.write(0, [Buffer.from('again')]);
    await file.sync();
    await file.close();
    assert.equal((await readWhole(disk, 'f'))?.toString(), 'again');
  });

  onDisk('folders are made with their parents, twice without error, and listed sorted', async ({ disk }) => {
    await disk.makeFolder('a/b/c');
    await disk.makeFolder('a/b');
    await (await disk.open('a/z', 'create')).close();
    await (await disk.open('a/k', 'create')).close();
    await disk.syncDirectory('a');
    assert.deepEqual(await disk.list('a'), ['b/', 'k', 'z']);
    assert.deepEqual(await disk.list(''), ['a/']);
    assert.equal(await disk.exists('a/k'), true);
    assert.equal(await disk.exists('a/b'), true);
    assert.equal(await disk.exists('a/nothing'), false);
    await assert.rejects(disk.list('nothing'), { code: 'not_found' });
  });

  onDisk('remove takes a file away and is safe to do twice; an open handle still reads it', async ({ disk }) => {
    const file = await disk.open('f', 'create');
    await file.write(0, [Buffer.from('kept')]);
    await disk.remove('f');
    await disk.remove('f');
    assert.equal(await disk.exists('f'), false);
    assert.equal((await file.read(0, 4)).toString(), 'kept');
    await file.close();
  });

  onDisk('rename replaces what has the name', async ({ disk }) => {
    await replaceWhole(disk, 'a', Buffer.from('first'));
    await replaceWhole(disk, 'b', Buffer.from('second'));
    await disk.rename('b', 'a');
    assert.equal((await readWhole(disk, 'a'))?.toString(), 'second');
    assert.deepEqual(await disk.list(''), ['a']);
    await assert.rejects(disk.rename('b', 'c'), { code: 'not_found' });
  });

  onDisk('replaceWhole and readWhole agree, and readWhole tells a missing file', async ({ disk }) => {
    await disk.makeFolder('d');
    assert.equal(await readWhole(disk, 'd/f'), undefined);
    await replaceWhole(disk, 'd/f', Buffer.from('one'));
    await replaceWhole(disk, 'd/f', Buffer.from('twotwo'));
    assert.equal((await readWhole(disk, 'd/f'))?.toString(), 'twotwo');
    assert.deepEqual(await disk.list('d'), ['f']);
  });

  onDisk('another process sees what was written', async ({ disk, next }) => {
    const file = await disk.open('f', 'create');
    await file.write(0, [Buffer.from('seen')]);
    assert.equal((await readWhole(await next(), 'f'))?.toString(), 'seen');
    await file.close();
  });

  onDisk('a locked folder refuses a second owner until it is released', async ({ disk, next }) => {
    await disk.makeFolder('d');
    const lock = await disk.lock('d');
    const other = await next();
    await assert.rejects(other.lock('d'), { code: 'data_in_use' });
    await lock.release();
    const second = await other.lock('d');
    await second.release();
  });

  onDisk('paths cannot leave the disk', async ({ disk }) => {
    await assert.rejects(disk.open('../f', 'create'), { code: 'invalid_argument' });
    await assert.rejects(disk.makeFolder('a/../../b'), { code: 'invalid_argument' });
    await assert.rejects(disk.open('/f', 'create'), { code: 'invalid_argument' });
  });

  onDisk('space tells capacity and what is free', async ({ disk }) => {
    const { capacityBytes, freeBytes } = await disk.space();
    assert.ok(capacityBytes > 0 && freeBytes > 0 && freeBytes <= capacityBytes);
  });
}
