// Every package in package-lock.json, for every platform and not only this one, must come under a licence that lets others
// use, change and ship Collective under Apache-2.0. The lock file carries each package's SPDX expression; where a package
// states none there, its package.json in node_modules is read.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lock } from './check-lock.ts';
import type { Finding } from './finding.ts';

const ALLOWED = new Set([
  '0BSD',
  'Apache-2.0',
  'BlueOak-1.0.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'CC0-1.0',
  'ISC',
  'MIT',
  'PSF-2.0',
  'Python-2.0',
  'Unlicense',
]);

export function findUnwantedLicences(lock: Lock, installedLicence: (path: string) => unknown): Finding[] {
  const found: Finding[] = [];
  for (const [path, locked] of Object.entries(lock.packages)) {
    if (!path.startsWith('node_modules/') && !path.includes('/node_modules/')) continue;
    if (locked.link === true) continue;
    const licence = locked.license ?? installedLicence(path);
    if (typeof licence === 'string' && isAllowed(licence)) continue;
    const stated = licence === undefined ? 'states no licence' : `is under ${JSON.stringify(licence)}`;
    found.push({
      path,
      line: 1,
      message: `${locked.version ?? ''} ${stated}, which is not allowed: choose another package`.trim(),
    });
  }
  return found;
}

/** Licence in the package.json of an installed package; undefined when it is not installed or states none. */
export function readInstalledLicence(root: string, path: string): unknown {
  const manifest = join(root, path, 'package.json');
  if (!existsSync(manifest)) return undefined;
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { license?: unknown }).license;
}

/**
 * Whether an SPDX expression leaves us a choice of allowed licences only. AND binds tighter than OR; anything beyond
 * names, AND, OR and parentheses (WITH, LicenseRef, "SEE LICENSE IN") is refused, so that a person looks at it.
 */
export function isAllowed(expression: string): boolean {
  const tokens = expression.match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const either = (): boolean => {
    let allowed = both();
    while (tokens[at] === 'OR') {
      at += 1;
      allowed = both() || allowed;
    }
    return allowed;
  };
  const both = (): boolean => {
    let allowed = single();
    while (tokens[at] === 'AND') {
      at += 1;
      allowed = single() && allowed;
    }
    return allowed;
  };
  const single = (): boolean => {
    const token = tokens[at];
    at += 1;
    if (token !== '(') return token !== undefined && ALLOWED.has(token);
    const allowed = either();
    const closed = tokens[at] === ')';
    at += 1;
    return closed && allowed;
  };
  return either() && at === tokens.length;
}
