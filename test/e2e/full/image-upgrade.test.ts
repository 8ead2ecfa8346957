/** K2: another image reaches the pods of a member one at a time while somebody writes; one that does not exist stops at the first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { VERSION } from '@collective/cli/version';
import { conditionOf, hasCondition, type KubeObject } from '../../apiserver/api-client.ts';
import { until } from '../../until.ts';
import { aliceOfThisFile } from '../members-of-file.ts';
import { loadNextImage, type NextImage } from '../next-image.ts';
import { SteadyWriter } from '../steady-writer.ts';

const ROLLED_WITHIN_MS = 300_000;
const READY_WITHIN_MS = 60_000;
const NODES = ['alice-disks-0-0', 'alice-disks-1-0', 'alice-disks-2-0'];
const COORDINATOR = 'alice-coordinator-0';
const LOOK_EVERY_MS = 250;
const MISSING = 'collective:0.0.0-never-built';
const FILES = 20;

let next: NextImage;
const { cluster, alice } = aliceOfThisFile('image-upgrade', { nodes: NODES.length });

interface PodSeen {
  readonly image: string;
  readonly isReady: boolean;
  /** Its program runs, whether or not it has a coordinator at the moment. */
  readonly runs: boolean;
}

async function pods(): Promise<Map<string, PodSeen>> {
  const all = await cluster.api.list('v1', 'Pod', cluster.namespace);
  return new Map(
    all.map((pod) => {
      const { containers } = pod.spec as { containers: [{ image: string }] };
      const { containerStatuses = [] } = pod.status as { containerStatuses?: { started?: boolean }[] };
      const stays = pod.metadata.deletionTimestamp === undefined;
      const runs = stays && containerStatuses[0]?.started === true;
      return [pod.metadata.name, { image: containers[0].image, isReady: stays && hasCondition(pod, 'Ready'), runs }];
    }),
  );
}

const rolledTo = (image: string, version: string) => (member: KubeObject) => {
  const { coordinator, nodes, ...status } = member.status as {
    version?: string;
    coordinator: { image?: string };
    nodes: { image?: string }[];
  };
  return (
    [coordinator, ...nodes].every((part) => part.image === image) &&
    status.version === version &&
    hasCondition(member, 'Upgrading', 'False') &&
    hasCondition(member, 'Ready')
  );
};

/** Looks at the pods until it is told to end: which took the image in which order, and how many were away at a time. */
async function watchRoll(image: string, signal: AbortSignal) {
  const clock = new SystemClock();
  const order: string[] = [];
  let nodesAwayMost = 0;
  while (!signal.aborted) {
    const seen = await pods();
    for (const [name, pod] of seen) if (pod.image === image && !order.includes(name)) order.push(name);
    nodesAwayMost = Math.max(nodesAwayMost, NODES.filter((name) => seen.get(name)?.runs !== true).length);
    await sleep(clock, LOOK_EVERY_MS, signal).catch(() => undefined);
  }
  return { order, nodesAwayMost };
}

test('K2: with another image nodes follow one at a time, then the coordinator, and a writer sees no error', async () => {
  next = await loadNextImage();
  await using session = await alice.connect();
  await using writer = new SteadyWriter(session);
  await writer.progress(FILES);
  const over = new AbortController();
  const watching = watchRoll(next.tag, over.signal);
  watching.catch(() => undefined);
  await alice.apply({ image: next.tag });
  await alice.when((member) => hasCondition(member, 'Upgrading'), 'says that it is being upgraded');
  await writer.during(alice.when(rolledTo(next.tag, next.version), `runs ${next.tag}`, ROLLED_WITHIN_MS));
  over.abort();
  const { order, nodesAwayMost } = await watching;
  await writer.progress(FILES);
  assert.deepEqual([...order].sort(), [COORDINATOR, ...NODES].sort());
  assert.equal(order.at(-1), COORDINATOR, order.join(', '));
  assert.equal(nodesAwayMost, 1, 'one node at a time');
  await using anew = await alice.connect();
  const written = await writer.finish(anew);
  assert.equal((await anew.admin.status()).version, next.version);
  console.log(`${written} files while all pods were replaced, the longest took ${writer.longestMs} ms`);
});

test('K2: an image that does not exist stops at the first node, the member stays usable, and the former image heals it', async () => {
  await using session = await alice.connect();
  await alice.apply({ image: MISSING });
  const stuck = await alice.when(
    (member) => conditionOf(member, 'NodesReady').reason === 'ImageCannotBePulled',
    'says that the image cannot be pulled',
    ROLLED_WITHIN_MS,
  );
  assert.match(conditionOf(stuck, 'NodesReady').message, new RegExp(`image ${MISSING} cannot be pulled`));
  assert.equal(conditionOf(stuck, 'Upgrading').status, 'True');
  await using writer = new SteadyWriter(session);
  await writer.progress(FILES);
  let seen: [string, PodSeen][] = [];
  const allButOneReady = async (): Promise<boolean> => {
    seen = [...(await pods())].filter(([name]) => [COORDINATOR, ...NODES].includes(name));
    assert.equal(seen.filter(([, { image }]) => image === MISSING).length, 1, 'only one pod was tried');
    return seen.filter(([, { isReady }]) => isReady).length === NODES.length;
  };
  await until(allButOneReady, 'all other pods are ready', READY_WITHIN_MS, () => JSON.stringify(seen));

  const { image } = cluster;
  await alice.apply({ image });
  await writer.during(alice.when(rolledTo(image, VERSION), `runs ${image} again`, ROLLED_WITHIN_MS));
  await writer.progress(FILES);
  await writer.finish(session);
});
