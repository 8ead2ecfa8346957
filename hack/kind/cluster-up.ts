// `npm run cluster:up -- [--nodes N] [--fresh]`: the lab's cluster on this machine, three nodes by default. One that runs
// already is kept when it fits, unless it should be fresh. What it stands on is made first where it is missing: docker (by
// root, on Debian) and the programs of the lab, which take twenty minutes the first time where no registry has images.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { REPOSITORY_ROOT } from '../repository.ts';
import { ensureCluster, howToReach } from './cluster.ts';
import { prepareHost } from './prepare-host.ts';
import { runProgram } from './program.ts';
import { reachesRegistry } from './registry.ts';
import { isBuilt } from './tool-cache.ts';
import { clusterTools, toolNamed } from './tools.ts';

const NODES_MAX = 10;

await runProgram(async () => {
  const { values } = parseArgs({
    options: { nodes: { type: 'string', default: '3' }, fresh: { type: 'boolean', default: false } },
  });
  const nodes = Number(values.nodes);
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > NODES_MAX) {
    throw new Error(`--nodes ${values.nodes}: it is a number from 1 to ${NODES_MAX}`);
  }
  const startMs = performance.now();
  const say = (line: string): void =>
    console.log(`${((performance.now() - startMs) / 1_000).toFixed(0).padStart(4)} s  ${line}`);
  const isPublished = await reachesRegistry();
  await prepareHost(say, { buildsImages: !isPublished });
  const missing = clusterTools(isPublished).filter((name) => !isBuilt(toolNamed(name)));
  if (missing.length > 0) {
    say(`building ${missing.join(', ')}: minutes, once; an ended run goes on where it stood`);
    await build(missing);
    if (process.exitCode !== undefined) return;
  }
  await ensureCluster(say, { nodes, fresh: values.fresh });
  say(`ready; ${howToReach()}`);
});

/** A process of its own, since it lets others go first and the cluster should not. It says itself why it failed. */
async function build(tools: readonly string[]): Promise<void> {
  const args = [join(import.meta.dirname, 'build.ts'), ...tools];
  const shown = { cwd: REPOSITORY_ROOT, stdin: 'ignore', stdout: 'inherit', stderr: 'inherit' } as const;
  const { failed, exitCode, shortMessage } = await execa(process.execPath, args, { ...shown, reject: false });
  if (failed && exitCode === undefined) throw new Error(String(shortMessage));
  if (failed) process.exitCode = exitCode;
}
