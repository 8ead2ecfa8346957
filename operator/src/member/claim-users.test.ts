import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wallMs } from '@collective/base/clock';
import { FakeClock } from '@collective/base/fake-clock';
import type { KubeObject } from '../kube/kube-object.ts';
import { ClaimUsers, usersOf } from './claim-users.ts';
import { exampleObjects } from './example-picture.ts';
import type { MemberObjects } from './picture.ts';

function pod(name: string, claims: readonly string[], nodeName: string | undefined = 'machine-1'): KubeObject {
  const volumes = claims.map((claimName) => ({ name: claimName, persistentVolumeClaim: { claimName } }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'team' },
    spec: { nodeName, volumes: [...volumes, { name: 'tmp', emptyDir: {} }] },
  };
}

function leaving(mark: string, deletedMs: number | undefined): MemberObjects {
  const objects = exampleObjects([{ name: 'disk-0', mark }]);
  const claim = objects.volumeClaims.get('alice-disk-0') as KubeObject;
  const gone = deletedMs === undefined ? {} : { deletionTimestamp: new Date(deletedMs).toISOString() };
  return {
    ...objects,
    volumeClaims: new Map([['alice-disk-0', { ...claim, metadata: { ...claim.metadata, ...gone } }]]),
  };
}

test('a claim is used by each pod with a machine that names it', () => {
  const pods = [
    pod('copy', ['alice-disk-0', 'target']),
    pod('shell', ['alice-disk-0', 'alice-disk-0']),
    {
      ...pod('waits', ['alice-disk-0']),
      spec: { volumes: [{ persistentVolumeClaim: { claimName: 'alice-disk-0' } }] },
    },
    pod('other', []),
  ];
  assert.deepEqual(
    [...usersOf(pods)],
    [
      ['alice-disk-0', ['copy', 'shell']],
      ['target', ['copy']],
    ],
  );
});

test('K3: pods are listed only while the claim of an empty node stays, and then not too often', async () => {
  const clock = new FakeClock();
  const asked: unknown[] = [];
  const api = {
    list: async ({ plural }: { readonly plural: string }, options: object = {}) => {
      asked.push([plural, options]);
      return { objects: [pod('copy', ['alice-disk-0'])], resourceVersion: '1' };
    },
  };
  const users = new ClaimUsers({ api, clock });
  const { signal } = new AbortController();
  const nowMs = wallMs(clock);
  for (const objects of [
    leaving('Drained', undefined),
    leaving('Drained', nowMs - 9_000),
    // Somebody deleted the claim of a node that serves: its own pod holds it.
    leaving('Draining', nowMs - 60_000),
  ])
    assert.equal((await users.of('team', objects, signal)).size, 0);
  assert.deepEqual(asked, []);
  const held = leaving('Drained', nowMs - 10_000);
  for (let look = 0; look < 3; look++)
    assert.deepEqual([...(await users.of('team', held, signal))], [['alice-disk-0', ['copy']]]);
  assert.deepEqual(asked, [['pods', { namespace: 'team', signal }]]);
});
