/**
 * A member as an apiserver would show it, without one: what is planned is put into maps, certificates come from the model of
 * cert-manager with real cryptography, claims are bound and pods ready at once, and its coordinator answers for all nodes. What
 * is measured on it is the operator's own share: plan, comparison with what was applied, conditions and status.
 */
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { silentLog } from '@collective/base/log';
import type { Collective } from '@collective/operator/api/collective';
import { API_VERSION, FINALIZER } from '@collective/operator/api/group';
import type { Member, MemberStatus } from '@collective/operator/api/member';
import { CertManagerModel } from '@collective/operator/ca/cert-manager-model';
import type { CoordinatorAnswer } from '@collective/operator/coordinator/coordinator-answer';
import { peerReports } from '@collective/operator/coordinator/peer-reports';
import type { KubeObject, ObjectReference, ResourceKind } from '@collective/operator/kube/kube-object';
import { RESOURCES } from '@collective/operator/kube/resources';
import { answered, examplePicture } from '@collective/operator/member/example-picture';
import { statusOf } from '@collective/operator/member/member-status';
import { podOf } from '@collective/operator/member/names';
import { type MemberObjects, type MemberPicture, NO_OBJECTS } from '@collective/operator/member/picture';
import { conditionsOf, type MemberPlan, planMember } from '@collective/operator/member/plan-member';
import { Applier } from '@collective/operator/runtime/applier';

const NAMESPACE = 'team';
const DOMAIN = 'photos.example';
const START_MS = Date.UTC(2026, 0, 1);
const LOOKS_MAX = 50;
const OF_CERT_MANAGER = new Set(['Certificate', 'Issuer', 'Secret', 'ConfigMap']);

type Objects = Record<keyof MemberObjects, Map<string, KubeObject>>;

export class ModelledMember {
  readonly name: string;
  readonly #model: CertManagerModel;
  readonly #objects: Objects;
  readonly #applier: Applier;
  #member: Member;
  #nowMs = START_MS;
  #count = 0;

  constructor(name: string, nodes: number) {
    this.name = name;
    this.#model = new CertManagerModel(`${name}.${DOMAIN}`);
    const { certificates, issuers, secrets, configMaps } = this.#model;
    const empty = Object.keys(NO_OBJECTS).map((kind) => [kind, new Map()]);
    this.#objects = { ...(Object.fromEntries(empty) as Objects), certificates, issuers, secrets, configMaps };
    this.#member = {
      apiVersion: API_VERSION,
      kind: 'Member',
      metadata: {
        name,
        namespace: NAMESPACE,
        uid: `uid-${name}`,
        generation: 1,
        creationTimestamp: '2026-01-01T00:00:00Z',
        finalizers: [FINALIZER],
      },
      spec: {
        collectiveRef: { name: 'photos' },
        nodePools: [{ name: 'disk', replicas: nodes, capacity: '100Gi' }],
        users: [{ name: 'ann' }],
      },
    };
    this.#applier = new Applier({
      api: {
        apply: async (resource, object) => this.#put(resource, object),
        patch: async (reference) => this.#found(reference),
        delete: async () => false,
      },
      observed: ({ resource, name: object }) => this.#mapOf(resource).get(object),
      log: silentLog,
    });
  }

  /** Until a look changes nothing any more. */
  async settle(): Promise<void> {
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      const { writes } = await this.look();
      await this.#model.turn(this.#nowMs);
      this.#nowMs += 1_000;
      if (writes === 0 && looks > 1 && this.isReady) return;
    }
    assert.fail(
      `${this.name} is not settled after ${LOOKS_MAX} looks: ${JSON.stringify(this.#member.status?.conditions)}`,
    );
  }

  get isReady(): boolean {
    const conditions = this.#member.status?.conditions ?? [];
    return conditions.some(({ type, status }) => type === 'Ready' && status === 'True');
  }

  plan(): MemberPlan {
    return this.#planOf(this.#picture());
  }

  /** One look as a reconcile has it, but for the calls: how many objects and status it would have written. */
  async look(): Promise<{ readonly writes: number }> {
    const picture = this.#picture();
    const plan = this.#planOf(picture);
    const { writes } = await this.#applier.apply(plan.applies);
    const status = statusOf({ picture, plan, conditions: conditionsOf(plan, picture, []), settingsWait: false });
    if (isDeepStrictEqual(this.#member.status, status)) return { writes };
    this.#member = { ...this.#member, status: asStored(status) };
    return { writes: writes + 1 };
  }

  /** As a cache has them after a restart: other objects with the same content, of which nothing has been read yet. */
  forgetWhatWasRead(): void {
    for (const map of Object.values(this.#objects)) for (const [name, one] of map) map.set(name, structuredClone(one));
  }

  get objects(): number {
    return Object.values(this.#objects).reduce((sum, map) => sum + map.size, 0);
  }

  #planOf(picture: MemberPicture): MemberPlan {
    const trustDomain = `${this.name}.${DOMAIN}`;
    const plan = planMember(picture, {
      renewalPolicySupported: true,
      userLeaves: [],
      peers: peerReports(picture.coordinator, trustDomain),
    });
    assert.equal(plan.kind, 'run');
    return plan as MemberPlan;
  }

  #picture(): MemberPicture {
    const { uid = '', creationTimestamp: created = '' } = this.#member.metadata;
    return examplePicture({
      nowMs: this.#nowMs,
      member: this.#member,
      collective: COLLECTIVE,
      claims: [{ namespace: NAMESPACE, name: this.name, uid, created, holds: true }],
      objects: this.#objects,
      coordinator: this.#coordinator(),
    });
  }

  #coordinator(): CoordinatorAnswer {
    if (!this.#objects.pods.has(podOf(`${this.name}-coordinator`)))
      return { state: 'unasked', why: 'it has no pod yet' };
    const nodes = [...this.#objects.pods.keys()].flatMap((pod) => {
      const [, node] = /^[a-z0-9-]+?-(disk-\d+)-0$/.exec(pod) ?? [];
      return node === undefined ? [] : [{ name: node }];
    });
    return answered({ nodes });
  }

  #put(resource: ResourceKind, object: KubeObject): KubeObject {
    const { name } = object.metadata;
    if (OF_CERT_MANAGER.has(object.kind)) this.#model.apply({ resource, object }, this.#nowMs);
    else this.#store(resource, object);
    return this.#found({ resource, namespace: NAMESPACE, name });
  }

  #store(resource: ResourceKind, object: KubeObject): void {
    const objects = this.#mapOf(resource);
    const present = objects.get(object.metadata.name);
    const stored: KubeObject = {
      ...object,
      metadata: {
        ...object.metadata,
        uid: present?.metadata.uid ?? `uid-${++this.#count}`,
        resourceVersion: String(++this.#count),
        generation: (present?.metadata.generation ?? 0) + 1,
        creationTimestamp: new Date(this.#nowMs).toISOString(),
      },
      ...(object.kind === 'PersistentVolumeClaim' ? { status: boundTo(object) } : {}),
    };
    objects.set(object.metadata.name, stored);
    if (object.kind === 'StatefulSet') this.#store(RESOURCES.pods, readyPodOf(stored, this.#nowMs));
  }

  #found({ resource, name }: ObjectReference): KubeObject {
    const found = this.#mapOf(resource).get(name);
    assert.ok(found !== undefined, `${resource.kind} ${name}`);
    return found;
  }

  #mapOf({ plural }: ResourceKind): Map<string, KubeObject> {
    const found = Object.entries(RESOURCES).find(([, resource]) => resource.plural === plural)?.[0];
    assert.ok(found !== undefined && found in this.#objects, plural);
    return this.#objects[found as keyof MemberObjects];
  }
}

const COLLECTIVE: Collective = {
  apiVersion: API_VERSION,
  kind: 'Collective',
  metadata: { name: 'photos', namespace: NAMESPACE, uid: 'uid-photos', generation: 1 },
  spec: { domain: DOMAIN },
};

/** What JSON keeps of it. */
function asStored(status: MemberStatus): MemberStatus {
  return JSON.parse(JSON.stringify(status)) as MemberStatus;
}

function boundTo({ spec }: KubeObject): object {
  const { storage } = (spec as { resources: { requests: { storage: string } } }).resources.requests;
  return { phase: 'Bound', capacity: { storage } };
}

function readyPodOf({ metadata, spec }: KubeObject, nowMs: number): KubeObject {
  const { template } = spec as { template: { metadata: object; spec: object } };
  const condition = { type: 'Ready', status: 'True', lastTransitionTime: new Date(nowMs - 60_000).toISOString() };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...template.metadata, name: podOf(metadata.name), namespace: NAMESPACE },
    spec: template.spec,
    status: { phase: 'Running', conditions: [condition] },
  };
}
