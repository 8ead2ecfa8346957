// The lab's cluster: nodes by kind, and on them two StorageClasses and cert-manager. Where a container registry can be reached it
// is plain kind with its published node image and cert-manager's published chart; where none can, everything is built here.
//
// One that is there is used when it has as many nodes as wanted, of the wanted Kubernetes, and answers; else it is made anew.
// What was installed into it stands in a ConfigMap there, so that nothing is done when nothing has changed.

import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureDocker } from './docker-daemon.ts';
import { buildProgramImage } from './images.ts';
import { CLUSTER, clusterExists, docker, helm, kind, kubeconfigFile, kubectl, labFolder } from './lab.ts';
import { withLabLock } from './lab-lock.ts';
import { loadImages } from './load-image.ts';
import { ensureNodeImage } from './node-image.ts';
import { reachesRegistry } from './registry.ts';
import { findTools } from './tool-cache.ts';
import { CERT_MANAGER_VERSION, KUBERNETES_VERSION } from './tools.ts';

export interface ClusterWish {
  readonly nodes: number;
  readonly fresh?: boolean;
}

type Say = (line: string) => void;

const CERT_MANAGER_PARTS = ['controller', 'webhook', 'cainjector'] as const;
const CERT_MANAGER_USER = 1000;
const ANSWERS_WITHIN_MS = 120_000;
const ASK_EVERY_MS = 500;
const INSTALLED = 'lab-installed';
const SETTINGS_LABEL = 'lab-settings';
/** How soon pods see a Secret or ConfigMap that changed: kubelet's own minute would be most of what a rotation takes here. */
const KUBELET_SETTINGS = {
  kind: 'KubeletConfiguration',
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  syncFrequency: '10s',
};
const MANIFEST = join(import.meta.dirname, 'manifests/shared-volumes.yaml');

export async function ensureCluster(say: Say, { nodes, fresh = false }: ClusterWish): Promise<void> {
  findTools(['kind', 'kubectl', 'helm', 'shared-volumes']);
  await withLabLock('cluster', async () => {
    await ensureDocker(say);
    const published = await reachesRegistry();
    const misfit = fresh ? 'a fresh one is wanted' : await misfitOf(nodes, published);
    if (misfit !== undefined) {
      say(published ? 'a container registry answers: published images' : 'no container registry: images built here');
      if (await clusterExists()) {
        say(`removing the cluster that is there: ${misfit}`);
        await kind(['delete', 'cluster', '--name', CLUSTER]);
      }
      await create(say, nodes, published);
    }
    const wanted = installedKey(published);
    if ((await installed()) === wanted) return;
    await kubectl(['wait', '--for=condition=Ready', 'node', '--all', '--timeout=180s']);
    await kubectl(['-n', 'kube-system', 'rollout', 'status', '--timeout=180s', 'deployment/coredns']);
    say('nodes and DNS are ready');
    await installSharedVolumes(say);
    await installCertManager(say, published);
    await noteInstalled(wanted);
  });
}

/** Why the cluster that is there cannot be used; undefined when it can. */
async function misfitOf(nodes: number, published: boolean): Promise<string | undefined> {
  if (!(await clusterExists())) return 'there is none';
  await startStoppedNodes();
  const silence = await silenceOf();
  if (silence !== undefined) return `its nodes are not ready (${silence})`;
  const versions = '{range .items[*]}{.status.nodeInfo.kubeletVersion}{"\\n"}{end}';
  const found = await ofEachNode(versions);
  if (found.length !== nodes) return `it has ${found.length} nodes and not ${nodes}`;
  const other = published ? undefined : found.find((version) => version !== KUBERNETES_VERSION);
  if (other !== undefined) return `it runs ${other} and not ${KUBERNETES_VERSION}`;
  const marks = await ofEachNode(`{range .items[*]}{.metadata.labels.${SETTINGS_LABEL}}{"\\n"}{end}`);
  return marks.every((mark) => mark === settingsMark()) ? undefined : 'its nodes were made with other settings';
}

async function ofEachNode(template: string): Promise<string[]> {
  const { stdout } = await kubectl(['get', 'nodes', '-o', `jsonpath=${template}`]);
  return String(stdout).trimEnd().split('\n');
}

/** What the cluster answers instead of having its nodes ready; one that was just started refuses for a while. */
async function silenceOf(): Promise<string | undefined> {
  const deadline = AbortSignal.timeout(ANSWERS_WITHIN_MS);
  const ready = ['wait', '--for=condition=Ready', 'node', '--all', '--timeout=10s'];
  for (;;) {
    const answer = await kubectl(ready, { mayFail: true });
    if (!answer.failed) return undefined;
    if (deadline.aborted) return String(answer.stderr).trim().split('\n').at(-1);
    await sleep(ASK_EVERY_MS);
  }
}

/** A test that stops a node may have been killed before it started it again. */
async function startStoppedNodes(): Promise<void> {
  const ofCluster = `label=io.x-k8s.kind.cluster=${CLUSTER}`;
  const { stdout } = await docker(['ps', '--quiet', '--filter', ofCluster, '--filter', 'status=exited']);
  const stopped = String(stdout).split('\n').filter(Boolean);
  if (stopped.length > 0) await docker(['start', ...stopped]);
}

async function create(say: Say, nodes: number, published: boolean): Promise<void> {
  const image = published ? [] : ['--image', await ensureNodeImage(say)];
  say(`creating ${nodes} nodes`);
  const shared = join(labFolder(), 'shared-volumes');
  rmSync(shared, { recursive: true, force: true });
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
    kubeadmConfigPatches: [JSON.stringify(KUBELET_SETTINGS)],
    nodes: Array.from({ length: nodes }, (_, index) => ({
      role: index === 0 ? 'control-plane' : 'worker',
      labels: { [SETTINGS_LABEL]: settingsMark() },
      extraMounts,
    })),
  };
}

function settingsMark(): string {
  return createHash('sha256').update(JSON.stringify(KUBELET_SETTINGS)).digest('hex').slice(0, 20);
}

function installedKey(published: boolean): string {
  const folder = findTools(['shared-volumes'])['shared-volumes'];
  const ingredients = [published, CERT_MANAGER_VERSION, basename(folder), readFileSync(MANIFEST, 'utf8')];
  return createHash('sha256').update(JSON.stringify(ingredients)).digest('hex').slice(0, 20);
}

async function installed(): Promise<string> {
  const asked = [
    '-n',
    'kube-system',
    'get',
    'configmap',
    INSTALLED,
    '--ignore-not-found',
    '-o',
    'jsonpath={.data.key}',
  ];
  return String((await kubectl(asked)).stdout);
}

async function noteInstalled(key: string): Promise<void> {
  const note = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: INSTALLED, namespace: 'kube-system' },
    data: { key },
  };
  await kubectl(['apply', '--server-side', '-f', '-'], { input: JSON.stringify(note) });
}

/** Beside the class "standard" of kind, whose volumes stay on their node and cannot grow. */
async function installSharedVolumes(say: Say): Promise<void> {
  const folder = findTools(['shared-volumes'])['shared-volumes'];
  const tag = `lab.test/shared-volumes:${basename(folder)}`;
  await buildProgramImage({ tag, programs: [join(folder, 'shared-volumes')], entrypoint: ['shared-volumes'] });
  await loadImages([tag]);
  const notDefault = 'storageclass.kubernetes.io/is-default-class=false';
  await kubectl(['annotate', '--overwrite', 'storageclass', 'standard', notDefault]);
  // The provisioner of a class cannot be changed, and volumes that were made do not need their class.
  await kubectl(['delete', 'storageclass', 'shared', '--ignore-not-found']);
  const manifest = readFileSync(MANIFEST, 'utf8').replaceAll('lab.test/shared-volumes', tag);
  await kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], { input: manifest });
  for (const part of ['deployment/shared-volumes', 'daemonset/shared-volumes-node']) {
    await kubectl(['-n', 'kube-system', 'rollout', 'status', '--timeout=120s', part]);
  }
  say('volumes can be made');
}

async function installCertManager(say: Say, published: boolean): Promise<void> {
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

/** What a person at the desk types to use the cluster: helm and kubectl may be nowhere but among the programs of the lab. */
export function howToReach(): string {
  const { helm, kubectl } = findTools(['helm', 'kubectl']);
  return `export KUBECONFIG=${kubeconfigFile()} PATH=${[helm, kubectl].join(':')}:$PATH`;
}
