/** Of two operators the one that leads is killed in the middle of its work: the other one goes on, and nothing is done twice. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { conditionOf } from './api-client.ts';
import { MemberWorld, NAMESPACE, pool } from './member-world.ts';
import { deedsIn, doneTwice } from './operator-deeds.ts';
import { OperatorReplica } from './operator-replica.ts';
import { SteadyWriter } from './steady-writer.ts';

const MEMBERS = ['alice', 'bob'];
const STEP_WITHIN_MS = 240_000;

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start({ operates: false }));
  await world.applyCollective();
});
after(() => running.disposeAsync());

const podUid = async (pod: string): Promise<string | undefined> =>
  (await world.server.admin.find(world.object('v1', 'Pod', pod)))?.metadata.uid;

test('K1: a leader that is killed while members come up and pods are replaced is followed by the other one, and nothing is done twice', async () => {
  await using first = await OperatorReplica.start(world, MEMBERS);
  await first.leads();
  await using second = await OperatorReplica.start(world, MEMBERS);
  await second.waits();
  const all = world.server.auditTail();
  await world.applyMember('alice');
  await world.ready('alice');
  await using session = await world.userSession('alice');
  const writer = new SteadyWriter(session);

  const pods = ['alice-disk-0-0', 'alice-disk-1-0', 'alice-coordinator-0'];
  const before = new Map(await Promise.all(pods.map(async (pod) => [pod, await podUid(pod)] as const)));
  const rolling = world.server.auditTail();
  await world.applyMember('alice', { image: 'collective:other' });
  await world.applyMember('bob', { nodePools: [pool(1)] });
  await world.whenMember(
    'alice',
    ({ status }) =>
      (status as { nodes: readonly { image?: string }[] }).nodes.some(({ image }) => image === 'collective:other'),
    'has a pod that follows',
    STEP_WITHIN_MS,
  );
  await first.kill();
  await second.leads();
  await world.whenMember(
    'alice',
    (alice) =>
      (alice.status as { coordinator: { image?: string } }).coordinator.image === 'collective:other' &&
      conditionOf(alice, 'Upgrading').reason === 'UpToDate',
    'follows as a whole',
    STEP_WITHIN_MS,
  );
  await world.ready('alice');
  await world.ready('bob');
  await writer.stop();

  for (const pod of pods) assert.notEqual(await podUid(pod), before.get(pod), `${pod} is another`);
  const ended = deedsIn(rolling.next()).filter((deed) => deed.startsWith('200 delete pods'));
  assert.deepEqual(ended.sort(), pods.map((pod) => `200 delete pods ${pod}`).sort(), 'each pod was ended once');
  const deeds = deedsIn(all.next());
  assert.ok(deeds.some((deed) => deed.startsWith('201 patch statefulsets bob-')));
  assert.deepEqual(doneTwice(deeds.filter((deed) => deed.startsWith('201 '))), [], 'nothing was made twice');
  assert.deepEqual(
    deeds.filter((deed) => / delete /.test(deed) && !/ pods /.test(deed)),
    [],
  );
  for (const request of await world.server.admin.list('cert-manager.io/v1', 'CertificateRequest', NAMESPACE)) {
    const revision = request.metadata.annotations?.['cert-manager.io/certificate-revision'];
    assert.equal(revision, '1', `${request.metadata.name} was asked for once`);
  }
});
