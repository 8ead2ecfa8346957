import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import type { KubeObject } from './kube-object.ts';
import { redactObject, redactText } from './redaction.ts';

const KEY = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const CERTIFICATE = '-----BEGIN CERTIFICATE-----\nMIIBszCCAWWgAwIBAgIU\n-----END CERTIFICATE-----\n';
const base64 = (text: string): string => Buffer.from(text).toString('base64');

const cases: { name: string; given: string; want: string }[] = [
  { name: 'a private key', given: `a\n${KEY}b`, want: 'a\n<redacted>\nb' },
  { name: 'a private key that is cut off', given: `a ${KEY.slice(0, 60)}`, want: 'a <redacted>' },
  { name: 'a private key in base64', given: `tls.key: ${base64(KEY)}`, want: 'tls.key: <redacted>' },
  { name: 'a certificate stays', given: CERTIFICATE, want: CERTIFICATE },
  { name: 'a certificate in base64 stays', given: base64(CERTIFICATE), want: base64(CERTIFICATE) },
  { name: 'a token of ours', given: 'enrol user/anna:col1-AbC_d-9 now', want: 'enrol user/anna:<redacted> now' },
  { name: 'a service account token', given: `t=eyJhbGciOiJSUzI1.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl`, want: 't=<redacted>' },
  { name: 'a header', given: 'Authorization: Bearer abcdefgh12345', want: 'Authorization: Bearer <redacted>' },
  { name: 'a password in an address', given: 'https://anna:hunter2@host/x', want: 'https://anna:<redacted>@host/x' },
  { name: 'ordinary words', given: 'bearer of news; 10:20:30 basic', want: 'bearer of news; 10:20:30 basic' },
];
for (const { name, given, want } of cases) {
  test(`a bundle does not tell secrets: ${name}`, () => {
    assert.equal(redactText(given), want);
  });
}

test('of a Secret a bundle holds only that it is there, whatever the server sent', () => {
  const secret: KubeObject = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: 'alice-user-anna',
      annotations: {
        'kubectl.kubernetes.io/last-applied-configuration': `{"data":{"x":"aHVudGVyMg=="}}`,
        note: 'kept',
      },
      managedFields: [{ manager: 'kubectl' }],
    },
    type: 'kubernetes.io/tls',
    data: { x: 'aHVudGVyMg==' },
    stringData: { x: 'hunter2' },
  };
  assert.deepEqual(redactObject(secret), {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/tls',
    metadata: { name: 'alice-user-anna', annotations: { note: 'kept' } },
  });
});

test('variables and flags with telling names lose their values, others keep them', () => {
  const pod: KubeObject = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p' },
    spec: {
      containers: [
        {
          args: ['--token=abc', '--listen=:7420', 'col1-xyz'],
          env: [
            { name: 'COLLECTIVE_TOKEN', value: 'abc' },
            { name: 'COLLECTIVE_LISTEN', value: ':7420' },
            { name: 'FROM', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } },
          ],
        },
      ],
    },
  };
  assert.deepEqual(redactObject(pod), {
    ...pod,
    spec: {
      containers: [
        {
          args: ['--token=<redacted>', '--listen=:7420', '<redacted>'],
          env: [
            { name: 'COLLECTIVE_TOKEN', value: '<redacted>' },
            { name: 'COLLECTIVE_LISTEN', value: ':7420' },
            { name: 'FROM', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } },
          ],
        },
      ],
    },
  });
});
