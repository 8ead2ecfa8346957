/** M5, M6 in a cluster: the pods of a member are killed while somebody writes; what was acknowledged is there. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { seededFile } from '../integration/random-file.ts';
import { until } from '../until.ts';
import { clusterOfThisFile } from './cluster.ts';
import { ClusterMember, collectiveObject } from './cluster-member.ts';
import { installOperator } from './installed-operator.ts';

const FILE_BYTES = 1024 * 1024;
const FILES_EACH = 5;
const PROGRESS_WITHIN_MS = 180_000;

const running = new AsyncDisposableStack();
let alice: ClusterMember;
const cluster = clusterOfThisFile({
  namespace: 'killed-coordinator',
  prepare: async (ready) => {
    await installOperator();
    await ready.apply(collectiveObject());
    alice = running.use(new ClusterMember(ready, { name: 'alice' }));
    await alice.apply();
    await alice.whenReady();
  },
});
after(() => running.disposeAsync());

test('M5: the coordinator and then a node are killed during a write; the writer goes on, and nothing is lost', async () => {
  await using session = await alice.connect();
  let written = 0;
  let isOver = false;
  let failure: unknown;
  const writer = (async () => {
    while (!isOver) {
      await session.files.write(`/file-${written}`, seededFile(written, FILE_BYTES));
      written++;
    }
  })().catch((thrown: unknown) => {
    failure = thrown;
  });
  const progress = async (files: number): Promise<void> => {
    const goal = written + files;
    await until(
      () => {
        if (failure !== undefined) throw failure;
        return written >= goal;
      },
      `${files} more files are written`,
      PROGRESS_WITHIN_MS,
      () => `${written} files`,
    );
  };
  try {
    await progress(FILES_EACH);
    for (const pod of ['alice-coordinator-0', 'alice-disks-0-0']) {
      await cluster.kubectl(['delete', 'pod', pod, '--grace-period=0', '--force']);
      await progress(FILES_EACH);
    }
  } finally {
    isOver = true;
    await writer;
  }
  assert.equal(failure, undefined);
  await alice.whenReady();
  for (let number = 0; number < written; number++) {
    const read = await session.files.readAll(`/file-${number}`);
    assert.ok(seededFile(number, FILE_BYTES).equals(read), `file ${number} of ${written}`);
  }
});
