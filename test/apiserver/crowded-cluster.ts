/**
 * A cluster with many members, to see what the operator does among them: a real apiserver with etcd, the real controllers that
 * make pods, the real cert-manager, and the operator as a process of its own. No pod runs: `StandInKubelet` and
 * `StandInCoordinators` say what kubelets and coordinators would.
 */
import assert from 'node:assert/strict';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { RESOURCES } from '@collective/operator/kube/resources';
import { memberAddress } from '@collective/operator/member/names';
import { hasCondition, isPassing, type KubeObject, type KubeReference } from './api-client.ts';
import { CertManager } from './cert-manager.ts';
import { ControllerManager } from './controller-manager.ts';
import { installCrds } from './crds.ts';
import { grantOperatorRights } from './operator-account.ts';
import { OperatorProcess } from './operator-process.ts';
import { namespaceNamed } from './operator-side.ts';
import { StandInCoordinators, standInAddress } from './stand-in-coordinators.ts';
import { StandInKubelet } from './stand-in-kubelet.ts';
import { TestApiServer } from './test-apiserver.ts';

const NAMESPACE = 'team';
const COLLECTIVE = 'photos';
const API_VERSION = 'collective.storage/v1alpha1';
const ASK_EVERY_MS = 1_000;
const clock = new SystemClock();

export interface CrowdedClusterOptions {
  readonly members: number;
  readonly nodes: number;
}

export interface Rest {
  readonly forMs: number;
  /** Something may be under way before. */
  readonly withinMs: number;
  readonly operator: OperatorProcess;
}

export class CrowdedCluster implements AsyncDisposable {
  readonly server: TestApiServer;
  readonly coordinators: StandInCoordinators;
  readonly names: readonly string[];
  readonly #nodes: number;
  readonly #controllers: ControllerManager;
  readonly #certManager: CertManager;
  readonly #kubelet: StandInKubelet;
  readonly #stack: AsyncDisposableStack;

  /** Without Members, and without an operator. */
  static async start({ members, nodes }: CrowdedClusterOptions): Promise<CrowdedCluster> {
    await using stack = new AsyncDisposableStack();
    const server = stack.use(await TestApiServer.start());
    const controllers = stack.use(ControllerManager.start(server));
    const certManager = stack.use(await CertManager.start(server));
    await installCrds(server);
    await grantOperatorRights(server);
    await server.admin.apply(namespaceNamed(NAMESPACE));
    const names = Array.from({ length: members }, (_unused, at) => `m${String(at).padStart(2, '0')}`);
    const coordinators = stack.use(new StandInCoordinators());
    const kubelet = stack.use(await StandInKubelet.start({ server, coordinators, members: names }));
    await server.admin.apply({
      apiVersion: API_VERSION,
      kind: 'Collective',
      metadata: { name: COLLECTIVE, namespace: NAMESPACE },
      spec: { domain: 'photos.test' },
    });
    const parts = { server, controllers, certManager, coordinators, kubelet, names, nodes };
    return new CrowdedCluster(parts, stack.move());
  }

  private constructor(
    parts: {
      readonly server: TestApiServer;
      readonly controllers: ControllerManager;
      readonly certManager: CertManager;
      readonly coordinators: StandInCoordinators;
      readonly kubelet: StandInKubelet;
      readonly names: readonly string[];
      readonly nodes: number;
    },
    stack: AsyncDisposableStack,
  ) {
    this.server = parts.server;
    this.coordinators = parts.coordinators;
    this.names = parts.names;
    this.#nodes = parts.nodes;
    this.#controllers = parts.controllers;
    this.#certManager = parts.certManager;
    this.#kubelet = parts.kubelet;
    this.#stack = stack;
  }

  /** The programs beside the operator that it makes work for, by name. */
  get pids(): Readonly<Record<string, number>> {
    return {
      ...this.server.pids,
      'cert-manager': this.#certManager.pid,
      'kube-controller-manager': this.#controllers.pid,
    };
  }

  async startOperator(options: { readonly leaderElect?: boolean } = {}): Promise<OperatorProcess> {
    const addresses = this.names.map((name, at) => {
      const [host = ''] = memberAddress(name, NAMESPACE).split(':');
      return [host, standInAddress(this.server.port, at)] as const;
    });
    return await OperatorProcess.start({ server: this.server, names: Object.fromEntries(addresses), ...options });
  }

  /** One after the other, as `kubectl apply` of a folder. */
  async applyMembers(): Promise<void> {
    for (const name of this.names) {
      await this.server.admin.apply({
        ...this.member(name),
        spec: {
          collectiveRef: { name: COLLECTIVE },
          nodePools: [{ name: 'disk', replicas: this.#nodes, capacity: '10Gi' }],
          users: [{ name: 'ann' }],
        },
      } as KubeObject);
    }
  }

  member(name: string): KubeReference {
    return { apiVersion: API_VERSION, kind: 'Member', metadata: { name, namespace: NAMESPACE } };
  }

  object(apiVersion: string, kind: string, name: string): KubeReference {
    return { apiVersion, kind, metadata: { name, namespace: NAMESPACE } };
  }

  /** A coordinator and all nodes of each member have their StatefulSets, which come last of all objects. */
  async objectsMade(withinMs: number, operator: OperatorProcess): Promise<void> {
    const wanted = this.names.length * (this.#nodes + 1);
    const path = `/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets?limit=1`;
    await this.#until(withinMs, operator, async () => {
      const { items, metadata } = JSON.parse((await this.server.admin.ask(path)).text) as {
        items: readonly unknown[];
        metadata: { remainingItemCount?: number };
      };
      const count = items.length + (metadata.remainingItemCount ?? 0);
      return count === wanted ? undefined : `${count} of ${wanted} StatefulSets`;
    });
  }

  /** Every Member is Ready and nothing is under way. */
  async settled(withinMs: number, operator: OperatorProcess): Promise<void> {
    await this.#until(withinMs, operator, async () => {
      const members = await this.server.admin.list(API_VERSION, 'Member', NAMESPACE);
      const open = members.filter((one) => !(hasCondition(one, 'Ready') && hasCondition(one, 'Reconciling', 'False')));
      const [first] = open;
      return first === undefined
        ? undefined
        : `${members.length - open.length} of ${members.length} members are settled; ${first.metadata.name}: ${JSON.stringify(first.status, undefined, 2)}`;
    });
  }

  /** Which version each object of the members has, the Members among them: what is written anew has another. */
  async versions(): Promise<ReadonlyMap<string, string>> {
    const versions = new Map<string, string>();
    for (const { apiVersion, kind } of Object.values(RESOURCES)) {
      if (!OF_MEMBERS.has(kind)) continue;
      for (const { metadata } of await this.server.admin.list(apiVersion, kind, NAMESPACE)) {
        versions.set(`${kind} ${metadata.name}`, metadata.resourceVersion ?? '');
      }
    }
    return versions;
  }

  /** Those, once nobody has written any of the objects for so long. */
  async restingVersions({ forMs, withinMs, operator }: Rest): Promise<ReadonlyMap<string, string>> {
    let versions = await this.versions();
    let sinceMs = clock.bootMs();
    await this.#until(withinMs, operator, async () => {
      const before = versions;
      versions = await this.versions();
      const written = [...versions].filter(([name, version]) => before.get(name) !== version);
      if (written.length > 0 || before.size !== versions.size) sinceMs = clock.bootMs();
      return clock.bootMs() - sinceMs >= forMs ? undefined : `written last: ${written.join('; ')}`;
    });
    return versions;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** `missing` says what is not yet so; undefined: it is. */
  async #until(withinMs: number, operator: OperatorProcess, missing: () => Promise<string | undefined>): Promise<void> {
    const startedMs = clock.bootMs();
    for (;;) {
      this.#kubelet.throwIfFailed();
      operator.throwIfEnded();
      const lack = await missing().catch((thrown: unknown) => {
        if (isPassing(thrown)) return String(thrown);
        throw thrown;
      });
      if (lack === undefined) return;
      assert.ok(clock.bootMs() - startedMs < withinMs, `after ${withinMs} ms: ${lack}`);
      await sleep(clock, ASK_EVERY_MS);
    }
  }
}

const OF_MEMBERS = new Set([
  'Member',
  'Collective',
  'StatefulSet',
  'Service',
  'PersistentVolumeClaim',
  'Pod',
  'PodDisruptionBudget',
  'NetworkPolicy',
  'ServiceAccount',
  'ConfigMap',
  'Secret',
  'Certificate',
  'Issuer',
]);
