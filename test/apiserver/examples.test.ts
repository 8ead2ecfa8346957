import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import type { KubeObject } from './api-client.ts';
import { installCrds } from './crds.ts';
import { TestApiServer } from './test-apiserver.ts';

const EXAMPLES = join(import.meta.dirname, '../../examples');
const FOLDERS = ['homelab', 'scale-test', 'three-member'];

const running = new AsyncDisposableStack();
let server: TestApiServer;
before(async () => {
  server = running.use(await TestApiServer.start());
  await installCrds(server);
});
after(() => running.disposeAsync());

/** In the order in which `kubectl apply -f FOLDER` sends them. */
function objectsOf(folder: string): readonly KubeObject[] {
  return globSync('*.yaml', { cwd: join(EXAMPLES, folder) })
    .sort()
    .flatMap((file) => documents(readFileSync(join(EXAMPLES, folder, file), 'utf8')));
}

function documents(text: string): readonly KubeObject[] {
  return parseAllDocuments(text).map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as KubeObject;
  });
}

const ofKind = (kind: string, objects: readonly KubeObject[]) => objects.filter((object) => object.kind === kind);

for (const folder of FOLDERS) {
  describe(`examples/${folder}`, () => {
    const objects = objectsOf(folder);

    test('K1: the apiserver takes every object as it lies, with no field that it does not know', async () => {
      for (const object of objects) {
        // A dry run stores no namespace in which the next one could be judged.
        const dryRun = object.kind !== 'Namespace';
        await server.admin.apply(object, { strict: true, dryRun });
      }
    });

    test('K1: every Member is in the namespace of the Collective that it names', () => {
      const members = ofKind('Member', objects);
      assert.ok(members.length > 0);
      for (const { metadata, spec } of members) {
        const { collectiveRef } = spec as { collectiveRef: { name: string } };
        const named = ofKind('Collective', objects).filter(
          (collective) =>
            collective.metadata.name === collectiveRef.name && collective.metadata.namespace === metadata.namespace,
        );
        assert.equal(named.length, 1, metadata.name);
      }
    });
  });
}

test('every folder of examples is tried above', () => {
  const folders = globSync('*/*.yaml', { cwd: EXAMPLES }).map((path) => path.split('/', 1)[0]);
  assert.deepEqual([...new Set(folders)].filter((folder) => folder !== 'compose').sort(), FOLDERS);
});

test('three people have a member each, of the same size', () => {
  const members = ofKind('Member', objectsOf('three-member'));
  assert.deepEqual(
    members.map(({ metadata }) => metadata.name),
    ['alice', 'bob', 'carol'],
  );
  for (const { spec } of members) assert.deepEqual(spec, members[0]?.spec);
});

test('the member of the scale test becomes fifty by its name', async () => {
  const text = readFileSync(join(EXAMPLES, 'scale-test/20-member.yaml'), 'utf8');
  await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'scale' } });
  for (let number = 1; number <= 50; number += 1) {
    const name = `member-${String(number).padStart(2, '0')}`;
    for (const member of documents(text.replaceAll('member-01', name))) {
      assert.equal((await server.admin.apply(member, { strict: true, dryRun: true })).metadata.name, name);
    }
  }
});

test("the volumes of the homelab fit what its member asks of each disk's class", () => {
  const objects = objectsOf('homelab');
  const offered = ofKind('PersistentVolume', objects).map(({ spec }) => {
    const { storageClassName, capacity } = spec as { storageClassName: string; capacity: { storage: string } };
    return `${storageClassName} ${capacity.storage}`;
  });
  const [member] = ofKind('Member', objects);
  assert.ok(member !== undefined);
  const { coordinator, nodePools, backup } = member.spec as {
    coordinator: { storage: Volume };
    nodePools: readonly { capacity: string; storageClass: string }[];
    backup: { storage: Volume };
  };
  const asked = [
    coordinator.storage,
    ...nodePools.map(({ capacity: size, ...pool }) => ({ ...pool, size })),
    backup.storage,
  ];
  assert.deepEqual(offered.sort(), asked.map(({ storageClass, size }) => `${storageClass} ${size}`).sort());
});

interface Volume {
  readonly size: string;
  readonly storageClass: string;
}
