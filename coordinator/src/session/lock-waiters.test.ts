import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InodeNumber } from '@collective/base/ids';
import { WaitForLock } from '../ops/context.ts';
import { LockWaiters } from './lock-waiters.ts';
import { code } from './scripted-operations.ts';

const inode = 5 as InodeNumber;
const never = new AbortController().signal;

test('M8: locks that changed between the look and the wait are not missed', async () => {
  const waiters = new LockWaiters();
  const seen = waiters.changes;
  waiters.changed(inode);
  await waiters.wait(new WaitForLock(inode, 'a', ['b']), never, seen);
  assert.equal(waiters.count, 0);
});

test('M8: the longest waiting is woken first', async () => {
  const waiters = new LockWaiters();
  const woken: string[] = [];
  const waits = ['a', 'b', 'c'].map(async (who) => {
    await waiters.wait(new WaitForLock(inode, who, ['x']), never, waiters.changes);
    woken.push(who);
  });
  waiters.changed(6 as InodeNumber);
  assert.equal(waiters.count, 3);
  waiters.changed(inode);
  await Promise.all(waits);
  assert.deepEqual(woken, ['a', 'b', 'c']);
  assert.equal(waiters.waitedFor(inode), false);
});

test('a wait that is given up leaves nothing behind', async () => {
  const waiters = new LockWaiters();
  const abort = new AbortController();
  const wait = waiters.wait(new WaitForLock(inode, 'a', ['b']), abort.signal, waiters.changes);
  abort.abort(new Error('given up'));
  await assert.rejects(wait, /given up/);
  assert.deepEqual([waiters.count, waiters.waitedFor(inode)], [0, false]);
});

test('M8: a circle over several inodes is found, a chain is none', async () => {
  const waiters = new LockWaiters();
  const abort = new AbortController();
  const waits = [
    waiters.wait(new WaitForLock(1 as InodeNumber, 'a', ['b']), abort.signal, 0),
    waiters.wait(new WaitForLock(2 as InodeNumber, 'b', ['c', 'd']), abort.signal, 0),
    waiters.wait(new WaitForLock(3 as InodeNumber, 'e', ['a']), abort.signal, 0),
  ];
  await assert.rejects(waiters.wait(new WaitForLock(4 as InodeNumber, 'd', ['a']), never, 0), code('deadlock'));
  abort.abort(new Error('end'));
  await Promise.allSettled(waits);
  assert.equal(waiters.count, 0);
});
