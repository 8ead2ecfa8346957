// Compiles one tool into the cache. Go keeps what it has compiled, so a build that was ended goes on where it stood, and
// tools of one family share most of their work.

import { globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { environmentForGo, type Go } from './go.ts';
import { toolFolder } from './tool-cache.ts';
import { FAMILIES_FOLDER, type Tool } from './tools.ts';

const PROGRESS_EVERY_MS = 15_000;
/** Of one tool, and of all that one run builds. */
export const BUILD_WITHIN_MS = 3 * 3_600_000;
const SHOWN_LINES_MAX = 30;

export async function buildTool(tool: Tool, go: Go, say: (line: string) => void): Promise<void> {
  const folder = toolFolder(tool);
  mkdirSync(dirname(folder), { recursive: true });
  const unfinished = mkdtempSync(`${folder}.`);
  try {
    await compile(tool, go, join(unfinished, tool.name), say);
    for (const { module, path, name } of tool.folders ?? []) {
      const { stdout } = await execa(go.program, ['list', '-m', '-f', '{{.Dir}}', module], inFamily(tool));
      copyWritable(join(stdout, path), join(unfinished, name));
    }
    rmSync(folder, { recursive: true, force: true });
    renameSync(unfinished, folder);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

async function compile(tool: Tool, go: Go, output: string, say: (line: string) => void): Promise<void> {
  const stamps = Object.entries(tool.stamps ?? {}).map(([variable, value]) => `-X ${variable}=${value}`);
  const flags = ['-trimpath', '-buildvcs=false', '-mod=readonly', '-ldflags', ['-s -w', ...stamps].join(' ')];
  const building = execa(go.program, ['build', '-v', ...flags, '-o', output, tool.package], {
    ...inFamily(tool),
    timeout: BUILD_WITHIN_MS,
    stdin: 'ignore',
    buffer: false,
    reject: false,
  });
  const startMs = performance.now();
  let packages = 0;
  let newest = 'nothing compiled yet';
  const last: string[] = [];
  const progress = setInterval(() => {
    say(`${tool.name}: ${packages} packages compiled in ${seconds(startMs)}, newest: ${newest}`);
  }, PROGRESS_EVERY_MS);
  try {
    for await (const line of building.iterable({ from: 'stderr' })) {
      if (!/\s/.test(line)) packages += 1;
      newest = line;
      last.push(line);
      if (last.length > SHOWN_LINES_MAX) last.shift();
    }
    const ended = await building;
    if (ended.failed) throw new Error(`Compile ${tool.name}: ${ended.shortMessage}\n${last.join('\n')}`);
  } finally {
    clearInterval(progress);
  }
  say(`${tool.name}: built in ${seconds(startMs)}, of which ${packages} packages were new`);
}

/** Go keeps modules without write bits; a copy with them could not be removed again. */
function copyWritable(from: string, to: string): void {
  for (const file of globSync('**/*', { cwd: from })) {
    if (!statSync(join(from, file)).isFile()) continue;
    mkdirSync(dirname(join(to, file)), { recursive: true });
    writeFileSync(join(to, file), readFileSync(join(from, file)));
  }
}

function inFamily(tool: Tool): { cwd: string; env: NodeJS.ProcessEnv } {
  return { cwd: join(FAMILIES_FOLDER, tool.family), env: environmentForGo() };
}

function seconds(startMs: number): string {
  return `${((performance.now() - startMs) / 1_000).toFixed(0)} s`;
}
