/** The kinds of Collective on a test's apiserver, from the files that people apply. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { until } from '../until.ts';
import { type ApplyOptions, hasCondition, isPassing, type KubeObject } from './api-client.ts';
import type { TestApiServer } from './test-apiserver.ts';

const SERVED_WITHIN_MS = 60_000;
const CRDS_FOLDER = join(import.meta.dirname, '../../crds');

export function readCrds(): readonly KubeObject[] {
  const files = globSync('*.yaml', { cwd: CRDS_FOLDER }).sort();
  return files.map((file) => parse(readFileSync(join(CRDS_FOLDER, file), 'utf8')) as KubeObject);
}

/** Applies them and waits until objects of these kinds can be stored. */
export async function installCrds(server: TestApiServer): Promise<void> {
  await Promise.all(readCrds().map((crd) => installCrd(server, crd, { strict: true })));
}

/** That it is Established is not yet enough: the server tells of its kinds, and has a place for them, some moments later. */
export async function installCrd({ admin }: TestApiServer, crd: KubeObject, options: ApplyOptions = {}): Promise<void> {
  await admin.apply(crd, options);
  await admin.when(crd, (object) => hasCondition(object, 'Established'), 'is established');
  const { group, names, versions } = crd.spec as {
    readonly group: string;
    readonly names: { readonly kind: string };
    readonly versions: readonly { readonly name: string; readonly served: boolean }[];
  };
  for (const { name } of versions.filter(({ served }) => served)) {
    let refused: unknown;
    const isServed = async (): Promise<boolean> => {
      try {
        await admin.list(`${group}/${name}`, names.kind);
        return true;
      } catch (thrown) {
        if (!isPassing(thrown)) throw thrown;
        refused = thrown;
        return false;
      }
    };
    await until(isServed, `${names.kind} of ${group}/${name} is served`, SERVED_WITHIN_MS, () => String(refused));
  }
}
