// Which foreign programs the tests with Kubernetes need, and what each is made of. There is no container registry and no
// download of binaries: every program is compiled from Go modules, whose versions and checksums stand in the go.mod and
// go.sum of its family below hack/kind/go/. A family is what can agree on one version of each library: Kubernetes 1.34
// and cert-manager 1.21 ask for different ones of k8s.io/*, so they are two. What is our own is the family "lab".

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
  /** Folders of a module of the family that are laid beside the program under a name of ours. */
  readonly folders?: readonly { readonly module: string; readonly path: string; readonly name: string }[];
}

const CERT_MANAGER_MODULE = 'github.com/cert-manager/cert-manager';
export const KUBERNETES_VERSION = versionIn('kubernetes', 'k8s.io/kubernetes');
export const CERT_MANAGER_VERSION = versionIn('cert-manager', CERT_MANAGER_MODULE);

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
  kubernetes('kube-controller-manager'),
  kubernetes('kube-scheduler'),
  kubernetes('kube-proxy'),
  kubernetes('kubelet'),
  kubernetes('kubeadm'),
  {
    name: 'kind',
    family: 'kubernetes',
    package: 'sigs.k8s.io/kind',
    folders: [
      { module: 'sigs.k8s.io/kind', path: 'images/base/files', name: 'files' },
      { module: 'sigs.k8s.io/kind', path: 'pkg/build/nodeimage', name: 'nodeimage' },
    ],
  },
  { name: 'pause', family: 'lab', package: './pause' },
  { name: 'pod-network', family: 'lab', package: './pod-network' },
  { name: 'shared-volumes', family: 'lab', package: './shared-volumes' },
  { name: 'coredns', family: 'coredns', package: 'github.com/coredns/coredns' },
  {
    name: 'local-path-provisioner',
    family: 'coredns',
    package: 'github.com/rancher/local-path-provisioner',
  },
  { name: 'helm', family: 'helm', package: 'helm.sh/helm/v3/cmd/helm' },
] as const satisfies readonly Tool[];

export type ToolName = (typeof TOOLS)[number]['name'];

/** What the tests against a bare apiserver need; the rest is for a whole cluster. */
export const API_SERVER_TOOLS: readonly ToolName[] = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'cert-manager',
  'kubectl',
  'helm',
];

/** What a node of a cluster is made of that Debian does not have. */
export const NODE_TOOLS = [
  'coredns',
  'etcd',
  'kind',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-proxy',
  'kube-scheduler',
  'kubeadm',
  'kubectl',
  'kubelet',
  'local-path-provisioner',
  'pause',
  'pod-network',
] as const satisfies readonly ToolName[];

/** What a whole cluster needs on this machine: most of it only where no registry has it as images. */
export function clusterTools(isPublished: boolean): readonly ToolName[] {
  const always: readonly ToolName[] = ['kind', 'kubectl', 'helm', 'shared-volumes'];
  return isPublished ? always : [...new Set<ToolName>([...always, ...NODE_TOOLS, 'cert-manager'])];
}

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

function versionIn(family: string, module: string): string {
  return pinnedVersion(readFileSync(join(FAMILIES_FOLDER, family, 'go.mod'), 'utf8'), module);
}
