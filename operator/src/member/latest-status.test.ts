import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import type { Member, MemberStatus } from '../api/member.ts';
import { setConditions } from '../api/set-conditions.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { DeclaredStatus } from '../runtime/declared-status.ts';
import { exampleMember } from './example-member.ts';
import { LatestStatus } from './latest-status.ts';

const { signal } = new AbortController();

class World {
  readonly clock = new FakeClock();
  readonly written: MemberStatus[] = [];
  readonly latest = new LatestStatus(
    new DeclaredStatus({
      api: {
        applyStatus: async (_resource, object) => {
          this.written.push((object as unknown as Member).status ?? {});
          const metadata = { ...this.member.metadata, resourceVersion: `${this.written.length}` };
          return { ...object, metadata } as KubeObject;
        },
      },
      clock: this.clock,
      onUndeclared: () => assert.fail('the kind is as new as the operator'),
    }),
    this.clock,
  );
  member: Member = exampleMember({}, { resourceVersion: '0' });

  /** What the next look has to say; answers when it is to look again. */
  async tell(status: MemberStatus): Promise<number | undefined> {
    const { againAfterMs } = await this.latest.write(this.latest.of(this.member), status, signal);
    return againAfterMs;
  }
}

const conditions = (ready: 'True' | 'False', reason: string, message: string, generation = 1) =>
  setConditions(
    { Ready: { status: ready, reason, message } },
    { previous: [], nowMs: 0, observedGeneration: generation },
  );

const before: MemberStatus = {
  observedGeneration: 1,
  coordinator: { state: 'Ready', volumeUid: 'v' },
  nodes: [
    { name: 'disk-0', pool: 'disk', state: 'Starting', volumeUid: 'v0' },
    { name: 'disk-1', pool: 'disk', state: 'Pending', volumeUid: 'v1' },
  ],
  nodesReady: '0/2',
  ca: { generation: 1, phase: 'Stable' },
  conditions: conditions('False', 'Starting', '0 of 2 nodes are ready'),
};

const [first, second] = before.nodes ?? [];
assert.ok(first !== undefined && second !== undefined);

const progress: readonly { readonly name: string; readonly change: Partial<MemberStatus> }[] = [
  { name: 'a sentence', change: { conditions: conditions('False', 'Starting', '1 of 2 nodes are ready') } },
  { name: 'a node that starts', change: { nodes: [{ ...first, state: 'Ready', image: 'a:1', used: '1Gi' }, second] } },
  { name: 'counts', change: { nodesReady: '1/2', capacity: '1Gi', used: '1Mi' } },
  { name: 'a certificate', change: { certificates: [{ name: 'a', notAfter: '2026-12-01T00:00:00Z', generation: 1 }] } },
];

for (const { name, change } of progress)
  test(`K1: after a write mere progress waits, and its last state is told: ${name}`, async () => {
    const world = new World();
    assert.equal(await world.tell(before), undefined);
    await world.clock.advance(500);
    assert.equal(await world.tell({ ...before, ...change }), 1_500);
    await world.clock.advance(1_000);
    const last = { ...before, ...change, nodesReady: '2/2' };
    assert.equal(await world.tell(last), 500);
    await world.clock.advance(500);
    assert.equal(await world.tell(last), undefined);
    assert.deepEqual(world.written, [before, last]);
  });

const steps: readonly { readonly name: string; readonly change: Partial<MemberStatus> }[] = [
  { name: 'a condition', change: { conditions: conditions('True', 'Ready', '2 of 2') } },
  { name: 'a reason', change: { conditions: conditions('False', 'ImageCannotBePulled', '0 of 2 nodes are ready') } },
  { name: 'another generation', change: { observedGeneration: 2, conditions: conditions('False', 'Starting', '', 2) } },
  { name: 'a step of a rotation (T6)', change: { ca: { generation: 2, phase: 'Creating' } } },
  { name: 'the volume of a node (K3)', change: { nodes: [{ ...first, volumeUid: 'v9' }, second] } },
  { name: 'a node that is emptied', change: { nodes: [{ ...first, state: 'Draining' }, second] } },
  { name: 'a node that is gone', change: { nodes: [first] } },
  {
    name: 'that the coordinator served (K3)',
    change: { coordinator: { state: 'Ready', volumeUid: 'v', began: true } },
  },
  { name: 'an address', change: { endpoints: { external: 'alice.example:30431' } } },
  { name: 'the rights of a user', change: { users: [{ name: 'ann', secretName: 's', uid: 1 }] } },
];

for (const { name, change } of steps)
  test(`K1: what others wait for is told at once: ${name}`, async () => {
    const world = new World();
    await world.tell(before);
    assert.equal(await world.tell({ ...before, ...change, nodesReady: '1/2' }), undefined);
    assert.deepEqual(world.written.at(-1), { ...before, ...change, nodesReady: '1/2' });
  });

test('K1: the same is told once, and a Member that went and came again is told of at once', async () => {
  const world = new World();
  await world.tell(before);
  assert.equal(await world.tell(before), undefined);
  assert.equal(world.written.length, 1);
  world.latest.forget({ namespace: 'team', name: 'alice' });
  world.member = { ...exampleMember({}, { uid: 'another' }), status: before };
  assert.equal(await world.tell({ ...before, nodesReady: '1/2' }), undefined);
  assert.equal(world.written.length, 2);
});

test('T6: until the cache has what was written, that is planned from', async () => {
  const world = new World();
  await world.tell(before);
  assert.deepEqual(world.latest.of(world.member).status, before);
  world.member = { ...world.member, status: {}, metadata: { ...world.member.metadata, resourceVersion: '7' } };
  assert.deepEqual(world.latest.of(world.member).status, {});
});
