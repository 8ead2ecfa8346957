// Compose by both of its names: the plugin of docker, or Debian's docker-compose, where the plugin is missing.

import type { Result } from 'execa';
import { type RunOptions, run } from './lab.ts';

const NAMES: readonly (readonly [string, ...string[]])[] = [['docker', 'compose'], ['docker-compose']];

let known: readonly [string, ...string[]] | undefined;

export async function hasCompose(): Promise<boolean> {
  return (await composeProgram()) !== undefined;
}

export async function compose(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const [program, ...first] = (await composeProgram()) ?? [];
  if (program === undefined)
    throw new Error(
      'Neither "docker compose" nor "docker-compose" answers: run "sudo hack/node hack/kind/prepare-host.ts" once',
    );
  return await run(program, [...first, ...args], options);
}

async function composeProgram(): Promise<readonly [string, ...string[]] | undefined> {
  for (const name of known === undefined ? NAMES : []) {
    const [program, ...first] = name;
    const asked = await run(program, [...first, 'version'], { mayFail: true });
    if (!asked.failed) known ??= name;
  }
  return known;
}
