import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { code, contentOf, makeOp, ROOT } from '../session/scripted-operations.ts';
import { SessionWorld } from '../session/session-harness.ts';
import { page } from './three-users.ts';

test('M8: a listing by offset misses and doubles nothing while others create and remove', async () => {
  const step = fc.record({ action: fc.constantFrom('make', 'remove', 'read'), pick: fc.nat(1_000) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 5 }), async (steps, limit) => {
      await using world = await SessionWorld.start();
      const client = await world.client();
      let present: string[] = [];
      for (let i = 0; i < 8; i++) {
        await client.make(ROOT, `old${i}`);
        present.push(`old${i}`);
      }
      const throughout = new Set(present);
      const seen: string[] = [];
      let after = 0;
      let made = 0;
      const read = async (): Promise<boolean> => {
        const { entries, end } = await page(client, ROOT, after, limit);
        seen.push(...entries.map(({ name }) => name.toString()));
        after = entries.at(-1)?.cookie ?? after;
        return end;
      };
      for (const { action, pick } of steps) {
        if (action === 'read') await read();
        else if (action === 'make') {
          await client.make(ROOT, `new${made}`);
          present.push(`new${made++}`);
        } else if (present.length > 0) {
          const name = present[pick % present.length] as string;
          await client.unlink(ROOT, name);
          present = present.filter((each) => each !== name);
          throughout.delete(name);
        }
      }
      while (!(await read()));
      assert.equal(new Set(seen).size, seen.length, 'nothing twice');
      for (const name of throughout) assert.ok(seen.includes(name), `${name} was there all the time`);
      for (const name of present) assert.ok(seen.includes(name), `${name} is there at the end`);
    }),
    { numRuns: 15, seed: 4 },
  );
});

test('M8: offsets are the same after a restart, and one that was given is not given again', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  for (const name of ['a', 'b', 'c']) await client.make(ROOT, name);
  const before = (await page(client, ROOT, 0, 10)).entries.map(({ name, cookie }) => [name.toString(), cookie]);
  await client.unlink(ROOT, 'c');
  await world.restart('kill');
  await client.attach();
  client.replayed();
  await client.make(ROOT, 'c');
  const now = (await page(client, ROOT, 0, 10)).entries.map(({ name, cookie }) => [name.toString(), cookie] as const);
  assert.deepEqual(now.slice(0, 2), before.slice(0, 2));
  assert.ok((now[2]?.[1] ?? 0) > ((before[2]?.[1] as number) ?? 0));
});

test('a directory of many entries is listed in pages, with attributes, from a cold cache', async () => {
  const entries = 10_000;
  await using world = await SessionWorld.start({ core: { cacheEntriesMax: 500 } });
  const client = await world.client();
  for (let at = 0; at < entries; at += 1_000) {
    const replies = await world.finish(
      Promise.all(client.sendAll(Array.from({ length: 1_000 }, (_, i) => ({ op: makeOp(ROOT, `f${at + i}`) })))),
    );
    for (const { result } of replies) assert.equal(result?.$case, 'attributes');
    await client.renew(replies.map(({ number }) => number));
  }
  const seen: string[] = [];
  for (let after = 0, end = false; !end; ) {
    const got = await page(client, ROOT, after, 5_000, true);
    assert.ok(got.entries.length <= 2_000);
    for (const { name, inode, attributes } of got.entries) {
      seen.push(name.toString());
      assert.equal(attributes?.inode, inode);
    }
    after = got.entries.at(-1)?.cookie ?? after;
    end = got.end;
  }
  assert.deepEqual(
    seen,
    Array.from({ length: entries }, (_, i) => `f${i}`),
  );
  assert.equal((await client.stat(ROOT)).entries, entries);
});

test('usage adds up a tree in steps, however many directories it has', async () => {
  await using world = await SessionWorld.start();
  const client = await world.client();
  const { inode: top } = await client.mkdir(ROOT, 'top');
  let chunk = 1;
  for (let i = 0; i < 150; i++) {
    const { inode } = await client.mkdir(top, `d${i}`);
    if (i % 3 === 0)
      await client.make(inode, 'f', { content: contentOf([{ offset: 0, length: 7, chunk: chunk++ }], { size: 10 }) });
  }
  const totals = { files: 0, directories: 0, bytes: 0, storedBytes: 0 };
  let resume: Buffer = Buffer.alloc(0);
  let rounds = 0;
  do {
    const step = await client.call({ $case: 'usage', value: { inode: top, resume } }, 'usage');
    for (const key of ['files', 'directories', 'bytes', 'storedBytes'] as const) totals[key] += step[key];
    resume = step.resume;
    rounds++;
  } while (resume.length > 0);
  assert.deepEqual(totals, { files: 50, directories: 150, bytes: 500, storedBytes: 350 });
  assert.ok(rounds > 1 && rounds < 50, `${rounds} rounds`);
  await assert.rejects(
    client.call({ $case: 'usage', value: { inode: top, resume: Buffer.alloc(15) } }, 'usage'),
    code('invalid_argument'),
  );
  await assert.rejects(
    client.call({ $case: 'usage', value: { inode: top, resume: Buffer.alloc(16, 255) } }, 'usage'),
    code('invalid_argument'),
  );
});
