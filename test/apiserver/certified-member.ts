/**
 * The certificates of one member on a real apiserver: gathered, planned and applied again and again, as the operator does, while
 * its peers take what is published one after the other and talk to each other without pause. Every failed talk is kept.
 */
import { sleep } from '@collective/base/clock';
import { silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { ANNOTATIONS, API_VERSION, LABELS } from '@collective/operator/api/group';
import type { CaSpec, CaState, Member } from '@collective/operator/api/member';
import type { CertificatePicture, CertificatePlan, LeafWish } from '@collective/operator/ca/certificate-picture';
import { issuingPatch } from '@collective/operator/ca/issuing-condition';
import { planCertificates } from '@collective/operator/ca/plan-certificates';
import { secretText } from '@collective/operator/ca/secret-data';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import { isKubeError } from '@collective/operator/kube/kube-error';
import type { KubeObject, ResourceKind } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import { Applier } from '@collective/operator/runtime/applier';
import { until } from '../until.ts';
import { TlsPeer } from './tls-peers.ts';

const TURN_MS = 100;
const LEVEL_WITHIN_MS = 60_000;
const clock = new SystemClock();

export const TRUST_DOMAIN = 'alice.photos.test';

export class CertifiedMember implements AsyncDisposable {
  readonly namespace: string;
  readonly peers: readonly TlsPeer[];
  readonly events: string[] = [];
  readonly failures: string[] = [];
  talks = 0;
  ca: CaSpec;
  trigger = '';
  uid = 'first';
  /** So much later than it is: for what waits for days. */
  aheadMs = 0;
  status: Member['status'];
  plan: CertificatePlan | undefined;
  writes = 0;
  turns = 0;
  readonly #api: HttpKubeApi;
  readonly #applier: Applier;
  readonly #ended = new AbortController();
  #seen = new Map<ResourceKind, ReadonlyMap<string, KubeObject>>();
  #paused = false;
  #resting = false;
  #running: readonly Promise<void>[] = [];

  constructor(api: HttpKubeApi, namespace: string, ca: CaSpec) {
    this.#api = api;
    this.namespace = namespace;
    this.ca = ca;
    this.peers = wishes().map((wish) => new TlsPeer(wish));
    this.#applier = new Applier({
      api,
      observed: ({ resource, name }) => this.#seen.get(resource)?.get(name),
      log: silentLog,
    });
  }

  /** Returns when all peers have talked to each other. */
  async start(): Promise<this> {
    this.#running = [this.#reconcile(), this.#talk()];
    await this.until(() => this.talks > 0 && this.authority?.phase === 'Stable', 'all peers talk');
    return this;
  }

  get authority(): CaState | undefined {
    return this.status?.ca;
  }

  async until(level: () => boolean, what: string): Promise<void> {
    const seen = (): string =>
      JSON.stringify([this.status?.ca, this.plan?.condition, this.events, this.failures.slice(0, 3)], undefined, 2);
    await until(level, what, LEVEL_WITHIN_MS, seen);
  }

  /** No operator is at work when this returns. */
  async pause(): Promise<void> {
    this.#paused = true;
    await this.until(() => this.#resting, 'the operator rests');
  }

  resume(): void {
    this.#paused = false;
  }

  /** From now on each did so much at least once more. */
  async moreTurns(count = 5): Promise<void> {
    const [turns, talks] = [this.turns + count, this.talks + 1];
    await this.until(() => this.turns >= turns && this.talks >= talks, 'some more turns');
  }

  object(resource: ResourceKind, name: string): KubeObject | undefined {
    return this.#seen.get(resource)?.get(name);
  }

  peer(uri: string): TlsPeer {
    const found = this.peers.find(({ wish }) => wish.uri.endsWith(uri));
    if (found === undefined) throw new TypeError(`no peer ${uri}`);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await Promise.all(this.#running);
    for (const peer of this.peers) await peer[Symbol.asyncDispose]();
  }

  async #reconcile(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      this.#resting = this.#paused;
      if (this.#paused) {
        await sleep(clock, TURN_MS);
        continue;
      }
      await this.#gather();
      const plan = planCertificates(this.#picture());
      try {
        await this.#apply(plan);
      } catch (thrown) {
        // Somebody was faster: the next turn looks again.
        if (!isKubeError(thrown) || !thrown.isConflict) throw thrown;
        continue;
      }
      this.plan = plan;
      this.status = {
        ca: plan.ca,
        ...(plan.trustBundleHash === undefined ? {} : { trustBundleHash: plan.trustBundleHash }),
      };
      this.events.push(...plan.events.map(({ reason }) => reason));
      this.turns++;
      // One after the other, as kubelets do.
      const due = this.peers[this.turns % this.peers.length];
      for (const peer of this.peers) if (peer === due || peer.set === undefined) await this.#mount(peer);
      await sleep(clock, TURN_MS);
    }
  }

  async #gather(): Promise<void> {
    const { certificates, issuers, secrets, configMaps } = RESOURCES;
    const labelSelector = `${LABELS.member}=alice`;
    const seen = new Map<ResourceKind, ReadonlyMap<string, KubeObject>>();
    for (const resource of [certificates, issuers, secrets, configMaps]) {
      const { objects } = await this.#api.list(resource, { namespace: this.namespace, labelSelector });
      seen.set(resource, new Map(objects.map((one) => [one.metadata.name, one])));
    }
    this.#seen = seen;
  }

  #picture(): CertificatePicture {
    const of = (resource: ResourceKind): ReadonlyMap<string, KubeObject> => this.#seen.get(resource) ?? new Map();
    const annotations = this.trigger === '' ? {} : { annotations: { [ANNOTATIONS.rotateCa]: this.trigger } };
    const { seconds } = clock.now();
    return {
      nowMs: seconds * 1_000 + this.aheadMs,
      member: {
        apiVersion: API_VERSION,
        kind: 'Member',
        metadata: { name: 'alice', namespace: this.namespace, uid: this.uid, ...annotations },
        spec: { collectiveRef: { name: 'photos' }, ca: this.ca },
        ...(this.status === undefined ? {} : { status: this.status }),
      },
      trustDomain: TRUST_DOMAIN,
      namespace: this.namespace,
      renewalPolicySupported: true,
      certificates: of(RESOURCES.certificates),
      issuers: of(RESOURCES.issuers),
      secrets: of(RESOURCES.secrets),
      configMaps: of(RESOURCES.configMaps),
      leaves: this.peers.map(({ wish }) => wish),
      foreign: new Set<string>(),
      peers: this.peers.map(({ report }) => report),
    };
  }

  async #apply({ objects, removals, renewals }: CertificatePlan): Promise<void> {
    const outcome = await this.#applier.apply(objects);
    this.writes += outcome.writes + (await this.#applier.remove(removals)).removed;
    for (const { error } of outcome.refused) throw error;
    for (const name of renewals) {
      const certificate = this.object(RESOURCES.certificates, name);
      if (certificate === undefined) continue;
      const reference = { resource: RESOURCES.certificates, namespace: this.namespace, name };
      const { seconds } = clock.now();
      await this.#api.patch(reference, issuingPatch(certificate, seconds * 1_000), { subresource: 'status' });
      this.writes++;
    }
  }

  async #mount(peer: TlsPeer): Promise<void> {
    const secret = this.object(RESOURCES.secrets, peer.wish.name);
    const trust = this.object(RESOURCES.configMaps, 'alice-trust');
    await peer.mount({
      certificatePem: secretText(secret, 'tls.crt'),
      keyPem: secretText(secret, 'tls.key'),
      bundlePem: (trust?.data as { 'trust.pem'?: string } | undefined)?.['trust.pem'] ?? '',
    });
  }

  async #talk(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      await sleep(clock, TURN_MS / 4);
      if (this.peers.some(({ set }) => set === undefined)) continue;
      for (const server of this.peers.filter(({ wish }) => wish.usages === 'server'))
        for (const client of this.peers.filter((one) => one !== server)) {
          try {
            await client.talkTo(server);
          } catch (thrown) {
            const phase = this.authority?.phase;
            this.failures.push(`${client.wish.name} to ${server.wish.name} in ${phase}: ${(thrown as Error).message}`);
          }
        }
      this.talks++;
    }
  }
}

function wishes(): readonly LeafWish[] {
  const server = (name: string, path: string, host: string): LeafWish => ({
    name,
    uri: `spiffe://${TRUST_DOMAIN}/${path}`,
    dnsName: `${host}.${TRUST_DOMAIN}`,
    usages: 'server',
  });
  const client = (name: string, path: string): LeafWish => ({
    name,
    uri: `spiffe://${TRUST_DOMAIN}/${path}`,
    usages: 'client',
  });
  return [
    server('alice-coordinator-tls', 'coordinator', 'coordinator'),
    server('alice-disk-0-tls', 'node/disk-0', 'disk-0.node'),
    server('alice-disk-1-tls', 'node/disk-1', 'disk-1.node'),
    client('alice-operator-tls', 'operator'),
    client('alice-user-ann', 'user/ann'),
  ];
}
