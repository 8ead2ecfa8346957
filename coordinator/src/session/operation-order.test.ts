import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OperationOrder, type Turn } from './operation-order.ts';
import { commitOp, makeOp, type Op, ROOT, setOp } from './scripted-operations.ts';
import { SessionWorld } from './session-harness.ts';

test('M3: operations of one session on one inode run in the order in which they were sent, though some must fetch first', async () => {
  await using world = await SessionWorld.start({ core: { cacheEntriesMax: 4 } });
  const client = await world.client();
  const files: number[] = [];
  for (let i = 0; i < 10; i++) files.push((await client.make(ROOT, `f${i}`)).inode);
  await world.clock.advance(1_000);
  let chunk = 1;
  const ops = files.flatMap((inode): Op[] => [
    setOp(inode, { size: 5_000 }),
    commitOp(inode, [{ offset: 0, length: 10, chunk: chunk++ }]),
    setOp(inode, { size: 3 }),
    commitOp(inode, [{ offset: 0, length: 7, chunk: chunk++ }], { append: true }),
  ]);
  for (const reply of await world.finish(Promise.all(client.sendAll(ops.map((op) => ({ op }))))))
    assert.notEqual(reply.result?.$case, 'failure');
  for (const inode of files) assert.equal((await client.stat(inode)).size, 10);
});

test('M3: an operation that waits for a recall holds up the later ones on its inode only', async () => {
  await using world = await SessionWorld.start();
  const holder = await world.client({ caches: true, onRecall: () => undefined });
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f');
  await holder.reply({ $case: 'wantWrite', value: { inode } });
  const order: string[] = [];
  const sent = client.sendAll([
    { op: { $case: 'getAttributes', value: { inode, opens: false } } },
    { op: setOp(inode, { mtimeNow: true }) },
    { op: makeOp(ROOT, 'g') },
  ]);
  for (const [i, reply] of sent.entries()) void reply.then(() => order.push(['first', 'second', 'other'][i] ?? ''));
  await world.clock.advance(50);
  assert.deepEqual(order, ['other']);
  for (const recall of holder.recalls) holder.acknowledgeRecall(recall);
  await world.clock.advance(5);
  for (const recall of holder.recalls) holder.acknowledgeRecall(recall);
  await world.finish(Promise.all(sent));
  assert.deepEqual(order, ['other', 'first', 'second']);
});

test('turns on one or two inodes: a change is alone on its inodes, none waits for ever, nothing is left behind', async () => {
  const turn = fc.record({ a: fc.nat(3), b: fc.nat(3), reads: fc.boolean(), givesUp: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(turn, { maxLength: 30 }), async (turns) => {
      const order = new OperationOrder();
      const busy = new Map<number, { reading: number; changing: number }>();
      const at = (inode: number) => busy.get(inode) ?? { reading: 0, changing: 0 };
      const ran: number[] = [];
      const entered = turns.map(({ a, b, reads }) => order.enter(a === b ? [a] : [a, b], reads));
      const run = async (own: Turn, index: number): Promise<void> => {
        const abort = new AbortController();
        if (turns[index]?.givesUp && !own.ready) queueMicrotask(() => abort.abort(new Error('given up')));
        const count = own.reads ? { reading: 1, changing: 0 } : { reading: 0, changing: 1 };
        try {
          await own.come(abort.signal);
          for (const inode of own.inodes) {
            const { reading, changing } = at(inode);
            assert.equal(changing, 0);
            if (!own.reads) assert.equal(reading, 0);
            busy.set(inode, { reading: reading + count.reading, changing: changing + count.changing });
          }
          await Promise.resolve();
          for (const inode of own.inodes) {
            const { reading, changing } = at(inode);
            busy.set(inode, { reading: reading - count.reading, changing: changing - count.changing });
          }
          ran.push(index);
        } catch (error) {
          assert.equal((error as Error).message, 'given up');
        } finally {
          own.leave();
          own.leave();
        }
      };
      await Promise.all(entered.map(run));
      for (let i = 0; i < turns.length; i++)
        for (let j = i + 1; j < turns.length; j++) {
          const shared = entered[i]?.inodes.some((inode) => entered[j]?.inodes.includes(inode));
          const mind = !(entered[i]?.reads && entered[j]?.reads);
          if (shared && mind && ran.includes(i) && ran.includes(j)) assert.ok(ran.indexOf(i) < ran.indexOf(j));
        }
      assert.ok(order.enter([0, 1]).ready);
    }),
    { numRuns: 500, seed: 6 },
  );
});

test('readers of one inode run together, between the changes before and after them', () => {
  const order = new OperationOrder();
  const [first, second] = [order.enter([1], true), order.enter([1], true)];
  const change = order.enter([1]);
  const later = order.enter([1], true);
  assert.deepEqual([first.ready, second.ready, change.ready, later.ready], [true, true, false, false]);
  second.leave();
  assert.equal(change.ready, false);
  first.leave();
  assert.deepEqual([change.ready, later.ready], [true, false]);
  change.leave();
  assert.equal(later.ready, true);
});
