/**
 * Every manifest of two members as YAML that a person reads: a small one, and one that says all it can. A diff in `golden/`
 * is reviewed like code; `COLLECTIVE_WRITE_GOLDEN=1 hack/node --test operator/src/member/manifests/golden.test.ts` writes them.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import type { KubeObject } from '../../kube/kube-object.ts';
import { exampleCollective, exampleMember, operatorSettings } from '../example-member.ts';
import { type MemberShape, shapeOf } from '../shape.ts';
import { backupCronJob } from './cron-job.ts';
import { nodesDisruptionBudget } from './disruption-budget.ts';
import { networkPolicies } from './network-policy.ts';
import { restoreJob } from './restore-job.ts';
import { coordinatorService, nodeService, nodesService } from './service.ts';
import { serviceAccount } from './service-account.ts';
import { coordinatorStatefulSet, nodeStatefulSet, templateHash } from './stateful-set.ts';
import { volumeClaim } from './volume-claim.ts';

const FOLDER = join(import.meta.dirname, 'golden');
const small = shapeOf(
  exampleMember({ nodePools: [{ name: 'disk', replicas: 2, capacity: '100Gi' }] }),
  exampleCollective(),
  operatorSettings(),
);
const large = largeShape();

const manifests: Readonly<Record<string, readonly KubeObject[]>> = {
  'small-coordinator': [
    coordinatorStatefulSet(small, { expectsData: false }),
    coordinatorService(small),
    volumeClaim({
      namespace: small.namespace,
      name: 'alice-coordinator',
      labels: { member: small.member, collective: small.collective, component: 'coordinator' },
      size: small.coordinator.size,
    }),
  ],
  'small-node': nodeObjects(small),
  'small-member': [
    serviceAccount(small),
    nodesService(small),
    nodesDisruptionBudget(small, { nodes: 2, isReplicated: true }),
    ...networkPolicies(small),
  ],
  'large-coordinator': [coordinatorStatefulSet(large, { expectsData: true }), coordinatorService(large)],
  'large-node': [
    ...nodeObjects(large, '$(HOST_IP):30431'),
    nodeService(large, { node: 'disk-0', pool: 'disk', nodePort: 30_431 }),
  ],
  'large-member': [
    nodesDisruptionBudget(large, { nodes: 3, isReplicated: false }),
    ...networkPolicies(large),
    ...(large.backup === undefined ? [] : [backupCronJob(large, large.backup, { rests: false })]),
    restoreJob(large, { from: 'alice-20261126T034500Z.backup', claimUid: 'c1a1' }),
  ],
};

for (const [name, objects] of Object.entries(manifests)) {
  test(`K1: the manifests of ${name} are those that were reviewed`, () => {
    const text = objects
      .map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false }))
      .join('---\n');
    const file = join(FOLDER, `${name}.yaml`);
    if (process.env.COLLECTIVE_WRITE_GOLDEN === '1') {
      mkdirSync(FOLDER, { recursive: true });
      writeFileSync(file, text);
    }
    assert.equal(text, readFileSync(file, 'utf8'));
  });
}

test('every reviewed file belongs to a manifest that is still made', () => {
  assert.deepEqual(
    readdirSync(FOLDER).sort(),
    Object.keys(manifests)
      .map((name) => `${name}.yaml`)
      .sort(),
  );
});

test('K3: that data is expected changes the template and asks for no other start', () => {
  const [blank, kept] = [false, true].map((expectsData) => coordinatorStatefulSet(small, { expectsData }));
  assert.notDeepEqual(blank, kept);
  assert.deepEqual(blank?.metadata.annotations, kept?.metadata.annotations);
});

test('K2: another image, capacity or address asks for another start, and the same template never does', () => {
  const hashes = [
    nodeObjects(small),
    nodeObjects({ ...small, image: 'other:1' }),
    nodeObjects(small, 'node.example:7431'),
    nodeObjects(small, undefined, 1),
  ].map(([set]) => JSON.stringify(set?.metadata.annotations));
  assert.equal(new Set(hashes).size, 4);
  assert.equal(templateHash({ spec: { containers: [] } }), templateHash({ spec: { containers: [] } }));
});

function nodeObjects(shape: MemberShape, externalAddress?: string, capacityBytes = 100e9): KubeObject[] {
  const pool = shape.pools[0];
  assert.ok(pool !== undefined);
  const labels = {
    member: shape.member,
    collective: shape.collective,
    component: 'node',
    node: 'disk-0',
    pool: 'disk',
  } as const;
  return [
    nodeStatefulSet(shape, { pool, node: 'disk-0', capacityBytes, externalAddress }),
    volumeClaim({
      namespace: shape.namespace,
      name: 'alice-disk-0',
      labels,
      size: pool.size,
      storageClass: pool.storageClass,
      uid: 'b7c1',
    }),
  ];
}

function largeShape(): MemberShape {
  const member = exampleMember({
    image: 'registry.example/collective:2.0.0',
    coordinator: {
      storage: { size: '20Gi', storageClass: 'fast' },
      resources: { requests: { cpu: '2', memory: '4Gi' }, limits: { cpu: '4', memory: '4Gi' } },
      nodeSelector: { disk: 'nvme' },
      tolerations: [{ key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute' }],
    },
    nodePools: [
      {
        name: 'disk',
        replicas: 3,
        capacity: '1Ti',
        storageClass: 'bulk',
        zone: 'cellar',
        topologySpread: [{ topologyKey: 'example.com/rack', maxSkew: 2, whenUnsatisfiable: 'DoNotSchedule' }],
        affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } },
        resources: { requests: { memory: '1Gi' }, limits: { memory: '2Gi' } },
      },
    ],
    exposure: { type: 'NodePort', annotations: { 'example.com/class': 'internal' } },
    backup: { schedule: '17 3 * * *', keep: 14, storage: { size: '5Gi', storageClass: 'bulk' } },
  });
  const collective = exampleCollective({
    imagePullPolicy: 'Always',
    imagePullSecrets: ['registry'],
    priorityClassName: 'storage',
    storageClass: 'standard',
  });
  return shapeOf(member, collective, { ...operatorSettings(), networkPolicies: true });
}
