import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject } from '../kube/kube-object.ts';
import { exampleCollective } from '../member/example-member.ts';
import { PodMonitorKeeper } from './pod-monitor-keeper.ts';

const collective = exampleCollective();
const { signal } = new AbortController();
const owner = { apiVersion: 'v1', kind: 'Collective', name: 'photos', uid: 'f07', controller: true };

/** What is done where a PodMonitor of that name is there already. */
async function done(enabled: boolean, ownerReferences: readonly (typeof owner)[] | undefined): Promise<string[]> {
  const deeds: string[] = [];
  const metadata = { name: 'photos', namespace: 'team', uid: 'm1', ...(ownerReferences ? { ownerReferences } : {}) };
  const found: KubeObject = { apiVersion: 'monitoring.coreos.com/v1', kind: 'PodMonitor', metadata };
  const keeper = new PodMonitorKeeper({
    api: {
      get: async () => found,
      apply: async (_, object) => {
        deeds.push('apply');
        return object;
      },
      delete: async (_, options) => deeds.push(`delete ${options?.uid}`) > 0,
    },
    events: { record: (_, { reason }) => void deeds.push(reason) },
  });
  await keeper.keep({ ...collective, spec: { ...collective.spec, monitoring: { enabled } } }, signal);
  return deeds;
}

test('K1: a PodMonitor that is not of this Collective is neither written nor removed', async () => {
  assert.deepEqual(await done(true, undefined), ['NameTaken']);
  assert.deepEqual(await done(true, [{ ...owner, uid: 'another' }]), ['NameTaken']);
  assert.deepEqual(await done(false, undefined), []);
});

test('K1: its own is written, and removed when it is not asked for any more', async () => {
  assert.deepEqual(await done(true, [owner]), ['apply']);
  assert.deepEqual(await done(false, [owner]), ['delete m1']);
});
