// Where built tools lie: <cache>/<key>/<name>, where the key is a hash of everything that a tool is made of (its family's
// go.mod, go.sum and sources, its entry in the table, this platform). Whoever changes one of them gets another folder, and
// a folder is there only when its tool is whole: it is made under another name and then renamed.
//
// The cache belongs to the person at the desk and not to one tree, and it is found even where a test has a HOME of its own.

import { createHash } from 'node:crypto';
import { existsSync, globSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { FAMILIES_FOLDER, type Tool, type ToolName, toolNamed } from './tools.ts';

/** Goes up when the same ingredients give other bytes, as when the way of building changes. */
const RECIPE = 1;
const KEY_CHARACTERS = 20;
const UNUSED_DAYS_MAX = 30;
const DAY_MS = 86_400_000;

export function toolCacheFolder(): string {
  return process.env.LAB_TOOLS ?? join(userInfo().homedir, '.cache/collective/tools');
}

/** The folder that holds, or will hold, a tool made of what the tree says now. */
export function toolFolder(tool: Tool): string {
  const family = join(FAMILIES_FOLDER, tool.family);
  const sources = globSync('{go.mod,go.sum,**/*.go}', { cwd: family }).sort();
  const ingredients = sources.map((path) => ({ path, bytes: readFileSync(join(family, path)) }));
  return join(toolCacheFolder(), toolKey(tool, ingredients, `${process.platform}-${process.arch}`));
}

export function toolKey(
  tool: Tool,
  ingredients: readonly { readonly path: string; readonly bytes: Buffer }[],
  platform: string,
): string {
  const hash = createHash('sha256').update(JSON.stringify([RECIPE, platform, tool]));
  for (const { path, bytes } of ingredients) hash.update(`\n${path} ${bytes.length}\n`).update(bytes);
  return hash.digest('hex').slice(0, KEY_CHARACTERS);
}

export function isBuilt(tool: Tool): boolean {
  return existsSync(join(toolFolder(tool), tool.name));
}

/** Folders of built tools by name. Fails with the command that builds those that are missing. */
export function findTools<Name extends ToolName>(names: readonly Name[]): Record<Name, string> {
  const missing = names.filter((name) => !isBuilt(toolNamed(name)));
  if (missing.length > 0) {
    throw new Error(
      `Not built yet: ${missing.join(', ')}. Run "hack/node hack/kind/build.ts ${missing.join(' ')}" (minutes, once; an ended run goes on where it stood)`,
    );
  }
  const folders = names.map((name) => [name, toolFolder(toolNamed(name))] as const);
  for (const [, folder] of folders) noteUse(folder);
  return Object.fromEntries(folders) as Record<Name, string>;
}

/** Removes what nobody has used for a month, so that old versions do not pile up. */
export function forgetUnusedTools(nowMs: number): string[] {
  const cache = toolCacheFolder();
  if (!existsSync(cache)) return [];
  const unused = readdirSync(cache).filter(
    (name) => nowMs - statSync(join(cache, name)).mtimeMs > UNUSED_DAYS_MAX * DAY_MS,
  );
  for (const name of unused) rmSync(join(cache, name), { recursive: true, force: true });
  return unused;
}

function noteUse(folder: string): void {
  const now = new Date();
  utimesSync(folder, now, now);
}
