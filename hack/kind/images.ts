// Container images from files that lie here: no layer comes from a registry. An image is a folder with a Dockerfile; docker's
// own cache answers when nothing in it has changed.

import { copyFileSync, linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { docker, labFolder } from './lab.ts';

export interface ProgramImage {
  readonly tag: string;
  /** Paths of programs; they go to /usr/local/bin. */
  readonly programs: readonly string[];
  /** Name of the program that starts, and what comes before a pod's own arguments. */
  readonly entrypoint?: readonly string[];
  /** Image below, nothing by default. */
  readonly from?: string;
  /** Who runs it; a number, because nothing in the image could tell who a name is. */
  readonly user?: number;
}

export function dockerfileOf({ entrypoint, from = 'scratch', user }: Omit<ProgramImage, 'tag' | 'programs'>): string {
  const [program, ...args] = entrypoint ?? [];
  const lines = [
    `FROM ${from}`,
    'COPY . /usr/local/bin/',
    'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ...(user === undefined ? [] : [`USER ${user}:${user}`]),
    ...(program === undefined ? [] : [`ENTRYPOINT ${JSON.stringify([`/usr/local/bin/${program}`, ...args])}`]),
  ];
  return `${lines.join('\n')}\n`;
}

export async function buildProgramImage(image: ProgramImage): Promise<void> {
  await withContext(async (folder) => {
    for (const program of image.programs)
      linkOrCopy(program, join(folder, program.slice(program.lastIndexOf('/') + 1)));
    await buildImage(image.tag, dockerfileOf(image), folder);
  });
}

export async function buildImage(
  tag: string,
  dockerfile: string,
  contextFolder: string,
  buildArguments: Readonly<Record<string, string>> = {},
): Promise<void> {
  const given = Object.entries(buildArguments).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]);
  const file = `${contextFolder}.Dockerfile`;
  writeFileSync(file, dockerfile);
  try {
    await docker(['build', '--quiet', '--tag', tag, '--file', file, ...given, contextFolder]);
  } finally {
    rmSync(file);
  }
}

/** An empty folder below the lab's, so that large files can be linked into it and need not be copied. */
export async function withContext<Result>(use: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = mkdtempSync(join(labFolder(), 'context-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function imageExists(tag: string): Promise<boolean> {
  return !(await docker(['image', 'inspect', '--format', '{{.Id}}', tag], { mayFail: true })).failed;
}

export function linkOrCopy(from: string, to: string): void {
  mkdirSync(join(to, '..'), { recursive: true });
  try {
    linkSync(from, to);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'EXDEV') throw thrown;
    copyFileSync(from, to);
  }
}
