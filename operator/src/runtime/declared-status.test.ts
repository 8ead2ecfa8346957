import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { KubeError } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import { DeclaredStatus } from './declared-status.ts';

const STATUS = {
  coordinator: { state: 'Ready', nodePort: 30_001 },
  nodes: [
    { name: 'a', nodePort: 30_002 },
    { name: 'b', nodePort: 30_003 },
  ],
  nodesReady: '2/2',
};
const OLDER = {
  coordinator: { state: 'Ready' },
  nodes: [{ name: 'a' }, { name: 'b' }],
  nodesReady: '2/2',
};
const object = {
  apiVersion: 'collective.storage/v1alpha1',
  kind: 'Member',
  metadata: { name: 'alice', namespace: 'photos' },
  status: STATUS,
};
const options = { signal: new AbortController().signal };
const refusal = (message: string): KubeError =>
  new KubeError('Apply members photos/alice/status', { status: 500, reason: 'Unknown', message });
/** As kube-apiserver 1.34 says it. */
const SENTENCE = `failed to create typed patch object (photos/alice; collective.storage/v1alpha1, Kind=Member): errors:
  .status.nodes[name="a"].nodePort: field not declared in schema
  .status.nodes[name="b"].nodePort: field not declared in schema
  .status.coordinator.nodePort: field not declared in schema`;

class World {
  readonly clock = new FakeClock();
  readonly written: unknown[] = [];
  readonly told: (readonly string[])[] = [];
  isOld = true;
  failure = refusal(SENTENCE);
  readonly statuses = new DeclaredStatus({
    api: {
      applyStatus: async (_resource, { status, ...rest }) => {
        this.written.push(status);
        if (this.isOld && JSON.stringify(status).includes('nodePort')) throw this.failure;
        return { ...rest, status } as KubeObject;
      },
    },
    clock: this.clock,
    onUndeclared: (_object, fields) => void this.told.push(fields),
  });
}

test('fields that an older kind does not know are left out, told once, and tried again after a while', async () => {
  const world = new World();
  await world.statuses.apply(RESOURCES.members, object, options);
  assert.deepEqual(world.written, [STATUS, OLDER]);
  assert.deepEqual(world.told, [['status.coordinator.nodePort', 'status.nodes.nodePort']]);
  assert.deepEqual(world.statuses.declared(RESOURCES.members, STATUS), OLDER, 'as it will be read back');
  await world.statuses.apply(RESOURCES.members, object, options);
  assert.deepEqual(world.written.slice(2), [OLDER]);
  assert.equal(world.told.length, 1);

  world.isOld = false;
  await world.clock.advance(11 * 60_000);
  await world.statuses.apply(RESOURCES.members, object, options);
  assert.deepEqual(world.written.slice(3), [STATUS], 'the kind was brought up to date');
});

test('other kinds and other failures are left as they are', async () => {
  const world = new World();
  await world.statuses.apply(RESOURCES.members, object, options);
  assert.equal(world.statuses.declared(RESOURCES.collectives, STATUS), STATUS);
  const other = new World();
  other.failure = refusal('etcdserver: request timed out');
  await assert.rejects(other.statuses.apply(RESOURCES.members, object, options), other.failure);
  assert.deepEqual([other.written, other.told], [[STATUS], []]);
});
