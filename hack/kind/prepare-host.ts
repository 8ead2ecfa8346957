// `hack/node hack/kind/prepare-host.ts`: makes a Debian machine ready for the cluster and the container image: installs docker,
// iptables, debootstrap and Compose where they are missing, and starts docker where none runs. Does nothing where all is there, so
// that a script may call it each time. Installing is for root; for others it says what to type.

import { execa } from 'execa';
import { hasCompose } from './compose-program.ts';
import { dockerAnswers, ensureDocker } from './docker-daemon.ts';
import { run } from './lab.ts';
import { runProgram } from './program.ts';

const INSTALL_WITHIN_MS = 15 * 60_000;

/** Where Debian has what the lab runs, in the order of trial: the first that apt knows and that brings the program. */
const PACKAGES_OF: Readonly<Record<string, readonly string[]>> = {
  dockerd: ['docker.io'],
  docker: ['docker.io', 'docker-cli'],
  runc: ['runc'],
  iptables: ['iptables'],
  debootstrap: ['debootstrap'],
  'docker-compose': ['docker-compose'],
};

/** To run a docker, and to make the image of a node. */
const OF_DOCKER = ['dockerd', 'docker', 'runc', 'iptables'];
const OF_IMAGES = ['debootstrap'];
/** Where docker has no plugin of its own for it. */
const OF_COMPOSE = ['docker-compose'];

/** What to install next for the programs that are missing, given what was tried in vain. */
export function packagesFor(missing: readonly string[], tried: ReadonlySet<string>): string[] {
  const next = missing.map((program) => PACKAGES_OF[program]?.find((name) => !tried.has(name)));
  const hopeless = missing.filter((_, index) => next[index] === undefined);
  if (hopeless.length > 0) throw new Error(`No package of this machine brings ${hopeless.join(', ')}`);
  return [...new Set(next.filter((name) => name !== undefined))].sort();
}

/** Installs what is missing for a docker of the lab's own, and for node images that are made here, and sees that a docker runs. */
export async function prepareHost(
  say: (line: string) => void,
  { buildsImages, composes = false }: { buildsImages: boolean; composes?: boolean },
): Promise<void> {
  const needed = [
    ...((await dockerAnswers()) ? [] : OF_DOCKER),
    ...(buildsImages ? OF_IMAGES : []),
    ...(composes && !(await hasCompose()) ? OF_COMPOSE : []),
  ];
  await installMissing(needed, say);
  await ensureDocker(say);
}

async function missingOf(programs: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (const program of programs) {
    if ((await run('sh', ['-c', `command -v ${program}`], { mayFail: true })).failed) missing.push(program);
  }
  return missing;
}

async function installMissing(programs: readonly string[], say: (line: string) => void): Promise<void> {
  const tried = new Set<string>();
  for (let missing = await missingOf(programs); missing.length > 0; missing = await missingOf(programs)) {
    const packages = packagesFor(missing, tried);
    if (process.getuid?.() !== 0) {
      throw new Error(
        `${missing.join(', ')} missing, and only root can install: run "sudo hack/node hack/kind/prepare-host.ts" once, or "apt-get install ${packages.join(' ')}"`,
      );
    }
    if ((await run('sh', ['-c', 'command -v apt-get'], { mayFail: true })).failed) {
      throw new Error(`${missing.join(', ')} missing, and there is no apt-get here: install them as this machine does`);
    }
    say(`installing ${packages.join(', ')}`);
    // A service that a package starts by itself would run without the settings that this machine needs: docker is started below.
    const env = { DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
    const options = { env, stdin: 'ignore', timeout: INSTALL_WITHIN_MS } as const;
    if (tried.size === 0) await execa('apt-get', ['--quiet', 'update'], options);
    await execa('apt-get', ['--quiet', 'install', '--yes', '--no-install-recommends', ...packages], options);
    for (const name of packages) tried.add(name);
  }
}

if (import.meta.main) {
  const startMs = performance.now();
  await runProgram(async () => {
    await prepareHost(console.log, { buildsImages: true, composes: true });
    console.log(`this machine is ready for the lab (${((performance.now() - startMs) / 1_000).toFixed(1)} s)`);
  });
}
