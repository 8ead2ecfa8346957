import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { SystemClock } from '@collective/base/system-clock';
import { BatchedOut } from './batched-out.ts';

const clock = new SystemClock();
const turn = (): Promise<void> => new Promise((resolve) => clock.defer(resolve));

function writtenTo(write: (text: string) => Error | undefined): Writable {
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => done(write(chunk.toString())),
  });
}

test('what one turn adds is one write, and is out before anything else happens', async () => {
  const writes: string[] = [];
  const out = new BatchedOut({ stdout: writtenTo((text) => void writes.push(text)), clock });
  for (const line of ['a\n', 'b\n', 'c\n']) await out.add(line);
  assert.deepEqual(writes, []);
  await turn();
  assert.deepEqual(writes, ['a\nb\nc\n']);
  await out.add('d\n');
  await out.flush();
  assert.deepEqual(writes, ['a\nb\nc\n', 'd\n']);
});

test('a turn that never ends does not gather without bound', async () => {
  let largest = 0;
  const out = new BatchedOut({
    stdout: writtenTo((text) => {
      largest = Math.max(largest, text.length);
      return undefined;
    }),
    clock,
  });
  for (let i = 0; i < 100_000; i++) await out.add('0123456789\n');
  await out.flush();
  assert.ok(largest > 0 && largest < 70_000, `the largest write had ${largest} characters`);
});

test('a write that failed is told to the next who adds or flushes', async () => {
  const out = new BatchedOut({ stdout: writtenTo(() => new Error('full')).on('error', () => undefined), clock });
  await out.add('a');
  await turn();
  await assert.rejects(out.flush(), /Write the output on this machine/);
});
