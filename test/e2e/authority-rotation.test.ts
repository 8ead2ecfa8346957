/** T6 in a cluster: while somebody writes and reads without pause, the authority is replaced and no call fails. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aliceOfThisFile } from './members-of-file.ts';
import { SteadyWriter } from './steady-writer.ts';

const ROTATED_WITHIN_MS = 420_000;

const { cluster, alice } = aliceOfThisFile('authority-rotation', { spec: { ca: { overlap: '1m' } } });

function authorityOf({ status }: Readonly<Record<string, unknown>>) {
  return (status as { ca: { generation: number; phase: string; generations: { fingerprint: string }[] } }).ca;
}

test('T6: an authority is replaced while a writer with a certificate of the old one sees no error', async () => {
  const before = authorityOf(await alice.whenReady());
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  const mounted = new AbortController();
  const keeping = alice.keepCredentials(mounted.signal);
  keeping.catch(() => undefined);
  await cluster.kubectl(['annotate', 'member', alice.name, 'collective.storage/rotate-ca=1', '--overwrite']);
  const rotated = alice.when(
    (member) => authorityOf(member).generation > before.generation && authorityOf(member).phase === 'Stable',
    'has a new authority',
    ROTATED_WITHIN_MS,
  );
  await writer.during(Promise.race([rotated, keeping.then(() => rotated)]));
  mounted.abort();
  await keeping;
  const now = authorityOf(await alice.whenReady());
  assert.deepEqual(now.generations.map(({ fingerprint }) => fingerprint).length, 1, 'the old root is gone');
  assert.notEqual(now.generations[0]?.fingerprint, before.generations[0]?.fingerprint);

  await using anew = await alice.connect();
  console.log(`${await writer.finish(anew)} files were written and read while the authority was replaced`);
});
