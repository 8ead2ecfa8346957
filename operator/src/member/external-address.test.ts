import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatHostPort } from '@collective/base/host-port';
import type { Exposure, MemberStatus } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import { externalAddress } from './external-address.ts';
import { shapeOf } from './shape.ts';

const service = (fields: object): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'a' },
  ...fields,
});
const nodePort = service({ spec: { ports: [{ port: 7431, nodePort: 30_431 }] } });
const balanced = service({ status: { loadBalancer: { ingress: [{ ip: '203.0.113.7' }] } } });

function told(exposure: Exposure | undefined, part: string, service?: KubeObject, before?: MemberStatus): string {
  const member = exampleMember(exposure === undefined ? {} : { exposure });
  const address = externalAddress(shapeOf(member, exampleCollective(), operatorSettings()), { part, service, before });
  return address.state === 'known' ? formatHostPort(address) : address.state;
}

test('D10: a member that is not exposed has no address outside', () => {
  assert.equal(told(undefined, 'disk-0'), 'none');
});

test('D10: a port of the cluster is reached at the machine of the pod, or at the host that was said', () => {
  assert.equal(told({ type: 'NodePort' }, 'disk-0'), 'awaited');
  assert.equal(told({ type: 'NodePort' }, 'disk-0', nodePort), '[$(HOST_IP)]:30431');
  assert.equal(
    told({ type: 'NodePort', advertised: { host: 'files.example' } }, 'disk-0', nodePort),
    'files.example:30431',
  );
});

test('D10: a port of the cluster stands while its Service is gone, and the one that a Service has is stronger', () => {
  const before: MemberStatus = {
    coordinator: { state: 'Ready', nodePort: 30_001 },
    nodes: [{ name: 'disk-0', pool: 'disk', state: 'Ready', nodePort: 30_002 }],
  };
  const ports = (type: Exposure['type'], service?: KubeObject) =>
    ['coordinator', 'disk-0', 'disk-1'].map((part) => told({ type }, part, service, before).replace(/^.*:/, ''));
  assert.deepEqual(ports('NodePort'), ['30001', '30002', 'awaited']);
  assert.deepEqual(ports('NodePort', nodePort), ['30431', '30431', '30431']);
  assert.deepEqual(ports('ClusterIP'), ['none', 'none', 'none']);
});

test('D10: a balancer is reached where the cluster says, each node at its own', () => {
  assert.equal(told({ type: 'LoadBalancer' }, 'disk-0', service({ status: {} })), 'awaited');
  assert.equal(told({ type: 'LoadBalancer' }, 'disk-0', balanced), '203.0.113.7:7431');
  assert.equal(told({ type: 'LoadBalancer' }, 'coordinator', balanced), '203.0.113.7:7420');
});

test('D10: an address of its own is stronger than all that', () => {
  const addresses = [
    { name: 'disk-0', host: 'one.example', port: 443 },
    { name: 'disk-1', host: '2001:db8::1' },
  ];
  assert.equal(told({ type: 'NodePort', addresses }, 'disk-0', nodePort), 'one.example:443');
  assert.equal(told({ type: 'NodePort', addresses }, 'disk-1', nodePort), '[2001:db8::1]:30431');
  assert.equal(told({ addresses }, 'disk-0'), 'one.example:443');
});
