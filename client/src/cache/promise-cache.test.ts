import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import {
  type Attributes,
  Existing,
  InodeType,
  type PromiseGrant,
  PromiseKind,
  type Reply,
} from '@collective/protocol/gen/session';
import type { OperationBody, Result } from '../session/operation-kinds.ts';
import { PromiseCache } from './promise-cache.ts';

const { PROMISE_ATTRIBUTES, PROMISE_ENTRIES, PROMISE_DATA } = PromiseKind;
const ALL = PROMISE_ATTRIBUTES | PROMISE_ENTRIES | PROMISE_DATA;

function attributes(inode: number, type: InodeType = InodeType.FILE): Attributes {
  const times = { mtime: undefined, ctime: undefined, birth: undefined };
  const numbers = { uid: 0, gid: 0, links: 1, size: 0, storedBytes: 0, rdev: 0, version: 1, entries: 0 };
  return { inode, realm: 1, type, mode: 0o755, ...numbers, ...times };
}

function reply(result: Result, ...promises: PromiseGrant[]): Reply {
  return { number: 1, step: 0, position: 0, drawn: undefined, promises, result };
}

function grant(inode: number, kinds: number, sequence = 10): PromiseGrant {
  return { inode, kinds, sequence };
}

const get = (inode: number): OperationBody => ({ $case: 'getAttributes', value: { inode, opens: false } });
const look = (parent: number, name: string): OperationBody => ({
  $case: 'lookup',
  value: { parent, name: Buffer.from(name) },
});
const shown = (inode: number, type?: InodeType): Result => ({ $case: 'attributes', value: attributes(inode, type) });
const missing: Result = { $case: 'failure', value: { code: 'not_found', message: 'Look up', details: {} } };

function unlink(parent: number, name: string): OperationBody {
  return {
    $case: 'unlink',
    value: { parent, name: Buffer.from(name), directory: false, held: false, expectedInode: 0, permanent: false },
  };
}

function newCache(): { cache: PromiseCache; clock: FakeClock; learn: (body: OperationBody, answer: Reply) => void } {
  const clock = new FakeClock();
  const cache = new PromiseCache({ clock });
  cache.extendLease(clock.bootMs() + 10_000);
  const learn = (body: OperationBody, answer: Reply): void => cache.absorb(body, answer, cache.stamp());
  return { cache, clock, learn };
}

test('M7: nothing is kept without a grant', () => {
  const { cache, learn } = newCache();
  learn(get(5), reply(shown(5)));
  assert.equal(cache.answer(get(5)), undefined);
  learn(get(5), reply(shown(5), grant(5, PROMISE_ENTRIES)));
  assert.equal(cache.answer(get(5)), undefined);
  learn(get(5), reply(shown(5), grant(5, PROMISE_ATTRIBUTES)));
  assert.equal(cache.answer(get(5))?.$case, 'attributes');
});

test('M7: a grant older than the last recall of the inode is discarded, a newer one counts', () => {
  const { cache, learn } = newCache();
  cache.recall({ sequence: 20, inode: 5, kinds: PROMISE_ATTRIBUTES });
  learn(get(5), reply(shown(5), grant(5, PROMISE_ATTRIBUTES, 19)));
  assert.equal(cache.answer(get(5)), undefined);
  learn(get(5), reply(shown(5), grant(5, PROMISE_ATTRIBUTES, 21)));
  assert.equal(cache.answer(get(5))?.$case, 'attributes');
});

test('M7: an answer that was under way when a recall came is not kept, even under a newer grant', () => {
  const { cache } = newCache();
  const stamp = cache.stamp();
  cache.recall({ sequence: 5, inode: 7, kinds: PROMISE_ATTRIBUTES });
  cache.absorb(get(7), reply(shown(7), grant(7, PROMISE_ATTRIBUTES, 6)), stamp);
  assert.equal(cache.answer(get(7)), undefined);
});

test('M7: a recall takes only the kinds that it names', () => {
  const { cache, learn } = newCache();
  learn(look(1, 'a'), reply(shown(5), grant(1, ALL), grant(5, ALL)));
  cache.recall({ sequence: 11, inode: 1, kinds: PROMISE_ATTRIBUTES });
  assert.equal(cache.answer(look(1, 'a'))?.$case, 'attributes');
  cache.recall({ sequence: 12, inode: 1, kinds: PROMISE_ENTRIES });
  assert.equal(cache.answer(look(1, 'a')), undefined);
  assert.equal(cache.answer(get(5))?.$case, 'attributes');
});

test('absence is kept and answered as not_found, until this session makes the name itself', () => {
  const { cache, learn } = newCache();
  learn(look(1, 'a'), reply(missing, grant(1, PROMISE_ENTRIES)));
  const answer = cache.answer(look(1, 'a'));
  assert.equal(answer?.$case === 'failure' && answer.value.code, 'not_found');
  const node = {
    type: InodeType.FILE,
    mode: 0,
    umask: 0,
    rdev: 0,
    linkTarget: Buffer.alloc(0),
    content: undefined,
    targetHeld: false,
    targetInode: 0,
  };
  cache.change({ $case: 'makeNode', value: { parent: 1, name: Buffer.from('a'), existing: Existing.FAIL, ...node } });
  assert.equal(cache.answer(look(1, 'a')), undefined);
});

test('own changes are never recalled: what they touch is dropped, and reads that overlap them are not kept', () => {
  const { cache, learn } = newCache();
  const change: OperationBody = { $case: 'removeXattr', value: { inode: 5, name: 'user.x' } };
  learn(get(5), reply(shown(5), grant(5, ALL)));
  cache.change(change);
  assert.equal(cache.answer(get(5)), undefined);
  const during = cache.stamp();
  cache.change(change, reply({ $case: 'empty', value: {} }));
  cache.absorb(get(5), reply(shown(5), grant(5, ALL)), during);
  assert.equal(cache.answer(get(5)), undefined);
  learn(get(5), reply(shown(5), grant(5, ALL)));
  assert.equal(cache.answer(get(5))?.$case, 'attributes');
});

test('removing a name drops the attributes of what bore it, also when only another name of it is known', () => {
  const { cache, learn } = newCache();
  learn(look(1, 'known'), reply(shown(5), grant(1, ALL), grant(5, ALL)));
  cache.change(unlink(1, 'known'));
  assert.equal(cache.answer(get(5)), undefined);
  learn(get(6), reply(shown(6), grant(6, ALL)));
  cache.change(unlink(9, 'another name of 6'));
  assert.equal(cache.answer(get(6)), undefined);
});

test('a path is answered only if every directory on it is known and may be searched as before', () => {
  const { cache, learn } = newCache();
  const resolve = (followLast = true): OperationBody => ({
    $case: 'resolve',
    value: { start: 1, names: [Buffer.from('d'), Buffer.from('f')], followLast },
  });
  const found = [attributes(2, InodeType.DIRECTORY), attributes(3)];
  const walked: Result = { $case: 'resolved', value: { found, linkTarget: Buffer.alloc(0), failure: undefined } };
  learn(resolve(), reply(walked, grant(1, ALL), grant(2, ALL), grant(3, ALL)));
  assert.equal(cache.answer(resolve()), undefined, 'the attributes of the start are not known');
  learn(get(1), reply(shown(1, InodeType.DIRECTORY), grant(1, ALL)));
  const answer = cache.answer(resolve());
  assert.deepEqual(answer?.$case === 'resolved' && answer.value.found.map(({ inode }) => inode), [2, 3]);
  cache.recall({ sequence: 11, inode: 2, kinds: PROMISE_ATTRIBUTES });
  assert.equal(cache.answer(resolve()), undefined, 'the rights of a directory on the way may have changed');
});

test('a symbolic link that must be followed is left to the coordinator', () => {
  const { cache, learn } = newCache();
  const resolve = (followLast: boolean): OperationBody => ({
    $case: 'resolve',
    value: { start: 1, names: [Buffer.from('l')], followLast },
  });
  learn(get(1), reply(shown(1, InodeType.DIRECTORY), grant(1, ALL)));
  learn(look(1, 'l'), reply(shown(4, InodeType.SYMLINK), grant(1, ALL), grant(4, ALL)));
  assert.equal(cache.answer(resolve(true)), undefined);
  assert.equal(cache.answer(resolve(false))?.$case, 'resolved');
});

test('M6: when the lease has ended nothing is answered, and nothing is held', () => {
  const { cache, clock, learn } = newCache();
  learn(get(5), reply(shown(5), grant(5, ALL)));
  assert.deepEqual(cache.held(), [{ inode: 5, kinds: ALL }]);
  return clock.advance(10_001).then(() => {
    assert.equal(cache.answer(get(5)), undefined);
    assert.deepEqual(cache.held(), []);
  });
});

test('block maps with tickets that are about to end are not used', async () => {
  const { cache, clock, learn } = newCache();
  const read: OperationBody = { $case: 'readBlocks', value: { inode: 5, first: 0, count: 1 } };
  const expires = { seconds: clock.now().seconds + 5, nanos: 0 };
  const chunk = { chunk: Buffer.alloc(16), length: 1, replicas: [{ node: 'n', ticket: Buffer.alloc(16), expires }] };
  const page = { blocks: [], chunks: [chunk], attributes: attributes(5), next: 1 };
  learn(read, reply({ $case: 'blocks', value: page }, grant(5, ALL)));
  assert.equal(cache.answer(read)?.$case, 'blocks');
  await clock.advance(4_500);
  assert.equal(cache.answer(read), undefined);
});

test('a full cache lets go of what was not used for longest and says so; what is granted meanwhile does not count', () => {
  const clock = new FakeClock();
  const cache = new PromiseCache({ clock, inodesMax: 3 });
  cache.extendLease(clock.bootMs() + 10_000);
  const learn = (inode: number): void =>
    cache.absorb(get(inode), reply(shown(inode), grant(inode, ALL)), cache.stamp());
  for (const inode of [1, 2, 3]) learn(inode);
  cache.answer(get(1));
  learn(4);
  assert.equal(cache.size, 3);
  assert.equal(cache.answer(get(1))?.$case, 'attributes');
  assert.deepEqual(cache.takeForgotten(), [2]);
  cache.forget([2, 4]);
  assert.equal(cache.answer(get(4)), undefined);
});
