/**
 * Scheduler, kubelet and volume driver in the place of those that run pods, for more pods than a machine could run: it says in
 * the status of claims and pods what they would say, in the same steps (bound, running, ready), and runs nothing. It follows the
 * apiserver by watches and writes what it must, so that it costs the machine little.
 */
import assert from 'node:assert/strict';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { LABELS } from '@collective/operator/api/group';
import { secretText } from '@collective/operator/ca/secret-data';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import type { KubeObject, ObjectKey } from '@collective/operator/kube/kube-object';
import { isReadyPod } from '@collective/operator/kube/object-facts';
import { RESOURCES } from '@collective/operator/kube/resources';
import { namesOf, podOf } from '@collective/operator/member/names';
import { keyOf, nameOf } from '@collective/operator/runtime/object-store';
import { Reflector } from '@collective/operator/runtime/reflector';
import { WorkQueue } from '@collective/operator/runtime/work-queue';
import { type ApiClient, isPassing } from './api-client.ts';
import { operatorApi } from './operator-side.ts';
import { type StandInCoordinators, standInAddress } from './stand-in-coordinators.ts';
import type { TestApiServer } from './test-apiserver.ts';

const AT_ONCE = 8;
const MACHINE = 'machine-1';
const HOST_IP = '127.0.0.1';
/** From the start of a process to its first good answer. */
const STARTS_WITHIN_MS = 1_000;

export interface StandInKubeletOptions {
  readonly server: TestApiServer;
  readonly coordinators: StandInCoordinators;
  /** By the order of their names: which address is whose. */
  readonly members: readonly string[];
}

export class StandInKubelet implements AsyncDisposable {
  readonly #options: StandInKubeletOptions;
  readonly #api: HttpKubeApi;
  readonly #admin: ApiClient;
  readonly #claims: Reflector;
  readonly #pods: Reflector;
  readonly #claimKeys: WorkQueue<ObjectKey>;
  readonly #podKeys: WorkQueue<ObjectKey>;
  readonly #runningSinceMs = new Map<string, number>();
  readonly #stop = new AbortController();
  #running: Promise<unknown> = Promise.resolve();
  #failure: unknown;

  static async start(options: StandInKubeletOptions): Promise<StandInKubelet> {
    const api = await operatorApi(options.server, { userAgent: 'stand-in-kubelet' });
    return new StandInKubelet(options, api);
  }

  private constructor(options: StandInKubeletOptions, api: HttpKubeApi) {
    const clock = new SystemClock();
    const random = new SystemRandom();
    this.#options = options;
    this.#api = api;
    this.#admin = options.server.admin;
    const queue = (): WorkQueue<ObjectKey> => new WorkQueue({ clock, random, nameOf });
    const follow = (resource: typeof RESOURCES.pods, keys: WorkQueue<ObjectKey>): Reflector => {
      const reflector = new Reflector({ api, resource, clock, random, log: silentLog });
      reflector.onChange(({ object }) => keys.add(keyOf(object)));
      return reflector;
    };
    [this.#claimKeys, this.#podKeys] = [queue(), queue()];
    this.#claims = follow(RESOURCES.volumeClaims, this.#claimKeys);
    this.#pods = follow(RESOURCES.pods, this.#podKeys);
    const { signal } = this.#stop;
    this.#running = Promise.all([
      this.#claims.run(signal),
      this.#pods.run(signal),
      ...workers(
        this.#claimKeys,
        (key) => this.#provide(key),
        signal,
        (thrown) => this.#heard(thrown),
      ),
      ...workers(
        this.#podKeys,
        (key) => this.#tend(key),
        signal,
        (thrown) => this.#heard(thrown),
      ),
    ]);
  }

  get readyPods(): number {
    return this.#pods.store.list().filter(isReadyPod).length;
  }

  /** What waits on pods must not wait for ever on a kubelet that failed. */
  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#claimKeys.stop();
    this.#podKeys.stop();
    await this.#running;
    this.#api[Symbol.dispose]();
  }

  #heard(thrown: unknown): void {
    this.#failure ??= thrown;
  }

  async #provide(key: ObjectKey): Promise<void> {
    const claim = this.#claims.store.get(key);
    if (claim === undefined || (claim.status as { phase?: string } | undefined)?.phase === 'Bound') return;
    const { storage } = (claim.spec as { resources: { requests: { storage: string } } }).resources.requests;
    const status = { phase: 'Bound', accessModes: ['ReadWriteOnce'], capacity: { storage } };
    await this.#admin.patch({ ...claim, metadata: { name: key.name, namespace: key.namespace } }, { status }, 'status');
  }

  async #tend(key: ObjectKey): Promise<void> {
    const pod = this.#pods.store.get(key);
    const name = nameOf(key);
    if (pod === undefined) {
      this.#runningSinceMs.delete(name);
      return;
    }
    if (pod.metadata.deletionTimestamp !== undefined) {
      this.#runningSinceMs.delete(name);
      await this.#admin.removeNow(pod);
      return;
    }
    if ((pod.spec as { nodeName?: string }).nodeName === undefined) {
      await this.#admin.bindPod(pod, MACHINE);
      return;
    }
    if (isReadyPod(pod)) return;
    const since = this.#runningSinceMs.get(name);
    if (since === undefined) {
      this.#runningSinceMs.set(name, performance.now());
      await this.#tell(pod, false);
      this.#podKeys.addAfter(key, STARTS_WITHIN_MS);
      return;
    }
    const restMs = STARTS_WITHIN_MS - (performance.now() - since);
    if (restMs > 0) {
      this.#podKeys.addAfter(key, restMs);
      return;
    }
    await this.#serve(pod);
    await this.#tell(pod, true);
  }

  /** A coordinator listens before its pod is ready, and knows those nodes whose pods are. */
  async #serve({ metadata }: KubeObject): Promise<void> {
    const { labels = {}, namespace = '' } = metadata;
    const member = labels[LABELS.member] ?? '';
    const { coordinators, members } = this.#options;
    if (metadata.name === podOf(namesOf(member).coordinator)) {
      const at = members.indexOf(member);
      assert.ok(at >= 0, `${member} has no address`);
      const address = standInAddress(this.#options.server.port, at);
      await coordinators.start(member, address, await this.#filesOf(member, namespace));
    }
    const nodes = this.#pods.store
      .list(namespace)
      .filter((pod) => pod.metadata.labels?.[LABELS.member] === member)
      .filter((pod) => isReadyPod(pod) || pod.metadata.name === metadata.name)
      .flatMap((pod) => pod.metadata.labels?.[LABELS.node] ?? []);
    coordinators.setNodes(member, nodes);
  }

  async #filesOf(
    member: string,
    namespace: string,
  ): Promise<{ certificatePem: string; keyPem: string; bundlePem: string }> {
    const names = namesOf(member);
    const secret = await this.#api.get({ resource: RESOURCES.secrets, namespace, name: names.coordinatorTls });
    const trust = await this.#api.get({ resource: RESOURCES.configMaps, namespace, name: names.trust });
    const bundlePem = ((trust?.data ?? {}) as Readonly<Record<string, string>>)['trust.pem'] ?? '';
    return { certificatePem: secretText(secret, 'tls.crt'), keyPem: secretText(secret, 'tls.key'), bundlePem };
  }

  async #tell(pod: KubeObject, isReady: boolean): Promise<void> {
    const now = new Date().toISOString().replace(/\.[0-9]+/, '');
    const status = isReady ? 'True' : 'False';
    const condition = (type: string, is = status) => ({ type, status: is, lastTransitionTime: now });
    const [container] = (pod.spec as { containers: readonly [{ name: string; image: string }] }).containers;
    await this.#admin.patch(
      pod,
      {
        status: {
          phase: 'Running',
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
              name: container.name,
              image: container.image,
              imageID: '',
              ready: isReady,
              started: true,
              restartCount: 0,
              state: { running: { startedAt: now } },
            },
          ],
        },
      },
      'status',
    );
  }
}

function workers(
  queue: WorkQueue<ObjectKey>,
  act: (key: ObjectKey) => Promise<void>,
  signal: AbortSignal,
  heard: (thrown: unknown) => void,
): Promise<void>[] {
  return Array.from({ length: AT_ONCE }, async () => {
    while (!signal.aborted) {
      const key = await queue.get(signal).catch(() => undefined);
      if (key === undefined) return;
      try {
        await act(key);
        queue.done(key, 'forget');
      } catch (thrown) {
        queue.done(key, 'retry');
        if (!isPassing(thrown) && !signal.aborted) heard(thrown);
      }
    }
  });
}
