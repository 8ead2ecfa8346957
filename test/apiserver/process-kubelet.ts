/**
 * Scheduler, kubelet and volume driver of a test in one: it binds the pods of a namespace, gives claims a folder, writes Secrets and
 * ConfigMaps where pods look for them, runs each pod as a process and says in its status what it sees. What makes pods is the
 * real StatefulSet controller; so a member comes up for real, in seconds, without a container runtime.
 */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts } from '../integration/free-ports.ts';
import { type ApiClient, isPassing, type KubeObject } from './api-client.ts';
import { PodProcess } from './pod-process.ts';

const LOOK_EVERY_MS = 200;
const MACHINE = 'machine-1';
const HOST_IP = '127.0.0.1';
const PORTS_OF_A_POD = 2;
/** As many as a test may start under names of their own. */
const PODS_MAX = 40;

export interface ProcessKubeletOptions {
  readonly admin: ApiClient;
  readonly namespace: string;
  readonly folder: string;
  /** Tells of an image that cannot be pulled. */
  readonly canPull?: (image: string) => boolean;
}

interface Claim extends KubeObject {
  readonly spec: { readonly resources: { readonly requests: { readonly storage: string } } };
  readonly status?: { readonly phase?: string; readonly capacity?: { readonly storage: string } };
}

interface VolumeOfPod {
  readonly projected?: {
    readonly sources: readonly {
      readonly secret?: { readonly name: string };
      readonly configMap?: { readonly name: string };
    }[];
  };
  readonly name?: string;
  readonly persistentVolumeClaim?: { readonly claimName: string };
}

export class ProcessKubelet implements AsyncDisposable {
  readonly #options: ProcessKubeletOptions;
  readonly #pods = new Map<string, PodProcess>();
  /** A pod keeps its ports over its lives, as it keeps its name. */
  readonly #ports = new Map<string, readonly number[]>();
  readonly #free: number[] = [];
  readonly #told = new Map<string, string>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #failure: unknown;

  constructor(options: ProcessKubeletOptions) {
    this.#options = options;
    mkdirSync(options.folder, { recursive: true });
    this.#running = this.#run();
  }

  /** host:port of a Service of the cluster, or of a pod's own name -> where its process listens. */
  resolve(address: string): string {
    const [, host = '', port = ''] = /^(.*):([0-9]+)$/.exec(address) ?? [];
    const [name = '', ...rest] = host.split('.');
    if (!host.endsWith('.svc')) return address;
    // pod.service.namespace.svc, or service.namespace.svc.
    return `${HOST_IP}:${portFor(this.#portsOf(rest.length > 2 ? name : `${name}-0`), Number(port))}`;
  }

  podLog(pod: string): string {
    return this.#pods.get(pod)?.log ?? '';
  }

  /** Who looks at what went wrong sees the end of every pod's log. */
  get logs(): string {
    return [...this.#pods].map(([name, pod]) => `--- ${name}\n${pod.log}`).join('\n');
  }

  /** Where the data of a claim lies. */
  volumeFolder(claimUid: string): string {
    return join(this.#options.folder, 'volumes', claimUid);
  }

  /** As when the process dies by itself: kubelet starts it again. */
  async kill(pod: string): Promise<void> {
    await this.#pods.get(pod)?.stop('SIGKILL');
  }

  /** What a test waits on must not wait for ever on a kubelet that failed. */
  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await Promise.all([...this.#pods.values()].map((pod) => pod.stop('SIGKILL')));
    rmSync(this.#options.folder, { recursive: true, force: true });
  }

  #portsOf(pod: string): readonly number[] {
    const known = this.#ports.get(pod);
    if (known !== undefined) return known;
    const ports = this.#free.splice(0, PORTS_OF_A_POD);
    assert.equal(ports.length, PORTS_OF_A_POD, `a test starts at most ${PODS_MAX} pods`);
    this.#ports.set(pod, ports);
    return ports;
  }

  async #run(): Promise<void> {
    this.#free.push(...(await freePorts(PORTS_OF_A_POD * PODS_MAX)));
    while (!this.#stop.signal.aborted) {
      try {
        await this.#look();
      } catch (thrown) {
        if (!isPassing(thrown)) this.#failure ??= thrown;
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  async #look(): Promise<void> {
    const { admin, namespace } = this.#options;
    const claims = (await admin.list('v1', 'PersistentVolumeClaim', namespace)) as readonly Claim[];
    for (const claim of claims) await this.#provide(claim);
    const pods = (await admin.list('v1', 'Pod', namespace)).filter(({ status }) => !isOver(status));
    const names = new Set(pods.map(({ metadata }) => metadata.name));
    for (const [name, pod] of this.#pods) {
      if (!names.has(name)) await this.#forget(name, pod);
    }
    // Items of a list do not say what they are.
    await Promise.all(pods.map((pod) => this.#tend({ ...pod, apiVersion: 'v1', kind: 'Pod' }, claims)));
  }

  /** A volume that is as large as was asked for, and larger once more is. */
  async #provide(claim: Claim): Promise<void> {
    const { storage } = claim.spec.resources.requests;
    if (claim.metadata.deletionTimestamp !== undefined || claim.status?.capacity?.storage === storage) return;
    const status = { phase: 'Bound', accessModes: ['ReadWriteOnce'], capacity: { storage } };
    await this.#options.admin.patch(
      { ...claim, apiVersion: 'v1', kind: 'PersistentVolumeClaim' },
      { status },
      'status',
    );
  }

  async #tend(pod: KubeObject, claims: readonly Claim[]): Promise<void> {
    const { admin } = this.#options;
    const { name, uid } = pod.metadata;
    const known = this.#pods.get(name);
    if (known !== undefined && known.uid !== uid) await this.#forget(name, known);
    if (pod.metadata.deletionTimestamp !== undefined) {
      const ending = this.#pods.get(name);
      if (ending !== undefined) await this.#forget(name, ending);
      await admin.removeNow(pod);
      return;
    }
    const folders = this.#volumeFoldersOf(pod, claims);
    if ((pod.spec as { nodeName?: string }).nodeName === undefined) {
      // As a scheduler: a claim that is being deleted counts as used once such a pod is bound, and would never go.
      if (folders === undefined) return;
      await admin.bindPod(pod, MACHINE);
    }
    const process = this.#pods.get(name) ?? (folders && this.#prepare(pod, folders));
    if (process === undefined) return;
    if (!(this.#options.canPull?.(process.container.image) ?? true)) {
      await this.#tell(pod, process, { isReady: false, isPulled: false });
      return;
    }
    const files = await this.#identityOf(pod);
    if (files === undefined) return;
    process.writeIdentity(files);
    if (runsOnce(pod) && process.exitCode !== undefined) {
      await this.#tellEnd(pod, process, process.exitCode);
      return;
    }
    if (!process.isRunning) process.start();
    await this.#tell(pod, process, { isReady: process.isReady(), isPulled: true });
  }

  /** By the names of its volumes; undefined while one of its claims has no volume, or is being deleted. */
  #volumeFoldersOf(pod: KubeObject, claims: readonly Claim[]): ReadonlyMap<string, string> | undefined {
    const folders = new Map<string, string>();
    for (const volume of volumesOf(pod)) {
      const { claimName } = volume.persistentVolumeClaim ?? {};
      if (claimName === undefined) continue;
      const claim = claims.find(({ metadata }) => metadata.name === claimName);
      if (claim?.status?.phase !== 'Bound' || claim.metadata.deletionTimestamp !== undefined) return undefined;
      folders.set(volume.name ?? '', this.volumeFolder(claim.metadata.uid ?? ''));
    }
    return folders;
  }

  #prepare(pod: KubeObject, volumeFolders: ReadonlyMap<string, string>): PodProcess {
    const { name, uid = '' } = pod.metadata;
    const ports = this.#portsOf(name);
    const process = new PodProcess(pod, {
      folder: join(this.#options.folder, 'pods', uid),
      volumeFolders,
      machine: MACHINE,
      hostIp: HOST_IP,
      local: (text) => text.replace(/[a-z0-9.-]+\.svc:[0-9]+/g, (address) => this.resolve(address)),
      portOf: (port) => portFor(ports, port),
    });
    this.#pods.set(name, process);
    return process;
  }

  /** Undefined while something that it mounts is not there. */
  async #identityOf(pod: KubeObject): Promise<Readonly<Record<string, string>> | undefined> {
    const files: Record<string, string> = {};
    for (const source of volumesOf(pod).flatMap(({ projected }) => projected?.sources ?? [])) {
      const kind = source.secret === undefined ? 'ConfigMap' : 'Secret';
      const name = source.secret?.name ?? source.configMap?.name ?? '';
      const metadata = { name, namespace: this.#options.namespace };
      const found = await this.#options.admin.find({ apiVersion: 'v1', kind, metadata });
      if (found === undefined) return undefined;
      for (const [key, value] of Object.entries((found.data ?? {}) as Readonly<Record<string, string>>)) {
        if (key === 'ca.crt') continue;
        files[key] = kind === 'Secret' ? Buffer.from(value, 'base64').toString('utf8') : value;
      }
    }
    return files;
  }

  async #tell(pod: KubeObject, process: PodProcess, seen: { isReady: boolean; isPulled: boolean }): Promise<void> {
    const state = `${seen.isReady} ${seen.isPulled} ${process.restarts}`;
    if (this.#told.get(process.uid) === state) return;
    const { name, image } = process.container;
    const now = new Date().toISOString().replace(/\.[0-9]+/, '');
    const status = seen.isReady ? 'True' : 'False';
    const condition = (type: string, is = status) => ({ type, status: is, lastTransitionTime: now });
    await this.#options.admin.patch(
      pod,
      {
        status: {
          phase: seen.isPulled ? 'Running' : 'Pending',
          hostIP: HOST_IP,
          hostIPs: [{ ip: HOST_IP }],
          conditions: [
            condition('PodScheduled', 'True'),
            condition('Initialized', 'True'),
            condition('ContainersReady'),
            condition('Ready'),
          ],
          containerStatuses: [
            {
              name,
              image,
              imageID: '',
              ready: seen.isReady,
              started: seen.isPulled,
              restartCount: Math.max(0, process.restarts),
              state: seen.isPulled
                ? { running: { startedAt: now } }
                : { waiting: { reason: 'ImagePullBackOff', message: `Back-off pulling image "${image}"` } },
            },
          ],
        },
      },
      'status',
    );
    this.#told.set(process.uid, state);
  }

  /** Of a job: nothing of it is started again. */
  async #tellEnd(pod: KubeObject, process: PodProcess, exitCode: number): Promise<void> {
    const { name, image } = process.container;
    const finishedAt = new Date().toISOString().replace(/\.[0-9]+/, '');
    const terminated = { exitCode, finishedAt, message: process.lastWords(exitCode) };
    const ended = { name, image, imageID: '', ready: false, restartCount: 0, state: { terminated } };
    const status = { phase: exitCode === 0 ? 'Succeeded' : 'Failed', containerStatuses: [ended] };
    await this.#options.admin.patch(pod, { status }, 'status');
  }

  async #forget(name: string, pod: PodProcess): Promise<void> {
    await pod.stop();
    this.#pods.delete(name);
    this.#told.delete(pod.uid);
  }
}

/** Listeners that serve have the first port, health the second. */
function portFor(ports: readonly number[], containerPort: number): number {
  return ports[containerPort >= 9_000 ? 1 : 0] ?? 0;
}

function volumesOf(pod: KubeObject): readonly VolumeOfPod[] {
  return (pod.spec as { volumes?: readonly VolumeOfPod[] }).volumes ?? [];
}

function runsOnce({ spec }: KubeObject): boolean {
  return (spec as { restartPolicy?: string }).restartPolicy === 'Never';
}

function isOver(status: unknown): boolean {
  const { phase } = (status ?? {}) as { phase?: string };
  return phase === 'Succeeded' || phase === 'Failed';
}
