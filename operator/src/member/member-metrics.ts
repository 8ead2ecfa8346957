/** What the operator knows of members, for Prometheus. Of a Member that is gone nothing is told any more. */
import { Gauge, type Registry } from 'prom-client';
import type { MemberStatus } from '../api/member.ts';
import type { CoordinatorAnswer } from '../coordinator/coordinator-answer.ts';
import type { ObjectKey } from '../kube/kube-object.ts';

const MEMBER = ['namespace', 'member'] as const;

export class MemberMetrics {
  readonly #registry: Registry;
  readonly #gauges: Gauge[] = [];
  readonly #certificates: Gauge;
  /** Which certificates are told of a member. */
  readonly #told = new Map<string, readonly string[]>();
  readonly #ready: Gauge;
  readonly #nodesReady: Gauge;
  readonly #nodesDesired: Gauge;
  readonly #underReplicated: Gauge;
  readonly #unreadable: Gauge;
  readonly #lost: Gauge;
  readonly #generation: Gauge;
  readonly #capacity: Gauge;
  readonly #used: Gauge;
  readonly #reachable: Gauge;

  constructor(registry: Registry) {
    this.#registry = registry;
    this.#ready = this.#gauge('collective_member_ready', 'Whether the member is Ready');
    this.#nodesReady = this.#gauge('collective_member_nodes_ready', 'Nodes that are ready');
    this.#nodesDesired = this.#gauge('collective_member_nodes_desired', 'Nodes that there should be');
    this.#underReplicated = this.#gauge(
      'collective_member_under_replicated_chunks',
      'Chunks with fewer replicas than wanted',
    );
    this.#unreadable = this.#gauge('collective_member_unreadable_chunks', 'Chunks without any sound replica left');
    this.#lost = this.#gauge('collective_member_lost_blocks', 'Blocks that lost what was written last, until settled');
    this.#generation = this.#gauge('collective_member_ca_generation', 'Generation of the authority');
    this.#capacity = this.#gauge('collective_member_capacity_bytes', 'What all nodes can hold');
    this.#used = this.#gauge('collective_member_used_bytes', 'What all nodes hold');
    this.#reachable = this.#gauge('collective_coordinator_reachable', 'Whether the coordinator answers the operator');
    this.#certificates = new Gauge({
      name: 'collective_member_certificate_not_after_seconds',
      help: 'When the certificate ends, in Unix seconds',
      labelNames: [...MEMBER, 'certificate'],
      registers: [registry],
    });
  }

  seen({ namespace, name }: ObjectKey, status: MemberStatus, coordinator: CoordinatorAnswer): void {
    const labels = { namespace, member: name };
    const [ready = 0, desired = 0] = (status.nodesReady ?? '').split('/').map(Number);
    this.#ready.set(labels, status.conditions?.some((each) => each.type === 'Ready' && each.status === 'True') ? 1 : 0);
    this.#nodesReady.set(labels, ready);
    this.#nodesDesired.set(labels, desired);
    this.#generation.set(labels, status.ca?.generation ?? 0);
    this.#reachable.set(labels, coordinator.state === 'answered' ? 1 : 0);
    if (coordinator.state === 'answered') {
      const { underReplicated, unreadable, lost } = coordinator.status.replication;
      this.#underReplicated.set(labels, underReplicated);
      this.#unreadable.set(labels, unreadable);
      this.#lost.set(labels, lost);
      this.#capacity.set(labels, coordinator.status.capacityBytes);
      this.#used.set(labels, coordinator.status.usedBytes);
    }
    const certificates = status.certificates ?? [];
    this.#tellOnly(
      labels,
      certificates.map((each) => each.name),
    );
    for (const { name: certificate, notAfter } of certificates)
      this.#certificates.set({ ...labels, certificate }, Date.parse(notAfter) / 1000);
  }

  forget({ namespace, name }: ObjectKey): void {
    const labels = { namespace, member: name };
    for (const gauge of this.#gauges) gauge.remove(labels);
    this.#tellOnly(labels, []);
  }

  #tellOnly(labels: { readonly namespace: string; readonly member: string }, certificates: readonly string[]): void {
    const key = `${labels.namespace}/${labels.member}`;
    const kept = new Set(certificates);
    for (const certificate of this.#told.get(key) ?? []) {
      if (!kept.has(certificate)) this.#certificates.remove({ ...labels, certificate });
    }
    if (certificates.length === 0) this.#told.delete(key);
    else this.#told.set(key, certificates);
  }

  #gauge(name: string, help: string): Gauge {
    const gauge = new Gauge({ name, help, labelNames: [...MEMBER], registers: [this.#registry] });
    this.#gauges.push(gauge);
    return gauge;
  }
}
