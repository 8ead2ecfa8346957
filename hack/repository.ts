// Where things lie in this repository, for the programs in hack/. The list of files is git's: tracked files and new ones
// that are not ignored, so that a check judges the same tree on a desk and on a fresh clone.

import { existsSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { execa } from 'execa';

export const REPOSITORY_ROOT = dirname(import.meta.dirname);

/** Paths of the tree's files, relative to the root, with forward slashes, sorted. */
export async function listFiles(): Promise<string[]> {
  const arguments_ = ['-c', 'safe.directory=*', 'ls-files', '--cached', '--others', '--exclude-standard', '-z'];
  const { stdout } = await execa('git', arguments_, { cwd: REPOSITORY_ROOT });
  const paths = new Set(stdout.split('\0').filter((path) => path !== ''));
  return [...paths].filter((path) => existsSync(join(REPOSITORY_ROOT, path))).sort();
}

export function isGenerated(path: string): boolean {
  return path.includes('/gen/');
}

/** The folders named under "workspaces" in the root's package.json. */
export function workspaceFolders(): string[] {
  const manifest = JSON.parse(readFileSync(join(REPOSITORY_ROOT, 'package.json'), 'utf8')) as { workspaces: string[] };
  return manifest.workspaces;
}

/** Environment in which `#!/usr/bin/env node` finds the Node that runs us and not the one that npm runs on. */
export function environmentOfThisNode(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: [dirname(process.execPath), process.env.PATH ?? ''].join(delimiter) };
}
