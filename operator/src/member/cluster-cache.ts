/**
 * All that the operator watches: Members and Collectives, and of other kinds only what it made (by a label), so that a cluster
 * full of other things costs nothing. Objects are found by the member that they belong to.
 */
import type { Clock } from '@collective/base/clock';
import type { Log } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import type { Collective } from '../api/collective.ts';
import { LABELS } from '../api/group.ts';
import type { Member } from '../api/member.ts';
import type { KubeApi } from '../kube/kube-api.ts';
import type { KubeObject, ObjectKey, ObjectReference, ResourceKind } from '../kube/kube-object.ts';
import { RESOURCES } from '../kube/resources.ts';
import type { ObjectChange, ObjectStore } from '../runtime/object-store.ts';
import { Reflector } from '../runtime/reflector.ts';
import { MANAGED_SELECTOR } from './names.ts';
import type { MemberObjects, ObjectsByName } from './picture.ts';

const OWN_KINDS = [
  'statefulSets',
  'services',
  'volumeClaims',
  'pods',
  'disruptionBudgets',
  'networkPolicies',
  'serviceAccounts',
  'cronJobs',
  'jobs',
  'configMaps',
  'secrets',
  'certificates',
  'issuers',
  'certificateRequests',
] as const satisfies readonly (keyof MemberObjects)[];

/** Without cert-manager these are not there; everything else goes on. */
const MAY_BE_ABSENT: ReadonlySet<string> = new Set(['certificates', 'issuers', 'certificaterequests']);

export interface ClusterCacheOptions {
  readonly api: Pick<KubeApi, 'list' | 'watch'>;
  /** Empty: all. */
  readonly namespaces: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class ClusterCache {
  /** One for each namespace that is watched. */
  readonly #reflectors = new Map<string, readonly Reflector[]>();
  readonly #namespaces: readonly string[];

  constructor({ api, namespaces, clock, random, log }: ClusterCacheOptions) {
    this.#namespaces = namespaces;
    const reflect = (resource: ResourceKind, labelSelector?: string): void => {
      const scopes = namespaces.length === 0 ? [undefined] : namespaces;
      const made = scopes.map(
        (namespace) =>
          new Reflector({
            api,
            resource,
            clock,
            random,
            log,
            indexBy: memberWords,
            ...(namespace === undefined ? {} : { namespace }),
            ...(labelSelector === undefined ? {} : { labelSelector }),
          }),
      );
      this.#reflectors.set(resource.plural, made);
    };
    reflect(RESOURCES.members);
    reflect(RESOURCES.collectives);
    for (const kind of OWN_KINDS) reflect(RESOURCES[kind], MANAGED_SELECTOR);
  }

  /** `listener` hears of every change of every kind. */
  onChange(listener: (resource: ResourceKind, change: ObjectChange) => void): void {
    for (const resource of this.#kinds()) {
      for (const reflector of this.#of(resource)) reflector.onChange((change) => listener(resource, change));
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#reflectors.values()].flat().map((reflector) => reflector.run(signal)));
  }

  /** Also of kinds that may be absent it is known then whether they are: what is not listed yet must not be taken for missing. */
  async whenSynced(signal: AbortSignal): Promise<void> {
    const waits = [...this.#reflectors].flatMap(([plural, each]) =>
      each.map((one) => (MAY_BE_ABSENT.has(plural) ? one.whenHeard(signal) : one.whenSynced(signal))),
    );
    await Promise.all(waits);
  }

  /** Undefined when all is seen as it is; otherwise the first kind that is not. */
  get trouble(): string | undefined {
    for (const [plural, reflectors] of this.#reflectors) {
      if (MAY_BE_ABSENT.has(plural)) continue;
      const found = reflectors.find(({ hasSynced }) => !hasSynced);
      if (found !== undefined)
        return `${plural} are not known yet: ${found.trouble?.message ?? 'they are being listed'}`;
    }
    return undefined;
  }

  /** What is watched of certificates can be believed. */
  get seesCertificates(): boolean {
    return ['certificates', 'issuers'].every((plural) =>
      (this.#reflectors.get(plural) ?? []).every(({ hasSynced }) => hasSynced),
    );
  }

  get(reference: ObjectReference): KubeObject | undefined {
    return this.#storeOf(reference.resource, reference.namespace)?.get(reference);
  }

  members(): readonly Member[] {
    return this.#of(RESOURCES.members).flatMap(({ store }) => store.list()) as unknown as readonly Member[];
  }

  member(key: ObjectKey): Member | undefined {
    return this.#storeOf(RESOURCES.members, key.namespace)?.get(key) as Member | undefined;
  }

  collectives(): readonly Collective[] {
    return this.#of(RESOURCES.collectives).flatMap(({ store }) => store.list()) as unknown as readonly Collective[];
  }

  collective(key: ObjectKey): Collective | undefined {
    return this.#storeOf(RESOURCES.collectives, key.namespace)?.get(key) as Collective | undefined;
  }

  objectsOf({ namespace, name }: ObjectKey): MemberObjects {
    const found = OWN_KINDS.map((kind): [string, ObjectsByName] => {
      const objects = this.#storeOf(RESOURCES[kind], namespace)?.indexed(`${namespace}/${name}`) ?? [];
      return [kind, new Map(objects.map((object) => [object.metadata.name, object]))];
    });
    return Object.fromEntries(found) as unknown as MemberObjects;
  }

  #kinds(): readonly ResourceKind[] {
    return [RESOURCES.members, RESOURCES.collectives, ...OWN_KINDS.map((kind) => RESOURCES[kind])];
  }

  #of({ plural }: ResourceKind): readonly Reflector[] {
    return this.#reflectors.get(plural) ?? [];
  }

  #storeOf(resource: ResourceKind, namespace: string): ObjectStore | undefined {
    const index = this.#namespaces.length === 0 ? 0 : this.#namespaces.indexOf(namespace);
    return this.#of(resource)[index]?.store;
  }
}

/** To whom an object belongs. */
export function memberKeyOf({ metadata }: KubeObject): ObjectKey | undefined {
  const name = metadata.labels?.[LABELS.member];
  return name === undefined ? undefined : { namespace: metadata.namespace ?? '', name };
}

function memberWords(object: KubeObject): readonly string[] {
  const key = memberKeyOf(object);
  return key === undefined ? [] : [`${key.namespace}/${key.name}`];
}
