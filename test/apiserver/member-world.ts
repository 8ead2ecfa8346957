/**
 * A cluster in which members come up for real: apiserver, controllers, cert-manager, the operator in this process and every pod as a
 * process. The operator has the rights that the chart gives it. A test says what it wants as objects, and waits for what comes of it.
 */
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createLog, type Log } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { type AdminConnection, connect, connectAdmin, type Member as Session } from '@collective/client';
import { GrpcCoordinatorAccess } from '@collective/operator/coordinator/grpc-coordinator-access';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import { Operator } from '@collective/operator/operator';
import { EventRecorder } from '@collective/operator/runtime/event-recorder';
import { OperatorMetrics } from '@collective/operator/runtime/metrics';
import { writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { hasCondition, type KubeObject, type KubeReference } from './api-client.ts';
import { CertManager } from './cert-manager.ts';
import { ControllerManager } from './controller-manager.ts';
import { installCrds } from './crds.ts';
import { grantOperatorRights, OPERATOR_ACCOUNT } from './operator-account.ts';
import { namespaceNamed, operatorApi } from './operator-side.ts';
import { ProcessKubelet } from './process-kubelet.ts';
import { TestApiServer } from './test-apiserver.ts';

export const NAMESPACE = 'photos';
export const DOMAIN = 'photos.test';
export const OPERATOR_AGENT = 'collective-operator-under-test';
const API_VERSION = 'collective.storage/v1alpha1';
const MEMBER_READY_WITHIN_MS = 180_000;
const PROCESSES_MAX = 64;

export interface MemberWorldOptions {
  readonly canPull?: (image: string) => boolean;
  /** The operator runs in this process; default true. */
  readonly operates?: boolean;
  /** Default true. */
  readonly hasCertManager?: boolean;
}

export class MemberWorld implements AsyncDisposable {
  readonly server: TestApiServer;
  readonly kubelet: ProcessKubelet;
  /** host:port of the cluster -> where the operator is led to instead. */
  readonly detours = new Map<string, string>();
  readonly #stack: AsyncDisposableStack;
  #operator: RunningOperator | undefined;
  #operators = 0;

  static async start({
    canPull,
    operates = true,
    hasCertManager = true,
  }: MemberWorldOptions = {}): Promise<MemberWorld> {
    // Each process of a world is to end with this one.
    process.setMaxListeners(Math.max(process.getMaxListeners(), PROCESSES_MAX));
    await using stack = new AsyncDisposableStack();
    const server = stack.use(await TestApiServer.start());
    stack.use(ControllerManager.start(server));
    if (hasCertManager) stack.use(await CertManager.start(server));
    await installCrds(server);
    await grantOperatorRights(server);
    await server.admin.apply(namespaceNamed(NAMESPACE));
    const kubelet = stack.use(
      new ProcessKubelet({
        admin: server.admin,
        namespace: NAMESPACE,
        folder: join(server.folder, 'kubelet'),
        ...(canPull === undefined ? {} : { canPull }),
      }),
    );
    const world = new MemberWorld(server, kubelet, stack.move());
    if (operates) await world.startOperator();
    return world;
  }

  private constructor(server: TestApiServer, kubelet: ProcessKubelet, stack: AsyncDisposableStack) {
    this.server = server;
    this.kubelet = kubelet;
    this.#stack = stack;
  }

  get operatorLogFile(): string {
    return join(this.server.folder, `operator-${this.#operators}.log`);
  }

  async startOperator(): Promise<void> {
    this.#operators++;
    const log = createLog({
      program: 'collective-operator',
      level: 'debug',
      destination: { write: (line) => appendFileSync(this.operatorLogFile, line) },
    });
    const resolve = (address: string): string => this.detours.get(address) ?? this.kubelet.resolve(address);
    this.#operator = await RunningOperator.start(this.server, resolve, log);
  }

  /** Whatever it was doing ends in the middle; what it wrote last stays. */
  async stopOperator(): Promise<void> {
    await this.#operator?.[Symbol.asyncDispose]();
    this.#operator = undefined;
  }

  async metrics(): Promise<string> {
    return (await this.#operator?.metrics.registry.metrics()) ?? '';
  }

  async applyCollective(name = 'photos', domain = DOMAIN): Promise<KubeObject> {
    return await this.server.admin.apply({
      apiVersion: API_VERSION,
      kind: 'Collective',
      metadata: { name, namespace: NAMESPACE },
      spec: { domain },
    });
  }

  async applyMember(name: string, spec: object = {}, metadata: object = {}): Promise<KubeObject> {
    return await this.server.admin.apply({
      ...this.member(name),
      metadata: { name, namespace: NAMESPACE, ...metadata },
      spec: { collectiveRef: { name: 'photos' }, nodePools: [pool(2)], users: [{ name: 'ann', admin: true }], ...spec },
    } as KubeObject);
  }

  member(name: string): KubeReference {
    return { apiVersion: API_VERSION, kind: 'Member', metadata: { name, namespace: NAMESPACE } };
  }

  object(apiVersion: string, kind: string, name: string): KubeReference {
    return { apiVersion, kind, metadata: { name, namespace: NAMESPACE } };
  }

  async ready(name: string, withinMs = MEMBER_READY_WITHIN_MS): Promise<KubeObject> {
    return await this.whenMember(name, isSettled, 'is ready and settled', withinMs);
  }

  async whenMember(
    name: string,
    holds: (member: KubeObject) => boolean,
    what: string,
    withinMs = MEMBER_READY_WITHIN_MS,
  ): Promise<KubeObject> {
    const checked = (member: KubeObject): boolean => {
      this.kubelet.throwIfFailed();
      return holds(member);
    };
    try {
      return await this.server.admin.when(this.member(name), checked, what, withinMs);
    } catch (thrown) {
      process.stderr.write(`${this.kubelet.logs}\n`);
      throw thrown;
    }
  }

  /** As `kubectl collective context import` does: certificate, key and bundle become a folder. */
  async identityFolder(secretName: string, member: string): Promise<string> {
    const folder = join(this.server.folder, `identity-${secretName}`);
    mkdirSync(folder, { recursive: true });
    const secret = await this.server.admin.find(this.object('v1', 'Secret', secretName));
    const trust = await this.server.admin.find(this.object('v1', 'ConfigMap', `${member}-trust`));
    const data = (secret?.data ?? {}) as Readonly<Record<string, string>>;
    const text = (key: string): string => Buffer.from(data[key] ?? '', 'base64').toString('utf8');
    const bundlePem = ((trust?.data ?? {}) as Readonly<Record<string, string>>)['trust.pem'] ?? '';
    await writeTrustFiles(folder, { certificatePem: text('tls.crt'), keyPem: text('tls.key'), bundlePem });
    return folder;
  }

  /** The administration of a member, as its operator. */
  async admin(member: string): Promise<AdminConnection> {
    return await connectAdmin({
      coordinator: this.kubelet.resolve(`${member}-coordinator.${NAMESPACE}.svc:7420`),
      trustDomain: `${member}.${DOMAIN}`,
      credentials: await this.identityFolder(`${member}-operator-tls`, member),
    });
  }

  /** A session of a user of `spec.users`, once its certificate and its rights are there. */
  async userSession(member: string, user = 'ann'): Promise<Session> {
    await this.whenMember(
      member,
      ({ status }) => {
        const { users = [] } = status as { users?: readonly { name: string; uid?: number }[] };
        return users.some(({ name, uid }) => name === user && uid !== undefined);
      },
      `has the user ${user}`,
    );
    return await this.session(`${member}-user-${user}`, member);
  }

  /** A session with `at`, with the identity in that Secret of `member`. */
  async session(secretName: string, member: string, at = member): Promise<Session> {
    return await connect({
      coordinator: this.kubelet.resolve(`${at}-coordinator.${NAMESPACE}.svc:7420`),
      trustDomain: `${member}.${DOMAIN}`,
      credentials: await this.identityFolder(secretName, member),
      connectWithinMs: 20_000,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopOperator();
    await this.#stack.disposeAsync();
  }
}

class RunningOperator implements AsyncDisposable {
  readonly metrics: OperatorMetrics;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  readonly #stack: AsyncDisposableStack;

  static async start(server: TestApiServer, resolve: (address: string) => string, log: Log): Promise<RunningOperator> {
    const stack = new AsyncDisposableStack();
    const metrics = new OperatorMetrics();
    const api = stack.use(
      await operatorApi(server, { person: OPERATOR_ACCOUNT, log, metrics, userAgent: OPERATOR_AGENT }),
    );
    const coordinators = stack.use(new GrpcCoordinatorAccess({ resolve, callWithinMs: 3_000 }));
    return new RunningOperator({ api, coordinators, metrics, log, stack });
  }

  private constructor({
    api,
    coordinators,
    metrics,
    log,
    stack,
  }: {
    api: HttpKubeApi;
    coordinators: GrpcCoordinatorAccess;
    metrics: OperatorMetrics;
    log: Log;
    stack: AsyncDisposableStack;
  }) {
    const clock = new SystemClock();
    const events = stack.use(new EventRecorder({ api, clock, log, instance: 'test' }));
    this.metrics = metrics;
    this.#stack = stack;
    const operator = new Operator({
      api,
      namespaces: [],
      settings: { image: 'collective:test', imagePullPolicy: 'IfNotPresent', networkPolicies: true },
      coordinators,
      events,
      metrics,
      clock,
      random: new SystemRandom(),
      log,
    });
    this.#running = operator.run(this.#stop.signal);
    this.#running.catch((thrown: unknown) => log.fatal({ err: thrown }, 'operator ended'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#stack.disposeAsync();
  }
}

export function pool(replicas: number, changes: object = {}): object {
  return { name: 'disk', replicas, capacity: '1Gi', ...changes };
}

export function isSettled(member: KubeObject): boolean {
  return hasCondition(member, 'Ready') && hasCondition(member, 'Reconciling', 'False');
}
