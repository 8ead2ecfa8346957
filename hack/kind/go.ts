// Finds a Go that can compile the tools: the go command in the PATH, however old, as long as it can fetch a newer one by
// itself (the "toolchain" line of a family's go.mod says which). Where there is none, that same toolchain is fetched as the
// Go module that it is, checked against its checksum here, and kept beside the tools.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { moduleHash, readZip } from './module-zip.ts';
import { toolCacheFolder } from './tool-cache.ts';

/** The first go command that can change itself into another version. */
const OLDEST_GO = [1, 21] as const;

/** Goes with the "toolchain" line of every go.mod below hack/kind/go. */
export const TOOLCHAIN = 'go1.26.8';
/** As in go.sum: "h1:" of the module golang.org/toolchain for a platform of Node's. */
const TOOLCHAINS: Readonly<Record<string, { readonly platform: string; readonly hash: string }>> = {
  'linux-x64': { platform: 'linux-amd64', hash: 'h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=' },
  'linux-arm64': { platform: 'linux-arm64', hash: 'h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=' },
};
const FETCH_WITHIN_MS = 10 * 60_000;

export interface Go {
  readonly program: string;
  readonly version: string;
}

export async function findGo(say: (line: string) => void): Promise<Go> {
  const asked = await execa('go', ['env', 'GOVERSION'], { env: { GOTOOLCHAIN: 'local' }, reject: false });
  const version = asked.failed ? '' : asked.stdout.trim();
  if (isNewEnough(version)) return { program: 'go', version };
  return await fetchedGo(say);
}

/** `go1.26.8` and `devel go1.27-abc` are versions, and so is what a distribution appends. */
export function isNewEnough(version: string): boolean {
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(major) > OLDEST_GO[0] || (Number(major) === OLDEST_GO[0] && Number(minor) >= OLDEST_GO[1]);
}

/** The person's own proxy, caches and flags stay; only what decides about the result is ours. */
export function environmentForGo(): NodeJS.ProcessEnv {
  return { CGO_ENABLED: '0', GOWORK: 'off', GOTOOLCHAIN: process.env.GOTOOLCHAIN ?? 'auto' };
}

async function fetchedGo(say: (line: string) => void): Promise<Go> {
  const folder = join(toolCacheFolder(), `${TOOLCHAIN}-${process.platform}-${process.arch}`);
  const program = join(folder, 'bin/go');
  if (!existsSync(program)) await fetchGo(folder, say);
  return { program, version: TOOLCHAIN };
}

async function fetchGo(folder: string, say: (line: string) => void): Promise<void> {
  const toolchain = TOOLCHAINS[`${process.platform}-${process.arch}`];
  const proxy = firstProxy(process.env.GOPROXY ?? goSetting('GOPROXY') ?? '');
  if (toolchain === undefined || proxy === undefined) {
    throw new Error(
      `No Go ${OLDEST_GO.join('.')} or newer is in the PATH: install one, or set GOPROXY to a module proxy that has golang.org/toolchain for ${process.platform}`,
    );
  }
  const version = `v0.0.1-${TOOLCHAIN}.${toolchain.platform}`;
  say(`fetching Go as the module golang.org/toolchain ${version}`);
  const answer = await fetch(`${proxy}/golang.org/toolchain/@v/${version}.zip`, {
    signal: AbortSignal.timeout(FETCH_WITHIN_MS),
  });
  if (!answer.ok) throw new Error(`Fetch golang.org/toolchain ${version}: the module proxy answers ${answer.status}`);
  const files = readZip(Buffer.from(await answer.arrayBuffer()));
  const hash = moduleHash(files);
  if (hash !== toolchain.hash) {
    throw new Error(`Fetch golang.org/toolchain ${version}: its checksum is ${hash}, not ${toolchain.hash}`);
  }
  mkdirSync(dirname(folder), { recursive: true });
  const unfinished = mkdtempSync(`${folder}.`);
  try {
    const prefix = `golang.org/toolchain@${version}/`;
    for (const { name, bytes } of files) {
      const file = join(unfinished, name.slice(prefix.length));
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, bytes);
      // A module carries no modes; what Go runs lies in these two folders.
      if (/^(bin|pkg\/tool)\//.test(name.slice(prefix.length))) chmodSync(file, 0o755);
    }
    renameSync(unfinished, folder);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

/** GOPROXY is a list of URLs and words; only an URL can be asked without a go command. */
export function firstProxy(list: string): string | undefined {
  return list
    .split(/[,|]/)
    .map((entry) => entry.trim().replace(/\/$/, ''))
    .find((entry) => /^https?:\/\//.test(entry));
}

/** What `go env -w` has written down. */
function goSetting(name: string): string | undefined {
  const file = join(process.env.XDG_CONFIG_HOME ?? join(userInfo().homedir, '.config'), 'go/env');
  if (!existsSync(file)) return undefined;
  return new RegExp(`^${name}=(.*)$`, 'm').exec(readFileSync(file, 'utf8'))?.[1];
}
