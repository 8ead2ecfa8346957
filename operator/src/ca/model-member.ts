/**
 * For tests only: a member whose certificates are planned and applied, on a model of cert-manager and with peers that mount
 * what is published, late, and use the last set that fits together, as the programs do. It holds what must be true at every
 * moment, whatever happens and wherever the operator is stopped.
 */
import assert from 'node:assert/strict';
import type { X509Certificate } from 'node:crypto';
import { bundleHash } from '@collective/protocol/tls/trust-set';
import { ANNOTATIONS } from '../api/group.ts';
import type { CaSpec, CaState, Member } from '../api/member.ts';
import { namesOf } from '../member/names.ts';
import { CertManagerModel } from './cert-manager-model.ts';
import { certificateNames } from './certificate-names.ts';
import type { CertificatePicture, CertificatePlan, LeafWish, PeerReport } from './certificate-picture.ts';
import { planCertificates } from './plan-certificates.ts';
import { publishedRoots } from './roots.ts';
import { fingerprintOf, isSignedBy, tlsPairOf } from './secret-data.ts';

const TRUST_DOMAIN = 'alice.photos.test';
const START_MS = Date.UTC(2026, 0, 1);
/** kubelet's word. */
const MOUNT_LAG_MS_MAX = 120_000;
const STEPS_MAX = 200;
const PROMPT_STEPS = 30;
const LATE_MS = 20 * 60_000;

interface Peer {
  readonly wish: LeafWish;
  connected: boolean;
  mountedMs: number;
  /** How late it is told of a change. */
  readonly lagMs: number;
  /** The last set that fitted together. */
  bundle: readonly X509Certificate[];
  leaf: X509Certificate | undefined;
}

export class ModelMember {
  readonly model = new CertManagerModel(TRUST_DOMAIN);
  readonly peers: Peer[];
  readonly leaves: readonly LeafWish[];
  readonly events: string[] = [];
  nowMs = START_MS;
  ca: CaSpec;
  /** What status says. */
  stored: Member['status'];
  uid = 'uid-member';
  trigger = '';
  coordinatorAnswers = true;
  renewalPolicySupported: CertificatePicture['renewalPolicySupported'] = true;
  lastPlan: CertificatePlan | undefined;
  /** Leaves that were lost while no authority could sign them: who holds one of these may be refused for a while. */
  readonly excused = new Set<string>();

  constructor(ca: CaSpec = {}, nodes = 2) {
    this.ca = ca;
    const names = namesOf('alice');
    const server = (name: string, path: string, dns: string): LeafWish => ({
      name,
      uri: `spiffe://${TRUST_DOMAIN}/${path}`,
      dnsName: `${dns}.${TRUST_DOMAIN}`,
      usages: 'server',
    });
    const client = (name: string, path: string): LeafWish => ({
      name,
      uri: `spiffe://${TRUST_DOMAIN}/${path}`,
      usages: 'client',
    });
    this.leaves = [
      server(names.coordinatorTls, 'coordinator', 'coordinator'),
      ...Array.from({ length: nodes }, (_, at) =>
        server(names.nodeTls(`disk-${at}`), `node/disk-${at}`, `disk-${at}.node`),
      ),
      client(names.operatorTls, 'operator'),
      client(certificateNames('alice').user('ann'), 'user/ann'),
    ];
    this.peers = this.leaves.map((wish, at) => ({
      wish,
      connected: false,
      mountedMs: 0,
      lagMs: Math.min(15_000 * (1 + 2 * at), MOUNT_LAG_MS_MAX),
      bundle: [],
      leaf: undefined,
    }));
  }

  get authority(): CaState {
    assert.ok(this.stored?.ca !== undefined, 'there is an authority');
    return this.stored.ca;
  }

  get member(): Member {
    return {
      apiVersion: 'collective.storage/v1alpha1',
      kind: 'Member',
      metadata: {
        name: 'alice',
        namespace: 'photos',
        uid: this.uid,
        ...(this.trigger === '' ? {} : { annotations: { [ANNOTATIONS.rotateCa]: this.trigger } }),
      },
      spec: { collectiveRef: { name: 'photos' }, ca: this.ca },
      ...(this.stored === undefined ? {} : { status: this.stored }),
    };
  }

  picture(changes: Partial<CertificatePicture> = {}): CertificatePicture {
    const { certificates, issuers, secrets, configMaps } = this.model;
    return {
      nowMs: this.nowMs,
      member: this.member,
      trustDomain: TRUST_DOMAIN,
      namespace: 'photos',
      renewalPolicySupported: this.renewalPolicySupported,
      certificates: new Map(certificates),
      issuers: new Map(issuers),
      secrets: new Map(secrets),
      configMaps: new Map(configMaps),
      leaves: this.leaves,
      foreign: new Set(),
      peers: this.coordinatorAnswers ? this.peers.map(reportOf) : undefined,
      ...changes,
    };
  }

  /** One turn of the operator; stopped after so many writes, and then before status is stored. */
  step(stopAfter = Number.POSITIVE_INFINITY): CertificatePlan {
    const plan = planCertificates(this.picture());
    this.#judgePlan(plan);
    const acts = [
      ...plan.objects.map((one) => () => this.model.apply(one, this.nowMs)),
      ...plan.removals.map((one) => () => this.model.remove(one)),
      ...plan.renewals.map((name) => () => this.model.renew(name, this.nowMs)),
    ];
    for (const act of acts.slice(0, stopAfter)) act();
    if (acts.length > stopAfter) return plan;
    this.events.push(...plan.events.map(({ reason }) => reason));
    this.stored = {
      ca: plan.ca,
      certificates: plan.certificates,
      ...(plan.trustBundleHash === undefined ? {} : { trustBundleHash: plan.trustBundleHash }),
    };
    this.lastPlan = plan;
    return plan;
  }

  mount(peer: Peer): void {
    peer.mountedMs = this.nowMs;
    const secret = this.model.secrets.get(peer.wish.name);
    const leaf = secret === undefined ? undefined : tlsPairOf(secret)?.certificate;
    const bundle = publishedRoots(this.model.configMaps.get('alice-trust'));
    if (leaf === undefined || !bundle.some((root) => isSignedBy(leaf, root))) return;
    peer.leaf = leaf;
    peer.bundle = bundle;
  }

  connect(peer: Peer): void {
    this.mount(peer);
    peer.connected = peer.leaf !== undefined;
  }

  /** Time passes: cert-manager, kubelet and the operator do their work, as late as they may. */
  async pass(totalMs: number): Promise<void> {
    const endMs = this.nowMs + totalMs;
    for (let steps = 0; this.nowMs < endMs; steps++) {
      const plan = this.step();
      assert.ok(steps < STEPS_MAX + totalMs / 30_000, `turns without end: ${JSON.stringify(plan.condition)}`);
      await this.model.turn(this.nowMs);
      this.#judgePeers();
      const isWaited = plan.ca?.phase === 'Stable' || plan.ca?.phase === 'Retiring';
      const busy = !isWaited || plan.condition.status !== 'True';
      // An operator that waits for long is late: what happens in minutes has happened by then.
      const leastMs = busy && steps > PROMPT_STEPS ? LATE_MS : 1_000;
      const nextMs = Math.max(Math.min(plan.requeueAfterMs ?? 3_600_000, busy ? 60_000 : 6 * 3_600_000), leastMs);
      this.nowMs = Math.min(this.nowMs + nextMs, endMs);
      for (const peer of this.peers) if (this.nowMs - peer.mountedMs >= peer.lagMs) this.mount(peer);
      this.#judgePeers();
    }
  }

  /** Until nothing is left to do, time standing still but for seconds. */
  async settle(): Promise<void> {
    for (let steps = 0; steps < STEPS_MAX; steps++) {
      const writes = this.model.writes;
      const before = JSON.stringify(this.stored);
      this.step();
      await this.model.turn(this.nowMs);
      for (const peer of this.peers) this.connect(peer);
      this.nowMs += 1_000;
      if (writes === this.model.writes && before === JSON.stringify(this.stored)) return;
    }
    assert.fail(`not settled after ${STEPS_MAX} steps: ${JSON.stringify(this.lastPlan?.condition)}`);
  }

  /** What a plan may never say. */
  #judgePlan({ objects, ca }: CertificatePlan): void {
    const printsOf = (one: CaState | undefined): Set<string> =>
      new Set((one?.generations ?? []).map(({ fingerprint }) => fingerprint));
    const trusted = printsOf(ca);
    const trustedBefore = printsOf(this.stored?.ca);
    for (const { object } of objects) {
      if (object.kind !== 'ConfigMap') continue;
      const roots = publishedRoots(object);
      for (const root of roots)
        assert.ok(trusted.has(fingerprintOf(root)), 'only roots whose fingerprints stand in status are published');
      for (const { wish } of this.peers) {
        const secret = this.model.secrets.get(wish.name);
        const leaf = secret === undefined ? undefined : tlsPairOf(secret)?.certificate;
        const before = publishedRoots(this.model.configMaps.get('alice-trust'));
        const lives = (among: readonly X509Certificate[]): boolean =>
          leaf !== undefined && among.some((root) => isSignedBy(leaf, root));
        const wasTrusted = before.some(
          (root) => trustedBefore.has(fingerprintOf(root)) && leaf !== undefined && isSignedBy(leaf, root),
        );
        assert.ok(!wasTrusted || lives(roots), `${wish.name} lives under a root that is dropped`);
      }
    }
  }

  /** Who is connected accepts whom it may meet, with whatever each of them holds at this moment. */
  #judgePeers(): void {
    const met = this.peers.filter(
      ({ connected, wish, leaf }) => connected && leaf !== undefined && !this.excused.has(wish.uri),
    );
    for (const one of met)
      for (const other of met) {
        const { leaf } = other;
        assert.ok(leaf !== undefined);
        assert.ok(
          one.bundle.some((root) => isSignedBy(leaf, root)),
          `${one.wish.uri} refuses ${other.wish.uri} in phase ${this.stored?.ca?.phase}`,
        );
        assert.ok(this.nowMs < leaf.validToDate.getTime(), `${other.wish.uri} holds an expired leaf`);
      }
  }
}

function reportOf({ wish, connected, bundle, leaf }: Peer): PeerReport {
  const root = leaf === undefined ? undefined : bundle.find((candidate) => isSignedBy(leaf, candidate));
  return {
    peer: wish.uri,
    bundleHash: bundleHash(bundle),
    ...(root === undefined ? {} : { rootFingerprint: root.fingerprint256 }),
    connected,
  };
}
