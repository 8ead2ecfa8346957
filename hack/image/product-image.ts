// The container image of Collective: one for all parts. It stands on a base without Node and takes Node from package-lock.json,
// so that the same Node runs in a cluster, on a desk and in tests. The sources lie in /opt/collective as they lie in the tree:
// Node strips types only outside node_modules, and the links in there lead out again.
//
// Its tag is the version. What it was made of stands in a label, and an image that was made of the same is not made again.

import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { buildImage, withContext } from '../kind/images.ts';
import { docker } from '../kind/lab.ts';
import { reachesRegistry } from '../kind/registry.ts';
import { listFiles, REPOSITORY_ROOT, workspaceFolders } from '../repository.ts';
import { ensureDebianBase } from './debian-base.ts';
import {
  holdsCode,
  isContainerCommand,
  isPackageFileNeeded,
  isWorkspaceFileNeeded,
  launcherOf,
} from './image-files.ts';
import { type Closure, closureOf, type NeededPackage, type PackageLock } from './lock-closure.ts';
import { billOfMaterials, type Materials } from './sbom.ts';

export const CONTENT_LABEL = 'storage.collective.content';
const IMAGE_BYTES_MAX = 250_000_000;
const INSTALLED_AT = '/opt/collective';
/** Data of a part, and invitations that a coordinator lays for its nodes. */
const VOLUME_FOLDERS = ['var/lib/collective', 'run/collective'];
/** Docker runs Linux, wherever it runs itself. */
const NODE_PACKAGE = `node-linux-${process.arch}`;

export interface ProductImage {
  readonly tag: string;
  /** Hash of all that it is made of. */
  readonly content: string;
  readonly bytes: number;
  readonly isNew: boolean;
}

export interface ImageOptions {
  /** An image to stand on, instead of the published base or one of Debian packages. */
  readonly base?: string;
  /** Where a copy of the bill of materials goes. */
  readonly sbomFile?: string;
}

export async function ensureProductImage(
  say: (line: string) => void,
  options: ImageOptions = {},
): Promise<ProductImage> {
  const { version, license: licence } = readJson<{ version: string; license: string }>('package.json');
  const tag = `collective:${version}`;
  const dockerfile = readFileSync(join(REPOSITORY_ROOT, 'Dockerfile'), 'utf8');
  const { argument, below } = await chooseBase(options.base, dockerfile, say);
  return await withContext(async (context) => {
    const { closure, node } = await layOut(context);
    const bill = billOfMaterials({ version, licence, closure, node, base: below });
    const sbom = `${JSON.stringify(bill, null, 2)}\n`;
    writeContextFile(join(context, 'sbom.cdx.json'), sbom);
    if (options.sbomFile !== undefined) writeFileSync(options.sbomFile, sbom);

    const content = hashOf(context, [dockerfile, argument ?? '']);
    const known = await inspect(tag);
    if (known?.content === content) return { tag, content, bytes: known.bytes, isNew: false };
    const buildArguments = {
      VERSION: version,
      CONTENT: content,
      ...(argument === undefined ? {} : { BASE: argument }),
    };
    await buildImage(tag, dockerfile, context, buildArguments);
    const built = await inspect(tag);
    if (built?.content !== content) throw new Error(`docker built ${tag}, but does not show it`);
    // Without its name it would only take room; one that a container runs stays.
    if (known !== undefined) await docker(['image', 'rm', known.id], { mayFail: true });
    if (built.bytes > IMAGE_BYTES_MAX) {
      throw new Error(`${tag} has ${built.bytes} bytes, at most ${IMAGE_BYTES_MAX} are allowed: look what came in`);
    }
    return { tag, content, bytes: built.bytes, isNew: true };
  });
}

/** What is given to docker as base (nothing: what the Dockerfile names), and what the bill says of it. */
async function chooseBase(
  wanted: string | undefined,
  dockerfile: string,
  say: (line: string) => void,
): Promise<{ argument: string | undefined; below: Materials['base'] }> {
  if (wanted !== undefined) return { argument: wanted, below: wanted };
  const published = /^ARG BASE=(\S+)$/m.exec(dockerfile)?.[1];
  if (published === undefined) throw new Error('The Dockerfile names no base');
  const [host = ''] = published.split('/', 1);
  if (await reachesRegistry(`https://${host}/v2/`)) return { argument: undefined, below: published };
  const { tag, ...below } = await ensureDebianBase(say);
  return { argument: tag, below };
}

/** Lays out what the Dockerfile copies. */
async function layOut(context: string): Promise<{ closure: Closure; node: NeededPackage }> {
  const lock = readJson<PackageLock>('package-lock.json');
  const programs = programsOf(workspaceFolders().filter((folder) => existsSync(join(REPOSITORY_ROOT, folder))));
  const isInstalled = (path: string): boolean => existsSync(join(REPOSITORY_ROOT, path));
  const closure = closureOf(lock, [...new Set(programs.map(({ workspace }) => workspace))], isInstalled);
  const node = nodeIn(lock);

  const tracked = await listFiles();
  for (const { path: workspace } of closure.workspaces) {
    for (const path of tracked) {
      if (!path.startsWith(`${workspace}/`) || !isWorkspaceFileNeeded(path.slice(workspace.length + 1))) continue;
      copyInto(join(REPOSITORY_ROOT, path), join(context, 'tree', path));
    }
  }
  copyInto(join(REPOSITORY_ROOT, 'LICENSE'), join(context, 'tree/LICENSE'));
  const packages = closure.packages.filter(({ path, entry }) => copyPackage(path, entry.version, context));
  for (const { path, workspace } of closure.links) {
    const link = join(context, path);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join('../'.repeat(path.split('/').length - 1), workspace), link);
  }
  for (const { name, workspace } of programs) {
    writeContextFile(join(context, 'programs', name), launcherOf(`${INSTALLED_AT}/${workspace}/src/main.ts`), 0o755);
  }
  for (const folder of VOLUME_FOLDERS) mkdirSync(join(context, 'volumes', folder), { recursive: true, mode: 0o700 });
  requireInstalled(node.path, node.entry.version);
  copyInto(join(REPOSITORY_ROOT, node.path, 'bin/node'), join(context, 'node/bin/node'));
  copyInto(join(REPOSITORY_ROOT, node.path, 'LICENSE'), join(context, 'node/share/doc/node/LICENSE'));
  return { closure: { ...closure, packages }, node };
}

/** The commands that workspaces name in their package.json, as far as they run in a container; each is started by its main.ts. */
function programsOf(workspaces: readonly string[]): { name: string; workspace: string }[] {
  return workspaces.flatMap((workspace) => {
    const { bin = {} } = readJson<{ bin?: Record<string, string> }>(`${workspace}/package.json`);
    return Object.keys(bin)
      .filter(isContainerCommand)
      .map((name) => {
        if (!existsSync(join(REPOSITORY_ROOT, workspace, 'src/main.ts'))) {
          throw new Error(
            `${workspace}/package.json names the command ${name}, but there is no ${workspace}/src/main.ts`,
          );
        }
        return { name, workspace };
      });
  });
}

function nodeIn(lock: PackageLock): NeededPackage {
  const path = `node_modules/${NODE_PACKAGE}`;
  const entry = lock.packages[path];
  if (entry === undefined) throw new Error(`package-lock.json holds no Node for this processor (${NODE_PACKAGE})`);
  return { path, name: NODE_PACKAGE, entry, needs: [] };
}

/** Whether there was anything to copy. */
function copyPackage(path: string, version: string | undefined, context: string): boolean {
  requireInstalled(path, version);
  const folder = join(REPOSITORY_ROOT, path);
  // A package within it is copied by itself, when it is needed.
  const files = globSync('**/*', { cwd: folder, exclude: ['node_modules', '**/node_modules/**'], withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter(isPackageFileNeeded);
  if (!holdsCode(files)) return false;
  const place = path.startsWith('node_modules/') ? path : join('tree', path);
  for (const file of files) copyInto(join(folder, file), join(context, place, file));
  return true;
}

function requireInstalled(path: string, version: string | undefined): void {
  const manifest = join(path, 'package.json');
  const installed = existsSync(join(REPOSITORY_ROOT, manifest))
    ? readJson<{ version?: string }>(manifest).version
    : 'none';
  if (installed === version) return;
  throw new Error(`${path}: package-lock.json says ${version}, installed is ${installed}: run "npm ci" first`);
}

/** Everybody may read, whatever the mask of the person who builds. */
function copyInto(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, (statSync(from).mode & 0o100) === 0 ? 0o644 : 0o755);
}

function writeContextFile(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
}

/** Over names, modes and bytes of all files. */
function hashOf(context: string, more: readonly string[]): string {
  const hash = createHash('sha256').update(JSON.stringify(more));
  const entries = globSync('**/*', { cwd: context, withFileTypes: true })
    .map((entry) => ({ entry, path: join(entry.parentPath, entry.name) }))
    .sort((one, other) => (one.path < other.path ? -1 : 1));
  for (const { entry, path } of entries) {
    if (entry.isDirectory()) continue;
    const bytes = entry.isSymbolicLink() ? readlinkSync(path) : readFileSync(path);
    const mode = entry.isSymbolicLink() ? 0 : statSync(path).mode;
    hash.update(`\n${path.slice(context.length)} ${mode} ${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex').slice(0, 20);
}

async function inspect(tag: string): Promise<{ id: string; content: string; bytes: number } | undefined> {
  const format = `{{.Id}} {{.Size}} {{index .Config.Labels "${CONTENT_LABEL}"}}`;
  const asked = await docker(['image', 'inspect', '--format', format, tag], { mayFail: true });
  if (asked.failed) return undefined;
  const [id = '', bytes = '', content = ''] = String(asked.stdout).trim().split(' ');
  return { id, content, bytes: Number(bytes) };
}

function readJson<Content>(path: string): Content {
  return JSON.parse(readFileSync(join(REPOSITORY_ROOT, path), 'utf8')) as Content;
}
