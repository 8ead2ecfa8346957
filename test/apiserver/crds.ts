/** The kinds of Collective on a test's apiserver, from the files that people apply. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { hasCondition, type KubeObject } from './api-client.ts';
import type { TestApiServer } from './test-apiserver.ts';

const CRDS_FOLDER = join(import.meta.dirname, '../../crds');

export function readCrds(): readonly KubeObject[] {
  const files = globSync('*.yaml', { cwd: CRDS_FOLDER }).sort();
  return files.map((file) => parse(readFileSync(join(CRDS_FOLDER, file), 'utf8')) as KubeObject);
}

/** Applies them and waits until objects of these kinds can be stored. */
export async function installCrds({ admin }: TestApiServer): Promise<void> {
  await Promise.all(
    readCrds().map(async (crd) => {
      await admin.apply(crd, { strict: true });
      await admin.when(crd, (object) => hasCondition(object, 'Established'), 'is established');
    }),
  );
}
