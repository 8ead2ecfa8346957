import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { KubeAccess } from './kube-access.ts';

function folderWith(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'kube-access-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

const ENV = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' };

test("a pod's account: address, namespace, CA and token; the token is read anew after a minute", async () => {
  const clock = new FakeClock();
  const accountFolder = folderWith({ token: 'first\n', 'ca.crt': 'CA', namespace: 'storage' });
  const access = await KubeAccess.fromEnvironment({ clock, env: ENV, accountFolder });
  assert.equal(access.server.href, 'https://[fd00::1]:6443/');
  assert.equal(access.namespace, 'storage');
  const bearer = async (): Promise<unknown> => (await access.credentials()).headers.authorization;
  assert.deepEqual(await access.credentials(), { headers: { authorization: 'Bearer first' }, tls: { ca: 'CA' } });
  writeFileSync(join(accountFolder, 'token'), 'second');
  assert.equal(await bearer(), 'Bearer first');
  await clock.advance(60_000);
  assert.equal(await bearer(), 'Bearer second');
});

test('credentials that were refused are read anew at once, once for all who were refused', async () => {
  const accountFolder = folderWith({ token: 'first', 'ca.crt': 'CA' });
  const access = await KubeAccess.fromEnvironment({ clock: new FakeClock(), env: ENV, accountFolder });
  const refused = await access.credentials();
  writeFileSync(join(accountFolder, 'token'), 'second');
  const other = await access.credentials(refused);
  assert.equal(other.headers.authorization, 'Bearer second');
  assert.equal(await access.credentials(refused), other);
});

test('a kubeconfig: address, namespace of its context, CA, certificate and token', async () => {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const user = { 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY'), token: 'T' };
  const config = {
    'current-context': 'here',
    clusters: [{ name: 'c', cluster: { server: 'https://k.example:1', 'certificate-authority-data': base64('CA') } }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'here', context: { cluster: 'c', user: 'u', namespace: 'storage' } }],
  };
  const folder = folderWith({ config: JSON.stringify(config) });
  const env = { KUBECONFIG: join(folder, 'config'), ...ENV };
  const access = await KubeAccess.fromEnvironment({ clock: new FakeClock(), env });
  assert.equal(access.server.href, 'https://k.example:1/');
  assert.equal(access.namespace, 'storage');
  const { headers, tls } = await access.credentials();
  assert.deepEqual(headers, { authorization: 'Bearer T' });
  assert.deepEqual([tls.ca, tls.cert, tls.key].map(String), ['CA', 'CERT', 'KEY']);
});

test('what cannot be used is said at the start, with the name of the file', async () => {
  const clock = new FakeClock();
  const empty = folderWith({});
  await assert.rejects(KubeAccess.fromEnvironment({ clock, env: { HOME: empty } }), {
    code: 'config_invalid',
    message: /this is no pod, and there is no kubeconfig/,
  });
  await assert.rejects(KubeAccess.fromEnvironment({ clock, env: ENV, accountFolder: empty }), {
    code: 'config_invalid',
    message: new RegExp(`Read credentials for \\[fd00::1\\]:6443 from the account in ${empty}`),
  });
  const plain = { 'current-context': 'x', clusters: [{ name: 'x', cluster: { server: 'http://k:1' } }] };
  const path = join(
    folderWith({ config: JSON.stringify({ ...plain, contexts: [{ name: 'x', context: { cluster: 'x' } }] }) }),
    'config',
  );
  await assert.rejects(KubeAccess.fromKubeconfig(path, { clock }), /only https without a proxy/);
});
