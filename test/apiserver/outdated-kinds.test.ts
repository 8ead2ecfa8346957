/** CRDs that come after the operator that needs them, as where they are installed apart from its chart. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { RESOURCES } from '@collective/operator/kube/resources';
import { DeclaredStatus } from '@collective/operator/runtime/declared-status';
import { until } from '../until.ts';
import type { KubeObject } from './api-client.ts';
import { installCrds, readCrds } from './crds.ts';
import { namespaceNamed, operatorApi } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';

const NAMESPACE = 'photos';
/** A kind is served a moment after it is stored. */
const SERVED_WITHIN_MS = 30_000;
const TRIED_AGAIN_AFTER_MS = 10 * 60_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
before(async () => {
  server = running.use(await TestApiServer.start());
  await installCrds(server);
  await server.admin.apply(namespaceNamed(NAMESPACE));
});
after(() => running.disposeAsync());

interface Schema {
  readonly properties: Record<string, Schema | undefined>;
  readonly items?: Schema;
}

/** Members as they were before ports were remembered. */
function olderThan(newest: KubeObject): KubeObject {
  const older = structuredClone(newest);
  const [version] = (older.spec as { versions: { schema: { openAPIV3Schema: Schema } }[] }).versions;
  const { coordinator, nodes } = version?.schema.openAPIV3Schema.properties.status?.properties ?? {};
  for (const properties of [coordinator?.properties, nodes?.items?.properties]) {
    assert.ok(properties?.nodePort !== undefined);
    delete properties.nodePort;
  }
  return older;
}

test('K1: an operator that is newer than its kinds tells what they can hold, and the rest once they are up to date', async () => {
  const newest = readCrds().find(({ metadata }) => metadata.name.startsWith('members.'));
  assert.ok(newest !== undefined);
  const member = {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Member',
    metadata: { name: 'alice', namespace: NAMESPACE },
  };
  const spec = {
    collectiveRef: { name: 'photos' },
    coordinator: { storage: { size: '1Gi' } },
    nodePools: [{ name: 'disks', replicas: 2, capacity: '1Gi' }],
  };
  await server.admin.apply({ ...member, spec });
  const status = {
    coordinator: { state: 'Ready', nodePort: 30_001 },
    nodes: [{ name: 'disks-0', pool: 'disks', state: 'Ready', nodePort: 30_002 }],
  };
  const known = {
    coordinator: { state: 'Ready' },
    nodes: [{ name: 'disks-0', pool: 'disks', state: 'Ready' }],
  };
  const told: (readonly string[])[] = [];
  const clock = new FakeClock();
  using api = await operatorApi(server, { userAgent: 'newer' });
  const statuses = new DeclaredStatus({ api, clock, onUndeclared: (_object, fields) => void told.push(fields) });
  const writes = async (): Promise<unknown> => {
    await statuses.apply(RESOURCES.members, { ...member, status }, {});
    return (await server.admin.find(member))?.status;
  };

  await server.admin.apply(olderThan(newest), { strict: true });
  await until(
    async () => {
      await writes();
      return told.length > 0;
    },
    'the older kind is served',
    SERVED_WITHIN_MS,
  );
  assert.deepEqual([told, await writes()], [[['status.coordinator.nodePort', 'status.nodes.nodePort']], known]);
  assert.deepEqual(statuses.declared(RESOURCES.members, status), known);

  await server.admin.apply(newest, { strict: true });
  await until(
    async () => {
      await clock.advance(TRIED_AGAIN_AFTER_MS);
      return JSON.stringify(await writes()).includes('nodePort');
    },
    'the newest kind is served',
    SERVED_WITHIN_MS,
  );
  assert.deepEqual(await writes(), status);
});
