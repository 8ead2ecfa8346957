// Which foreign programs the tests with Kubernetes need, and what each is made of. There is no container registry and no
// download of binaries: every program is compiled from Go modules, whose versions and checksums stand in the go.mod and
// go.sum of its family below hack/kind/go/. A family is what can agree on one version of each library: Kubernetes 1.34
// and cert-manager 1.21 ask for different ones of k8s.io/*, so they are two.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const FAMILIES_FOLDER = join(import.meta.dirname, 'go');

export interface Tool {
  readonly name: string;
  /** Folder below hack/kind/go whose go.mod says which versions it is made of. */
  readonly family: string;
  /** Package of its main program, `.` for one of our own. */
  readonly package: string;
  /** `-X` of the linker: variables that say which version a program believes to be. */
  readonly stamps?: Readonly<Record<string, string>>;
  /** Folders of a module of the family that are laid beside the program, under a name of ours. */
  readonly folders?: readonly { readonly module: string; readonly path: string; readonly name: string }[];
}

const KUBERNETES_VERSION = pinnedVersion(
  readFileSync(join(FAMILIES_FOLDER, 'kubernetes/go.mod'), 'utf8'),
  'k8s.io/kubernetes',
);
const CERT_MANAGER_MODULE = 'github.com/cert-manager/cert-manager';

export const TOOLS = [
  { name: 'etcd', family: 'kubernetes', package: 'go.etcd.io/etcd/server/v3' },
  kubernetes('kube-apiserver'),
  {
    name: 'cert-manager',
    family: 'cert-manager',
    package: '.',
    folders: [
      { module: CERT_MANAGER_MODULE, path: 'deploy/crds', name: 'crds' },
      { module: CERT_MANAGER_MODULE, path: 'deploy/charts/cert-manager', name: 'chart' },
    ],
  },
  kubernetes('kubectl'),
] as const satisfies readonly Tool[];

export type ToolName = (typeof TOOLS)[number]['name'];

/** What the tests against a bare apiserver need; the rest is for a whole cluster. */
export const API_SERVER_TOOLS: readonly ToolName[] = ['etcd', 'kube-apiserver', 'cert-manager', 'kubectl'];

export function toolNamed(name: string): Tool {
  const tool = TOOLS.find((known) => known.name === name);
  if (tool === undefined) {
    throw new Error(`There is no tool "${name}"; known are ${TOOLS.map((known) => known.name).join(', ')}`);
  }
  return tool;
}

/** The version that a go.mod requires of a module, for example v1.34.4. */
export function pinnedVersion(goMod: string, module: string): string {
  const escaped = module.replaceAll(/[.\\]/g, '\\$&');
  const version = new RegExp(`^(?:require)?\\s+${escaped} (v\\S+)`, 'm').exec(goMod)?.[1];
  if (version === undefined) throw new Error(`No version of ${module} is required by this go.mod`);
  return version;
}

function kubernetes<Name extends string>(name: Name): Tool & { readonly name: Name } {
  const [major = '', minor = ''] = KUBERNETES_VERSION.slice(1).split('.');
  const variable = 'k8s.io/component-base/version';
  return {
    name,
    family: 'kubernetes',
    package: `k8s.io/kubernetes/cmd/${name}`,
    stamps: {
      [`${variable}.gitVersion`]: KUBERNETES_VERSION,
      [`${variable}.gitMajor`]: major,
      [`${variable}.gitMinor`]: minor,
      [`${variable}.gitTreeState`]: 'clean',
    },
  };
}
