/** The kinds of the Prometheus operator, as it publishes them: what an apiserver judges our monitors and rules by. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { KubeObject } from './api-client.ts';
import { installCrd } from './crds.ts';
import type { TestApiServer } from './test-apiserver.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/prometheus-operator');

export async function installPrometheusCrds(server: TestApiServer): Promise<void> {
  for (const file of globSync('*.yaml', { cwd: FOLDER }).sort()) {
    await installCrd(server, parse(readFileSync(join(FOLDER, file), 'utf8')) as KubeObject);
  }
}
