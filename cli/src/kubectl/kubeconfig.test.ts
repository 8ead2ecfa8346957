import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { chooseCluster } from './kubeconfig.ts';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'collective-kubeconfig-'));
  mkdirSync(join(folder, '.kube'));
  write('.kube/config', 'home', 'home-ns');
  write('one', 'one', 'first');
  write('two', 'one', 'second');
  write('three', 'three', undefined);
  writeFileSync(join(folder, 'broken'), 'contexts: [');
  writeFileSync(join(folder, 'no-cluster'), JSON.stringify({ contexts: [{ name: 'a', context: { cluster: 'b' } }] }));
});
after(() => rmSync(folder, { recursive: true }));

function write(name: string, context: string, namespace: string | undefined): void {
  const config = {
    'current-context': context,
    clusters: [{ name: context, cluster: { server: `https://${name.replace('.kube/', '')}.example:6443/k8s/` } }],
    users: [{ name: context, user: {} }],
    contexts: [{ name: context, context: { cluster: context, user: context, namespace } }],
  };
  writeFileSync(join(folder, name), JSON.stringify(config));
}

const choose = (wish: Parameters<typeof chooseCluster>[0], env: Record<string, string> = {}) =>
  chooseCluster(wish, { HOME: folder, ...env }, folder);

test('the flag, else KUBECONFIG, else ~/.kube/config; the namespace of the flag, else of the context, else default', async () => {
  const { server, namespace, kubeconfig } = await choose({});
  assert.deepEqual([server, namespace, kubeconfig], ['https://config.example:6443/k8s', 'home-ns', undefined]);
  const byEnv = await choose({}, { KUBECONFIG: 'three' });
  assert.deepEqual([byEnv.context, byEnv.namespace, byEnv.kubeconfig], ['three', 'default', join(folder, 'three')]);
  const byFlag = await choose({ kubeconfig: 'one', namespace: 'other' }, { KUBECONFIG: 'three' });
  assert.deepEqual([byFlag.context, byFlag.namespace], ['one', 'other']);
});

test('of several files in KUBECONFIG the first that names a thing wins, and files that are not there are passed over', async () => {
  const chosen = await choose({}, { KUBECONFIG: 'absent:one:two:three' });
  assert.deepEqual([chosen.server, chosen.namespace], ['https://one.example:6443/k8s', 'first']);
  const other = await choose({ context: 'three' }, { KUBECONFIG: 'one:two:three' });
  assert.equal(other.server, 'https://three.example:6443/k8s');
});

test('what cannot be used says which file and what to do', async () => {
  await assert.rejects(choose({ kubeconfig: 'absent' }), {
    code: 'not_found',
    message: /absent: there is no such file/,
  });
  await assert.rejects(choose({ kubeconfig: 'broken' }), {
    code: 'config_invalid',
    message: /Read the kubeconfig .*broken/,
  });
  await assert.rejects(choose({ context: 'prod' }), { code: 'not_found', todo: 'Choose one by --context: home.' });
  await assert.rejects(choose({ kubeconfig: 'no-cluster' }), { code: 'not_found', message: /none is set/ });
  await assert.rejects(choose({ kubeconfig: 'no-cluster', context: 'a' }), {
    code: 'config_invalid',
    message: /no cluster 'b'/,
  });
  await assert.rejects(choose({}, { HOME: join(folder, 'nobody') }), { code: 'not_found', message: /there is none/ });
});
