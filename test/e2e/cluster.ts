/**
 * The lab's cluster as one test file sees it: it is made sure that it is up (one that fits is used as it is), the image of this
 * tree lies on its nodes, and the file has a namespace of its own under Pod Security "restricted". When a test fails, what ran
 * there is written out. Each file can be run alone, and again after it was killed: its namespace is made anew.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before } from 'node:test';
import { ensureProductImage } from '@collective/hack/image/product-image';
import { ensureCluster } from '@collective/hack/kind/cluster';
import { docker, helm, kubeconfigFile, kubectl, type RunOptions, run } from '@collective/hack/kind/lab';
import { loadOnce } from '@collective/hack/kind/load-image';
import { parse } from 'yaml';
import { ApiClient, type KubeObject } from '../apiserver/api-client.ts';
import { describeNamespace } from './describe-namespace.ts';

const PLUGIN = join(import.meta.dirname, '../../cli/bin/kubectl-collective');
const NODES = 3;
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service=nodeshutdown:NoExecute';
const NAMESPACE_GONE_WITHIN = '120s';

export interface ClusterNode {
  /** Also the name of its container. */
  readonly name: string;
  readonly address: string;
  readonly isControlPlane: boolean;
}

export interface FileNeeds {
  /** What the namespace is called; a mark of this tree is added, so that two trees may run the same file. */
  readonly namespace: string;
  /** What else the tests of the file need, once the cluster is there: hooks of one file do not wait for each other. */
  readonly prepare?: (cluster: TestCluster) => Promise<void>;
}

export class TestCluster {
  readonly namespace: string;
  #api: ApiClient | undefined;
  #image: string | undefined;

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  /** May do everything. */
  get api(): ApiClient {
    if (this.#api === undefined) throw new Error('The cluster is there only once the hooks of the file have run');
    return this.#api;
  }

  /** Of this tree, on all nodes. */
  get image(): string {
    if (this.#image === undefined) throw new Error('The image is there only once the hooks of the file have run');
    return this.#image;
  }

  async open(): Promise<void> {
    await ensureCluster(console.log, { nodes: NODES });
    const { tag, content } = await ensureProductImage(console.log);
    await loadOnce(tag, content);
    this.#image = tag;
    this.#api = new ApiClient(adminAccess(readFileSync(kubeconfigFile(), 'utf8')));
    await this.#removeNamespace();
    await this.api.apply({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: this.namespace, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
    });
  }

  async close(): Promise<void> {
    if (this.#api === undefined) return;
    try {
      await this.#removeNamespace();
    } finally {
      this.#api[Symbol.dispose]();
    }
  }

  /** In the namespace of the file, unless the arguments name another. */
  async kubectl(args: readonly string[], options?: RunOptions): Promise<string> {
    return String((await kubectl(['--namespace', this.namespace, ...args], options)).stdout);
  }

  async helm(args: readonly string[], options?: RunOptions): Promise<string> {
    return String((await helm(['--namespace', this.namespace, ...args], options)).stdout);
  }

  /** `kubectl collective`, as a person here would run it; answers what it printed. */
  async plugin(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const env = { ...options.env, KUBECONFIG: kubeconfigFile() };
    return String((await run(PLUGIN, [...args, '--namespace', this.namespace], { ...options, env })).stdout);
  }

  /** Server-side, into the namespace of the file where an object names none. */
  async apply<Kind extends KubeObject>(object: Kind): Promise<Kind> {
    return await this.api.apply({ ...object, metadata: { namespace: this.namespace, ...object.metadata } });
  }

  async nodes(): Promise<ClusterNode[]> {
    const nodes = await this.api.list('v1', 'Node');
    return nodes.map(({ metadata, status }) => {
      const { addresses } = status as { addresses: readonly { type: string; address: string }[] };
      return {
        name: metadata.name,
        address: addresses.find(({ type }) => type === 'InternalIP')?.address ?? '',
        isControlPlane: 'node-role.kubernetes.io/control-plane' in (metadata.labels ?? {}),
      };
    });
  }

  /** As when a machine loses its power: nothing on it is told. */
  async stopNode(name: string): Promise<void> {
    await docker(['stop', '--time', '0', name]);
  }

  async startNode(name: string): Promise<void> {
    await docker(['start', name]);
    await kubectl(['wait', '--for=condition=Ready', `node/${name}`, '--timeout=180s']);
  }

  /** Says that nothing runs on a node any more: what was there may start elsewhere with its volumes. */
  async markOutOfService(name: string): Promise<void> {
    await kubectl(['taint', 'nodes', name, OUT_OF_SERVICE]);
  }

  async unmarkOutOfService(name: string): Promise<void> {
    await kubectl(['taint', 'nodes', name, `${OUT_OF_SERVICE}-`], { mayFail: true });
  }

  /** What somebody needs to know who sees only the output of a failed run. */
  async describe(): Promise<string> {
    return await describeNamespace(this.namespace);
  }

  async #removeNamespace(): Promise<void> {
    const gone = ['--ignore-not-found', '--wait', `--timeout=${NAMESPACE_GONE_WITHIN}`];
    // First, while the operator is there that takes their finalizers away (K3): it goes with the namespace.
    const members = ['delete', 'members.collective.storage', '--all', '--namespace', this.namespace];
    await kubectl([...members, ...gone], { mayFail: true });
    await kubectl(['delete', 'namespace', this.namespace, ...gone]);
  }
}

/** To be called once at the head of a test file; the hooks of the file do the rest. */
export function clusterOfThisFile({ namespace, prepare }: FileNeeds): TestCluster {
  const tree = createHash('sha256')
    .update(import.meta.dirname)
    .digest('hex')
    .slice(0, 6);
  const cluster = new TestCluster(`${namespace}-${tree}`);
  before(async () => {
    await cluster.open();
    await prepare?.(cluster);
  });
  afterEach(async (context) => {
    if ('passed' in context && context.passed === false) console.log(await cluster.describe());
  });
  after(async () => await cluster.close());
  return cluster;
}

function adminAccess(kubeconfig: string) {
  const { clusters, users } = parse(kubeconfig) as {
    clusters: [{ cluster: { server: string; 'certificate-authority-data': string } }];
    users: [{ user: { 'client-certificate-data': string; 'client-key-data': string } }];
  };
  const decode = (data: string): string => Buffer.from(data, 'base64').toString('utf8');
  const [{ cluster }] = clusters;
  const [{ user }] = users;
  return {
    url: cluster.server,
    caPem: decode(cluster['certificate-authority-data']),
    certificatePem: decode(user['client-certificate-data']),
    keyPem: decode(user['client-key-data']),
  };
}
