// Which files of a workspace and of a package belong into the image: what runs and what its licence asks for. Tests, types,
// source maps and documentation stay at home.

const CODE = /\.([cm]?js|json|node|wasm|proto)$/;
const TYPES = /\.d\.[cm]?ts$/;
const LICENCE = /^(licen[cs]e|notice|copying)/i;
const TEST_ONLY = /(\.test|-contract)\.ts$/;

/** `path` begins at the folder of the workspace. */
export function isWorkspaceFileNeeded(path: string): boolean {
  if (path === 'package.json') return true;
  return path.startsWith('src/') && !TEST_ONLY.test(path);
}

/** `path` begins at the folder of the package. */
export function isPackageFileNeeded(path: string): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  if (LICENCE.test(name)) return true;
  // Extensionless files are scripts and data that code may read; TypeScript cannot run from a node_modules anyway.
  return !TYPES.test(path) && (CODE.test(name) || !name.includes('.'));
}

/** A package of types alone has nothing that runs. */
export function holdsCode(paths: readonly string[]): boolean {
  return paths.some((path) => path !== 'package.json' && CODE.test(path));
}

/** What extends kubectl is used where kubectl is, by a person. */
export function isContainerCommand(name: string): boolean {
  return /^collective(-|$)/.test(name);
}

/**
 * A program of the image: a workspace's "bin", as its package.json names it. There is no shell in the image, so it is a
 * script for Node; it stands outside node_modules as the workspaces do, where Node strips types.
 */
export function launcherOf(mainPath: string): string {
  return `#!/usr/local/bin/node\nimport('${mainPath}');\n`;
}
