import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../kube/kube-object.ts';
import { holdsIntent } from './holds-intent.ts';

const owner = { apiVersion: 'v1', kind: 'Member', name: 'alice', uid: 'owner', controller: true };
const intent: KubeObject = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { namespace: 'members', name: 'alice', labels: { a: '1' }, ownerReferences: [owner], finalizers: ['keep'] },
  spec: { selector: { app: 'alice' }, ports: [{ name: 'grpc', port: 7420 }], none: undefined },
};
const seen: KubeObject = {
  ...intent,
  metadata: { ...intent.metadata, uid: 'u', resourceVersion: '7', labels: { a: '1', theirs: 'x' } },
  spec: {
    clusterIP: '10.96.0.7',
    selector: { app: 'alice' },
    ports: [{ name: 'grpc', port: 7420, protocol: 'TCP', targetPort: 7420 }],
  },
  status: { loadBalancer: {} },
};
const withSpec = (change: object): KubeObject => ({ ...seen, spec: { ...(seen.spec as object), ...change } });
const withMetadata = (change: object): KubeObject => ({ ...seen, metadata: { ...seen.metadata, ...change } });

const cases: readonly {
  readonly name: string;
  readonly seen: KubeObject;
  readonly meant?: KubeObject;
  readonly holds: boolean;
}[] = [
  { name: 'what the server has filled in', seen, holds: true },
  { name: 'another value', seen: withSpec({ selector: { app: 'bob' } }), holds: false },
  { name: 'a value that is gone', seen: withSpec({ selector: {} }), holds: false },
  { name: 'a field that is gone', seen: withSpec({ ports: undefined }), holds: false },
  { name: 'another item', seen: withSpec({ ports: [{ name: 'grpc', port: 1 }] }), holds: false },
  {
    name: 'one more item',
    seen: withSpec({ ports: [{ name: 'grpc', port: 7420 }, { port: 80 }] }),
    holds: false,
  },
  { name: 'a list in the place of an object', seen: withSpec({ selector: ['app'] }), holds: false },
  { name: 'a label that is gone', seen: withMetadata({ labels: { theirs: 'x' } }), holds: false },
  { name: 'an owner that is gone', seen: withMetadata({ ownerReferences: [] }), holds: false },
  { name: 'a finalizer that is gone', seen: withMetadata({ finalizers: [] }), holds: false },
  { name: 'a finalizer of somebody else beside ours', seen: withMetadata({ finalizers: ['x', 'keep'] }), holds: true },
  {
    name: 'the object that must exist',
    seen,
    meant: { ...intent, metadata: { ...intent.metadata, uid: 'u' } },
    holds: true,
  },
  {
    name: 'another object of that name',
    seen,
    meant: { ...intent, metadata: { ...intent.metadata, uid: 'v' } },
    holds: false,
  },
];
for (const { name, seen: object, meant = intent, holds } of cases) {
  test(`K1: ${name} ${holds ? 'is as it is meant' : 'is not as it is meant'}`, () => {
    assert.equal(holdsIntent(object, meant), holds);
  });
}
