// package-lock.json must let `npm ci` succeed on a fresh clone, on every platform and through every registry. npm leaves an
// optional package out of the lock when its registry does not have it, says nothing, and `npm ci` then refuses the lock.

import type { Finding } from './finding.ts';

export type LockedPackage = {
  readonly version?: string;
  readonly resolved?: string;
  readonly license?: unknown;
  readonly link?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
};

export type Lock = { readonly packages: Readonly<Record<string, LockedPackage>> };

export function findLockFaults(lock: Lock): Finding[] {
  const found: Finding[] = [];
  for (const [path, locked] of Object.entries(lock.packages)) {
    if (/^https?:/.test(locked.resolved ?? '')) {
      found.push({
        path: 'package-lock.json',
        line: 1,
        message: `"${path}" names the host it came from: npm writes none under the .npmrc of this tree, run "npm install" here`,
      });
    }
    for (const [name, range] of Object.entries(locked.optionalDependencies ?? {})) {
      if (isLocked(lock, path, name)) continue;
      found.push({
        path: 'package-lock.json',
        line: 1,
        message: `"${path}" may need ${name} ${range}, which is not in the lock: choose a version of which every platform's package is served`,
      });
    }
  }
  return found;
}

/** Whether the package at `path` finds `name` in a node_modules of its own or above it. */
function isLocked(lock: Lock, path: string, name: string): boolean {
  for (let above = path; ; above = above.slice(0, Math.max(0, above.lastIndexOf('/')))) {
    if (lock.packages[above === '' ? `node_modules/${name}` : `${above}/node_modules/${name}`] !== undefined)
      return true;
    if (above === '') return false;
  }
}
