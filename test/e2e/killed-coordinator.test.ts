/** M5, M6 in a cluster: the pods of a member are killed while somebody writes; what was acknowledged is there. */
import { test } from 'node:test';
import { aliceOfThisFile } from './members-of-file.ts';
import { SteadyWriter } from './steady-writer.ts';

const { cluster, alice } = aliceOfThisFile('killed-coordinator');

test('M5: the coordinator and then a node are killed during a write; the writer goes on, and nothing is lost', async () => {
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session, { fileBytes: 1024 * 1024, everyMs: 0 });
  await writer.progress();
  for (const pod of ['alice-coordinator-0', 'alice-disks-0-0']) {
    await cluster.kubectl(['delete', 'pod', pod, '--grace-period=0', '--force']);
    await writer.progress();
  }
  await alice.whenReady();
  console.log(`${await writer.finish(session)} files, the longest took ${writer.longestMs} ms`);
});
