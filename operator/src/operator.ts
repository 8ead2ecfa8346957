/**
 * The parts of a running operator: what it watches, whom it asks, and the controllers of Members and Collectives. One of several
 * leads; only the leader watches and writes. `main.ts` builds one from flags, tests build one with parts of their own.
 */
import type { Clock } from '@collective/base/clock';
import type { Log } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import type { Collective } from './api/collective.ts';
import type { Member } from './api/member.ts';
import { CertManagerSupport } from './ca/cert-manager-support.ts';
import { CollectiveReconciler } from './collective/collective-reconciler.ts';
import type { CoordinatorAccess } from './coordinator/coordinator-access.ts';
import { RequestWatch } from './csr/request-watch.ts';
import type { KubeApi } from './kube/kube-api.ts';
import type { ObjectKey, ResourceKind } from './kube/kube-object.ts';
import { RESOURCES } from './kube/resources.ts';
import { ClaimUsers } from './member/claim-users.ts';
import { ClusterCache, memberKeyOf } from './member/cluster-cache.ts';
import { ClusterWarnings } from './member/cluster-warnings.ts';
import { MemberMetrics } from './member/member-metrics.ts';
import { type EventSink, MemberReconciler } from './member/member-reconciler.ts';
import type { OperatorSettings } from './member/shape.ts';
import { Applier } from './runtime/applier.ts';
import { Controller } from './runtime/controller.ts';
import { DeclaredStatus } from './runtime/declared-status.ts';
import type { OperatorMetrics } from './runtime/metrics.ts';
import { keyOf, nameOf, type ObjectChange } from './runtime/object-store.ts';
import { WorkQueue } from './runtime/work-queue.ts';

/** A member that does not answer holds a worker for some seconds; the others go on. */
const MEMBER_WORKERS = 8;
const COLLECTIVE_WORKERS = 1;

export interface OperatorParts {
  readonly api: KubeApi;
  /** Empty: all. */
  readonly namespaces: readonly string[];
  readonly settings: OperatorSettings;
  readonly coordinators: CoordinatorAccess;
  readonly events: EventSink;
  readonly metrics: OperatorMetrics;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class Operator {
  readonly #parts: OperatorParts;
  readonly #memberMetrics: MemberMetrics;
  #cache: ClusterCache | undefined;

  constructor(parts: OperatorParts) {
    this.#parts = parts;
    this.#memberMetrics = new MemberMetrics(parts.metrics.registry);
  }

  /** What keeps it from its work; undefined also while another one leads. */
  get trouble(): string | undefined {
    return this.#cache?.trouble;
  }

  /** Once. Until the signal is aborted and every reconcile under way has ended. */
  async run(signal: AbortSignal): Promise<void> {
    const { api, namespaces, clock, random, log, metrics } = this.#parts;
    const cache = new ClusterCache({ api, namespaces, clock, random, log });
    this.#cache = cache;
    const queue = (name: string) => new WorkQueue<ObjectKey>({ clock, random, nameOf, metrics: metrics.ofQueue(name) });
    const members = queue('member');
    const collectives = queue('collective');
    cache.onChange((resource, change) => addKeys({ cache, members, collectives }, resource, change));
    using requests = new RequestWatch({ clock, log, onRequest: (key) => members.add(key) });
    const controllers = this.#controllers({ cache, members, collectives }, requests);
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const watching = cache.run(either);
    try {
      await Promise.race([cache.whenSynced(signal), watching]);
      log.info({ members: cache.members().length }, 'operator works');
      await Promise.race([Promise.all(controllers.map((controller) => controller.run(signal))), watching]);
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    } finally {
      stop.abort();
      members.stop();
      collectives.stop();
      await watching;
    }
  }

  #controllers({ cache, members, collectives }: Queues, requests: RequestWatch): Controller[] {
    const { api, clock, log, metrics, coordinators, events, settings } = this.#parts;
    const applier = new Applier({ api, observed: (reference) => cache.get(reference), log });
    const statuses = new DeclaredStatus({
      api,
      clock,
      onUndeclared: (object, fields) => {
        const message = `The kind ${object.kind} that is installed is older than this operator, and has no ${fields.join(', ')}: these are not told. Apply the CRDs of this operator's version`;
        log.warn({ kind: object.kind, fields }, 'kind is older than the operator');
        events.record(object, { type: 'Warning', reason: 'KindOutdated', message });
      },
    });
    const member = new MemberReconciler({
      api,
      cache,
      applier,
      coordinators,
      certManager: new CertManagerSupport({ api, clock }),
      warnings: new ClusterWarnings({ api, clock }),
      claimUsers: new ClaimUsers({ api, clock }),
      requests,
      statuses,
      events,
      metrics: this.#memberMetrics,
      settings,
      clock,
      log,
    });
    const collective = new CollectiveReconciler({ api, cache, statuses, events, clock });
    const controller = (
      name: string,
      queue: WorkQueue<ObjectKey>,
      workers: number,
      reconcile: ConstructorParameters<typeof Controller>[0]['reconcile'],
    ): Controller =>
      new Controller({ name, queue, workers, reconcile, clock, log, metrics: metrics.ofController(name) });
    return [
      controller('member', members, MEMBER_WORKERS, (key, signal) => member.reconcile(key, signal)),
      controller('collective', collectives, COLLECTIVE_WORKERS, (key, signal) => collective.reconcile(key, signal)),
    ];
  }
}

interface Queues {
  readonly cache: ClusterCache;
  readonly members: WorkQueue<ObjectKey>;
  readonly collectives: WorkQueue<ObjectKey>;
}

/** Who has to look when something changed. */
function addKeys(queues: Queues, resource: ResourceKind, change: ObjectChange): void {
  const { object } = change;
  if (resource === RESOURCES.members) addMember(queues, object as unknown as Member);
  else if (resource === RESOURCES.collectives) addCollective(queues, object as unknown as Collective);
  else addOwners(queues, change);
}

/** And those who have the same name elsewhere: whose the trust domain is may have changed (K1). */
function addMember({ cache, members, collectives }: Queues, member: Member): void {
  const key = keyOf(member);
  members.add(key);
  collectives.add({ namespace: key.namespace, name: member.spec.collectiveRef.name });
  for (const other of cache.members()) {
    if (other.metadata.name === key.name && other.metadata.namespace !== key.namespace) members.add(keyOf(other));
  }
}

function addCollective({ cache, members, collectives }: Queues, collective: Collective): void {
  const key = keyOf(collective);
  collectives.add(key);
  for (const member of cache.members()) {
    const isIn = member.metadata.namespace === key.namespace && member.spec.collectiveRef.name === key.name;
    if (isIn) members.add(keyOf(member));
  }
}

/** Also whose it was: an object that has lost its label is missed by its member. */
function addOwners({ members }: Queues, change: ObjectChange): void {
  const objects = change.type === 'changed' ? [change.previous, change.object] : [change.object];
  for (const object of objects) {
    const key = memberKeyOf(object);
    if (key !== undefined) members.add(key);
  }
}
