// `hack/node hack/kind/build.ts [names]`: compiles the tools that are not in the cache yet, those for tests against a bare
// apiserver when no name is given. Builds take minutes and let everybody else on the machine go first; GOMAXPROCS and
// GOFLAGS=-p=1 narrow them further. A run that is ended goes on where it stood; one beside another waits for it.

import { getPriority, setPriority } from 'node:os';
import { parseArgs } from 'node:util';
import { BUILD_WITHIN_MS, buildTool } from './build-tool.ts';
import { findGo } from './go.ts';
import { withLabLock } from './lab-lock.ts';
import { runProgram } from './program.ts';
import { forgetUnusedTools, isBuilt, toolFolder } from './tool-cache.ts';
import { API_SERVER_TOOLS, TOOLS, type Tool, toolNamed } from './tools.ts';

const BACKGROUND_PRIORITY = 10;

await runProgram(async () => {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { all: { type: 'boolean' } } });
  const names = positionals.length > 0 ? positionals : values.all ? TOOLS.map(({ name }) => name) : API_SERVER_TOOLS;
  const wanted = names.map(toolNamed);
  if (!wanted.every(isBuilt)) {
    const onWait = (): void => console.log('another build is under way: waiting for its end');
    await withLabLock('build', () => buildMissing(wanted), { heldAtMostMs: BUILD_WITHIN_MS, onWait });
  }
  for (const tool of wanted) console.log(`${tool.name} ${toolFolder(tool)}`);
  const forgotten = forgetUnusedTools(Date.now());
  if (forgotten.length > 0) console.log(`removed ${forgotten.length} tools that nobody has used for a month`);
});

async function buildMissing(wanted: readonly Tool[]): Promise<void> {
  const missing = wanted.filter((tool) => !isBuilt(tool));
  if (missing.length === 0) return;
  setPriority(Math.max(getPriority(), BACKGROUND_PRIORITY));
  const go = await findGo(console.log);
  console.log(`${missing.length} of ${wanted.length} tools to build with ${go.version}`);
  for (const tool of missing) await buildTool(tool, go, console.log);
}
