import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutForeignFields } from './foreign-fields.ts';

const metadata = { namespace: 'members', name: 'alice' };
const of = (kind: string, fields: object) => ({ apiVersion: 'v1', kind, metadata, ...fields });
const port = (number: number, more: object = {}) => ({ port: number, ...more });

const table: readonly { name: string; kind: string; meant: object; seen: object; want: object | undefined }[] = [
  {
    name: 'nothing foreign',
    kind: 'ConfigMap',
    meant: { data: { a: '1' } },
    seen: { data: { a: '1' } },
    want: undefined,
  },
  {
    name: 'keys of a ConfigMap',
    kind: 'ConfigMap',
    meant: { data: { a: '1' } },
    seen: { data: { a: '1', b: '2' }, binaryData: { c: 'Yw==' } },
    want: { data: { b: null }, binaryData: null },
  },
  {
    name: 'a key of a selector',
    kind: 'Service',
    meant: { spec: { selector: { app: 'x' } } },
    seen: { spec: { selector: { app: 'x', canary: 'yes' }, clusterIP: '10.0.0.1' } },
    want: { spec: { selector: { canary: null } } },
  },
  {
    name: 'a port, while what the server gave to ours stays',
    kind: 'Service',
    meant: { spec: { ports: [port(7420, { name: 'grpc' })] } },
    seen: {
      spec: { ports: [port(7420, { name: 'grpc', protocol: 'TCP', nodePort: 30001 }), port(22, { protocol: 'TCP' })] },
    },
    want: { spec: { ports: [port(7420, { name: 'grpc', protocol: 'TCP', nodePort: 30001 })] } },
  },
  {
    name: 'the same port over another protocol',
    kind: 'Service',
    meant: { spec: { ports: [port(53, { protocol: 'UDP' })] } },
    seen: { spec: { ports: [port(53, { protocol: 'UDP' }), port(53, { protocol: 'TCP' })] } },
    want: { spec: { ports: [port(53, { protocol: 'UDP' })] } },
  },
  {
    name: 'a way out that a policy did not have',
    kind: 'NetworkPolicy',
    meant: { spec: { podSelector: {}, policyTypes: ['Ingress'], ingress: [{}] } },
    seen: { spec: { podSelector: {}, policyTypes: ['Ingress'], ingress: [{}], egress: [{}] } },
    want: { spec: { egress: null } },
  },
  {
    name: 'whatever stands in kinds that others may add to',
    kind: 'Secret',
    meant: { data: {} },
    seen: { data: { a: '1' } },
    want: undefined,
  },
];
for (const { name, kind, meant, seen, want } of table) {
  test(`foreign: ${name}`, () => {
    assert.deepEqual(withoutForeignFields(of(kind, meant), of(kind, seen)), want);
  });
}
