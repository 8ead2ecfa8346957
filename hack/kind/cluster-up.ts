// `hack/node hack/kind/cluster-up.ts [--nodes N] [--fresh]`: a Kubernetes cluster on this machine with cert-manager and two
// StorageClasses. Where a container registry can be reached it is plain kind with its published node image and cert-manager's
// published chart; where none can, everything is built here. A cluster that runs already is kept, unless it should be fresh.

import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureDocker } from './docker-daemon.ts';
import { buildProgramImage } from './images.ts';
import { CLUSTER, clusterExists, helm, kind, kubeconfigFile, kubectl, labFolder } from './lab.ts';
import { loadImages } from './load-image.ts';
import { ensureNodeImage } from './node-image.ts';
import { reachesRegistry } from './registry.ts';
import { findTools } from './tool-cache.ts';
import { CERT_MANAGER_VERSION } from './tools.ts';

const CERT_MANAGER_PARTS = ['controller', 'webhook', 'cainjector'] as const;
const CERT_MANAGER_USER = 1000;

const { values } = parseArgs({
  options: { nodes: { type: 'string', default: '3' }, fresh: { type: 'boolean', default: false } },
});
const startMs = performance.now();
await up(Number(values.nodes), values.fresh);

async function up(nodes: number, fresh: boolean): Promise<void> {
  findTools(['kind', 'kubectl', 'helm']);
  await ensureDocker(say);
  const published = await reachesRegistry();
  say(published ? 'a container registry answers: published images' : 'no container registry: images built here');
  if (fresh && (await clusterExists())) await kind(['delete', 'cluster', '--name', CLUSTER]);
  if (!(await clusterExists())) await create(nodes, published);
  await kubectl(['wait', '--for=condition=Ready', 'node', '--all', '--timeout=180s']);
  await kubectl(['-n', 'kube-system', 'rollout', 'status', '--timeout=180s', 'deployment/coredns']);
  say('nodes and DNS are ready');
  await installSharedVolumes(published);
  await installCertManager(published);
  say(`ready; export KUBECONFIG=${kubeconfigFile()}`);
}

async function create(nodes: number, published: boolean): Promise<void> {
  const image = published ? [] : ['--image', await ensureNodeImage(say)];
  say(`creating ${nodes} nodes`);
  const shared = join(labFolder(), 'shared-volumes');
  mkdirSync(shared, { recursive: true });
  chmodSync(shared, 0o777);
  await kind(['create', 'cluster', '--name', CLUSTER, ...image, '--config', '-', '--wait', '180s'], {
    input: JSON.stringify(kindConfiguration(nodes, shared)),
  });
}

function kindConfiguration(nodes: number, sharedFolder: string): object {
  const extraMounts = [{ hostPath: sharedFolder, containerPath: '/shared-volumes' }];
  return {
    kind: 'Cluster',
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    nodes: Array.from({ length: nodes }, (_, index) => ({
      role: index === 0 ? 'control-plane' : 'worker',
      extraMounts,
    })),
  };
}

/** Beside the class "standard" of kind, whose volumes stay on their node and cannot grow. */
async function installSharedVolumes(published: boolean): Promise<void> {
  if (published) {
    const program = join(findTools(['shared-volumes'])['shared-volumes'], 'shared-volumes');
    const tag = 'lab.test/shared-volumes:1';
    await buildProgramImage({ tag, programs: [program], entrypoint: ['shared-volumes'] });
    await loadImages([tag]);
  }
  const notDefault = 'storageclass.kubernetes.io/is-default-class=false';
  await kubectl(['annotate', '--overwrite', 'storageclass', 'standard', notDefault]);
  const manifest = readFileSync(join(import.meta.dirname, 'manifests/shared-volumes.yaml'), 'utf8');
  await kubectl(['apply', '--server-side', '-f', '-'], { input: manifest });
  await kubectl(['-n', 'kube-system', 'rollout', 'status', '--timeout=120s', 'deployment/shared-volumes']);
  say('volumes can be made');
}

async function installCertManager(published: boolean): Promise<void> {
  const settings = ['crds.enabled=true', 'startupapicheck.enabled=false', 'prometheus.enabled=false'];
  let chart = ['cert-manager', '--repo', 'https://charts.jetstack.io', '--version', CERT_MANAGER_VERSION];
  if (!published) {
    const folder = findTools(['cert-manager'])['cert-manager'];
    const imageOf = (part: string): string => `lab.test/cert-manager-${part}`;
    for (const part of CERT_MANAGER_PARTS) {
      await buildProgramImage({
        tag: `${imageOf(part)}:${CERT_MANAGER_VERSION}`,
        programs: [join(folder, 'cert-manager')],
        entrypoint: ['cert-manager', part],
        user: CERT_MANAGER_USER,
      });
      const prefix = part === 'controller' ? 'image' : `${part}.image`;
      settings.push(`${prefix}.repository=${imageOf(part)}`, `${prefix}.tag=${CERT_MANAGER_VERSION}`);
    }
    await loadImages(CERT_MANAGER_PARTS.map((part) => `${imageOf(part)}:${CERT_MANAGER_VERSION}`));
    chart = [join(folder, 'chart')];
  }
  const [name = '', ...source] = chart;
  const place = ['--namespace', 'cert-manager', '--create-namespace', '--wait', '--timeout', '180s'];
  const set = settings.flatMap((setting) => ['--set', setting]);
  await helm(['upgrade', '--install', 'cert-manager', name, ...source, ...place, ...set]);
  const webhook = 'validatingwebhookconfiguration/cert-manager-webhook';
  await kubectl(['wait', '--for=jsonpath={.webhooks[0].clientConfig.caBundle}', '--timeout=120s', webhook]);
  say(`cert-manager ${CERT_MANAGER_VERSION} is ready`);
}

function say(line: string): void {
  console.log(`${((performance.now() - startMs) / 1_000).toFixed(0).padStart(4)} s  ${line}`);
}
