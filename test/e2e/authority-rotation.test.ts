/** T6 in a cluster: while somebody writes and reads without pause, the authority is replaced and no call fails. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { seededFile } from '../integration/random-file.ts';
import { clusterOfThisFile } from './cluster.ts';
import { ClusterMember, collectiveObject } from './cluster-member.ts';
import { installOperator } from './installed-operator.ts';

const ROTATED_WITHIN_MS = 420_000;
const FILE_BYTES = 64 * 1024;
/** Steady, not as fast as can be: what counts is that no moment passes without a write. */
const WRITE_EVERY_MS = 100;
const KEPT_FILES = 16;

const clock = new SystemClock();
const running = new AsyncDisposableStack();
let alice: ClusterMember;
const cluster = clusterOfThisFile({
  namespace: 'authority-rotation',
  prepare: async (ready) => {
    await installOperator();
    await ready.apply(collectiveObject());
    alice = running.use(new ClusterMember(ready, { name: 'alice', spec: { ca: { overlap: '1m' } } }));
    await alice.apply();
    await alice.whenReady();
  },
});
after(() => running.disposeAsync());

function authorityOf({ status }: Readonly<Record<string, unknown>>) {
  return (status as { ca: { generation: number; phase: string; generations: { fingerprint: string }[] } }).ca;
}

test('T6: an authority is replaced while a writer with a certificate of the old one sees no error', async () => {
  const before = authorityOf(await alice.whenReady());
  await using session = await alice.connect();
  const mounted = new AbortController();
  const keeping = alice.keepCredentials(mounted.signal);
  keeping.catch(() => undefined);
  let written = 0;
  let isOver = false;
  const writer = (async () => {
    while (!isOver) {
      const path = `/rotating-${written % KEPT_FILES}`;
      const content = seededFile(written, FILE_BYTES);
      await session.files.write(path, content);
      assert.ok(content.equals(await session.files.readAll(path)), `${path} is what was written`);
      written++;
      await sleep(clock, WRITE_EVERY_MS);
    }
  })();
  writer.catch(() => undefined);
  try {
    await cluster.kubectl(['annotate', 'member', alice.name, 'collective.storage/rotate-ca=1', '--overwrite']);
    const rotated = alice.when(
      (member) => authorityOf(member).generation > before.generation && authorityOf(member).phase === 'Stable',
      'has a new authority',
      ROTATED_WITHIN_MS,
    );
    await Promise.race([rotated, writer.then(() => rotated), keeping.then(() => rotated)]);
  } finally {
    isOver = true;
  }
  await writer;
  mounted.abort();
  await keeping;
  assert.ok(written > 0);
  const now = authorityOf(await alice.whenReady());
  assert.deepEqual(now.generations.map(({ fingerprint }) => fingerprint).length, 1, 'the old root is gone');
  assert.notEqual(now.generations[0]?.fingerprint, before.generations[0]?.fingerprint);

  await using anew = await alice.connect();
  for (let number = Math.max(0, written - KEPT_FILES); number < written; number++) {
    const read = await anew.files.readAll(`/rotating-${number % KEPT_FILES}`);
    const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
    assert.equal(hash(read), hash(seededFile(number, FILE_BYTES)), `file ${number}`);
  }
  console.log(`${written} files of ${FILE_BYTES} bytes were written and read while the authority was replaced`);
});
