/** A namespace that is deleted with members running in it (K3): they hold it up for nothing. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { until } from '../until.ts';
import { MemberWorld, NAMESPACE, pool } from './member-world.ts';

/** Far below the five minutes that a silent coordinator is waited for. */
const GONE_WITHIN_MS = 90_000;

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start());
  await world.applyCollective();
});
after(() => running.disposeAsync());

test('K3: a namespace that is deleted with running members is gone soon, whatever their policies', async () => {
  await world.applyMember('alice', { nodePools: [pool(1)], deletionPolicy: 'Retain' });
  await world.applyMember('bob', { nodePools: [pool(1)], deletionPolicy: 'Delete' });
  for (const member of ['alice', 'bob']) await world.ready(member);
  const { admin } = world.server;
  const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } };
  await admin.remove(namespace);
  let left: unknown;
  await until(
    async () => {
      const found = await admin.find(namespace);
      left = found?.status;
      return found === undefined;
    },
    'the namespace is gone',
    GONE_WITHIN_MS,
    () => JSON.stringify(left),
  );
  assert.equal(await admin.find(world.member('alice')), undefined);
});
