// Where the lab's cluster keeps its things, and how its programs are run. All of it belongs to the person at the desk: one
// cluster serves every tree.

import { mkdirSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { execa, type Result } from 'execa';
import { findTools } from './tool-cache.ts';

export const CLUSTER = 'collective';
const COMMAND_WITHIN_MS = 10 * 60_000;

export interface RunOptions {
  readonly input?: string;
  /** Path of a file that is its standard input. */
  readonly inputFile?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Answers a failure instead of throwing it. */
  readonly mayFail?: boolean;
}

export function labFolder(): string {
  const folder = process.env.LAB_FOLDER ?? join(userInfo().homedir, '.cache/collective/lab');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Never the person's own kubeconfig. */
export function kubeconfigFile(): string {
  return join(labFolder(), 'kubeconfig');
}

export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const { input, inputFile, env = {}, mayFail = false } = options;
  const stdin =
    inputFile !== undefined ? { inputFile } : input !== undefined ? { input } : { stdin: 'ignore' as const };
  return await execa(program, args, {
    env,
    reject: !mayFail,
    timeout: COMMAND_WITHIN_MS,
    ...stdin,
  });
}

export async function kubectl(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  return await run(join(findTools(['kubectl']).kubectl, 'kubectl'), args, withKubeconfig(options));
}

export async function helm(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  return await run(join(findTools(['helm']).helm, 'helm'), args, withKubeconfig(options));
}

export async function kind(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  return await run(join(findTools(['kind']).kind, 'kind'), args, withKubeconfig(options));
}

/** Without BuildKit: not every docker has it, and what is built here is a few files in a folder. */
export async function docker(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  return await run('docker', args, { ...options, env: { ...options.env, DOCKER_BUILDKIT: '0' } });
}

export async function clusterExists(): Promise<boolean> {
  const { stdout } = await kind(['get', 'clusters']);
  return String(stdout).split('\n').includes(CLUSTER);
}

function withKubeconfig(options: RunOptions): RunOptions {
  return { ...options, env: { ...options.env, KUBECONFIG: kubeconfigFile() } };
}
