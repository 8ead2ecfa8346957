// Which packages of package-lock.json some workspaces need to run: their dependencies and what those need in turn, found as
// Node finds them, in the nearest node_modules above. What only tests and developer programs need is not among them.

export interface LockEntry {
  readonly version?: string;
  readonly license?: unknown;
  readonly integrity?: string;
  readonly link?: boolean;
  /** Folder of the workspace that a link leads to. */
  readonly resolved?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

export interface PackageLock {
  readonly packages: Readonly<Record<string, LockEntry>>;
}

export interface NeededPackage {
  /** Where it lies below the root, as package-lock.json names it: a folder in a node_modules, or a workspace. */
  readonly path: string;
  readonly name: string;
  readonly entry: LockEntry;
  /** Paths of what it needs itself. */
  readonly needs: readonly string[];
}

export interface Closure {
  /** Folders of workspaces, the given ones and those that they need. */
  readonly workspaces: readonly NeededPackage[];
  readonly packages: readonly NeededPackage[];
  /** Links in node_modules to these workspaces. */
  readonly links: readonly { readonly path: string; readonly workspace: string }[];
}

/** `isInstalled` decides on optional packages only: those of other platforms are locked, but do not lie here. */
export function closureOf(
  lock: PackageLock,
  workspaces: readonly string[],
  isInstalled: (path: string) => boolean,
): Closure {
  const found = new Map<string, NeededPackage>();
  const links = new Map<string, string>();
  const waiting = [...workspaces];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (found.has(path)) continue;
    const entry = entryAt(lock, path);
    const needs = needsOf(lock, path, entry, isInstalled).map((needed) => {
      const { link, resolved = '' } = entryAt(lock, needed);
      if (link !== true) return needed;
      links.set(needed, resolved);
      return resolved;
    });
    found.set(path, { path, name: nameAt(path), entry, needs: [...new Set(needs)].sort() });
    waiting.push(...needs);
  }
  const all = [...found.values()].sort((one, other) => compare(one.path, other.path));
  return {
    workspaces: all.filter(({ path }) => !isPackagePath(path)),
    packages: all.filter(({ path }) => isPackagePath(path)),
    links: [...links].map(([path, workspace]) => ({ path, workspace })).sort((a, b) => compare(a.path, b.path)),
  };
}

function needsOf(
  lock: PackageLock,
  path: string,
  { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta }: LockEntry,
  isInstalled: (path: string) => boolean,
): string[] {
  const optional = new Set([
    ...Object.keys(optionalDependencies ?? {}),
    ...Object.keys(peerDependencies ?? {}).filter((name) => peerDependenciesMeta?.[name]?.optional === true),
  ]);
  const needs: string[] = [];
  for (const name of Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies })) {
    const needed = resolve(lock, path, name);
    if (optional.has(name)) {
      if (needed !== undefined && isInstalled(needed)) needs.push(needed);
    } else if (needed === undefined) {
      throw new Error(`package-lock.json holds no "${name}", which "${path}" needs: run "npm install"`);
    } else {
      needs.push(needed);
    }
  }
  return needs;
}

/** In the node_modules of `path` itself or of a folder above it. */
function resolve(lock: PackageLock, path: string, name: string): string | undefined {
  for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/')))) {
    const here = `${folder}${folder === '' ? '' : '/'}node_modules/${name}`;
    if (lock.packages[here] !== undefined) return here;
    if (folder === '') return undefined;
  }
}

function entryAt(lock: PackageLock, path: string): LockEntry {
  const entry = lock.packages[path];
  if (entry === undefined) throw new Error(`package-lock.json holds no "${path}"`);
  return entry;
}

function nameAt(path: string): string {
  const marker = 'node_modules/';
  return isPackagePath(path) ? path.slice(path.lastIndexOf(marker) + marker.length) : path;
}

function isPackagePath(path: string): boolean {
  return path.split('/').includes('node_modules');
}

function compare(one: string, other: string): number {
  return one < other ? -1 : 1;
}
