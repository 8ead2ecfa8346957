// Which tests exist and on which level each stands: beside the source (unit), several rooms in one simulated process (sim),
// or real processes of a member (integration). A level says how much runs, not how long it may take. What takes minutes and
// tens of gigabytes is a level of its own (full, e2e-full), which runs only when it is asked for. What needs foreign programs says
// what makes them: a real apiserver (apiserver), a whole cluster and the container image (e2e; e2e-full is all of it).

import { globSync } from 'node:fs';
import { join } from 'node:path';

export const TEST_LEVELS = ['unit', 'sim', 'integration', 'apiserver', 'full', 'e2e', 'e2e-full'] as const;
export type TestLevel = (typeof TEST_LEVELS)[number];
export const DEFAULT_LEVELS: readonly TestLevel[] = ['unit', 'sim', 'integration', 'apiserver', 'e2e'];

const CLUSTER = [['hack/kind/prepare-host.ts'], ['hack/kind/build.ts', '--all']];

/** Programs of this tree that make what a level needs: minutes the first time, seconds when it is there. */
export const PREPARED_BY: Partial<Readonly<Record<TestLevel, readonly (readonly string[])[]>>> = {
  apiserver: [['hack/kind/build.ts']],
  e2e: CLUSTER,
  'e2e-full': CLUSTER,
};

/** Levels whose files run one after the other: they share one cluster, and some of them stop its nodes. */
export const SERIAL_LEVELS: ReadonlySet<TestLevel> = new Set(['e2e', 'e2e-full']);

/** Levels so long that a run of them may be ended and go on another time: what passed is kept. */
export const KEPT_LEVELS: ReadonlySet<TestLevel> = new Set(['full', 'e2e', 'e2e-full']);

/** Every test file below the given folders of the root, relative to the root, sorted. */
export function findTestFiles(root: string, folders: readonly string[]): string[] {
  return folders
    .flatMap((folder) =>
      globSync('**/*.test.ts', { cwd: join(root, folder), exclude: ['**/node_modules/**'] }).map(
        (path) => `${folder}/${path}`,
      ),
    )
    .sort();
}

export function levelOf(path: string): TestLevel {
  if (path.startsWith('test/integration/full/')) return 'full';
  if (path.startsWith('test/integration/')) return 'integration';
  if (path.startsWith('test/apiserver/')) return 'apiserver';
  if (path.startsWith('test/e2e/full/')) return 'e2e-full';
  if (path.startsWith('test/e2e/')) return 'e2e';
  if (path.startsWith('test/sim/')) return 'sim';
  return 'unit';
}
