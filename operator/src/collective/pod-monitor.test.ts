import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exampleCollective } from '../member/example-member.ts';
import { podMonitor } from './pod-monitor.ts';

const collective = exampleCollective();

test('K1: no PodMonitor is made unless the Collective asks for it', () => {
  assert.equal(podMonitor(collective), undefined);
  assert.equal(podMonitor({ ...collective, spec: { ...collective.spec, monitoring: { interval: '30s' } } }), undefined);
});

test('K1: one PodMonitor finds the pods of all members of a Collective, and goes with it', () => {
  const monitoring = { enabled: true, interval: '30s', labels: { release: 'prometheus' } };
  assert.deepEqual(podMonitor({ ...collective, spec: { ...collective.spec, monitoring } }), {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PodMonitor',
    metadata: {
      name: 'photos',
      namespace: 'team',
      labels: {
        release: 'prometheus',
        'app.kubernetes.io/name': 'collective',
        'app.kubernetes.io/part-of': 'photos',
        'app.kubernetes.io/managed-by': 'collective-operator',
        'collective.storage/collective': 'photos',
      },
      ownerReferences: [
        {
          apiVersion: 'collective.storage/v1alpha1',
          kind: 'Collective',
          name: 'photos',
          uid: 'f07',
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      selector: {
        matchLabels: {
          'collective.storage/collective': 'photos',
          'app.kubernetes.io/managed-by': 'collective-operator',
        },
      },
      podTargetLabels: ['collective.storage/member', 'collective.storage/node', 'app.kubernetes.io/component'],
      podMetricsEndpoints: [{ port: 'health', path: '/metrics', interval: '30s' }],
    },
  });
});
