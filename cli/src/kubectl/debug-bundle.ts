/**
 * All that somebody needs who is to say from afar why a member is not well: objects, events, logs, and what coordinator and
 * nodes say of themselves. Gathered piece by piece, so that a large namespace stays small in memory; what could not be had
 * is told in the bundle and does not stop it. No contents of Secrets (redaction.ts).
 */
import { wallMs } from '@collective/base/clock';
import { CollectiveError, errorChain } from '@collective/base/errors';
import { stringify } from 'yaml';
import type { Shell } from '../shell.ts';
import { VERSION } from '../version.ts';
import { certificateRows } from './certificate-rows.ts';
import { type KubeObject, RESOURCES, type Resource } from './kube-object.ts';
import { healthText } from './member-health.ts';
import { type CollectiveObject, MEMBER_LABEL, type MemberObject, OF_MEMBERS } from './member-object.ts';
import { eventRows, statusLines } from './member-status.ts';
import { drawn, treesOf } from './member-tree.ts';
import { redactObject, redactText } from './redaction.ts';
import { type ClusterSession, memberOf, wantedMembers } from './with-cluster.ts';

export interface BundleWish {
  readonly member?: string;
  /** Of each container; the newest lines. */
  readonly logLines: number;
}

export interface BundleFile {
  readonly path: string;
  readonly text: string;
}

const LOG_BYTES_MAX = 8 * 1024 * 1024;
const HEALTH_PORTS = { coordinator: 9420, node: 9431 } as const;
const OPERATOR = 'app.kubernetes.io/name=collective-operator';
const COMPONENT = 'app.kubernetes.io/component';

/** What is labelled by the operator. */
const LABELLED: readonly Resource[] = [
  RESOURCES.statefulSets,
  RESOURCES.pods,
  RESOURCES.volumeClaims,
  RESOURCES.services,
  RESOURCES.configMaps,
  RESOURCES.disruptionBudgets,
  RESOURCES.networkPolicies,
  RESOURCES.cronJobs,
  RESOURCES.jobs,
];
/** cert-manager makes some of them itself, and names them after what they are for. */
const NAMED: readonly Resource[] = [RESOURCES.certificates, RESOURCES.certificateRequests, RESOURCES.issuers];

export async function* bundleFiles(
  shell: Shell,
  session: ClusterSession,
  wish: BundleWish,
): AsyncGenerator<BundleFile> {
  const gathering = new Gathering(shell, session, wish);
  yield* gathering.files();
}

class Gathering {
  readonly #shell: Shell;
  readonly #session: ClusterSession;
  readonly #wish: BundleWish;
  readonly #missing: string[] = [];

  constructor(shell: Shell, session: ClusterSession, wish: BundleWish) {
    this.#shell = shell;
    this.#session = session;
    this.#wish = wish;
  }

  async *files(): AsyncGenerator<BundleFile> {
    const { namespace } = this.#session;
    const { member: name } = this.#wish;
    // Without Members there is nothing to tell: that fails as a whole.
    const members = name === undefined ? await wantedMembers(this.#session) : [await memberOf(this.#session, name)];
    const collectives = (await this.#list(RESOURCES.collectives)) as CollectiveObject[];
    yield await this.#about(members);
    yield* objectFiles([...collectives, ...members]);
    const labelSelector = name === undefined ? OF_MEMBERS : `${MEMBER_LABEL}=${name}`;
    const kept = new Map<string, KubeObject[]>();
    for (const resource of LABELLED) {
      const objects = await this.#list(resource, { labelSelector });
      kept.set(resource.kind, objects);
      yield* objectFiles(objects);
    }
    for (const resource of NAMED)
      yield* objectFiles((await this.#list(resource)).filter((one) => belongs(one, members)));
    const secrets = await this.#list(RESOURCES.secrets, { metadataOnly: true });
    yield* objectFiles(secrets.filter((one) => belongs(one, members)));
    const [pods = [], volumeClaims = []] = [kept.get('Pod'), kept.get('PersistentVolumeClaim')];
    yield { path: 'tree.txt', text: lines(drawn(treesOf({ collectives, members, pods, volumeClaims }))) };
    const events = await this.#list(RESOURCES.events);
    yield { path: 'events.txt', text: eventText(events.filter((one) => isAbout(one, members))) };
    for (const pod of pods) {
      yield* this.#logs(pod, namespace);
      yield* this.#ownWords(pod, namespace);
    }
    yield* this.#operator();
    const cluster = await this.#text('Ask for the version of the cluster', '/version');
    yield { path: 'versions.txt', text: `kubectl collective ${VERSION}\n${cluster ?? ''}` };
    yield { path: 'missing.txt', text: this.#missing.length === 0 ? 'nothing\n' : lines(this.#missing) };
  }

  async #about(members: readonly MemberObject[]): Promise<BundleFile> {
    const nowMs = wallMs(this.#shell.clock);
    const parts = members.map((member) => {
      const rows = certificateRows([member], [], nowMs).map(
        ({ name, state, notAfter }) => `  ${name}  ${state}  ${notAfter ?? '-'}`,
      );
      return lines([...statusLines(member, nowMs).map(([key, value]) => `${key}: ${value}`), ...rows]);
    });
    const summary = members.map((member) => `${member.metadata.name}: ${healthText(member)}`);
    const head = [`Gathered ${new Date(nowMs).toISOString()} in namespace ${this.#session.namespace}.`, ...summary];
    return { path: 'about.txt', text: `${lines(head)}\n${parts.join('\n')}` };
  }

  async *#logs(pod: KubeObject, namespace: string): AsyncGenerator<BundleFile> {
    for (const container of containersOf(pod)) {
      for (const previous of container.restarted ? [false, true] : [false]) {
        const query = new URLSearchParams({
          container: container.name,
          tailLines: String(this.#wish.logLines),
          limitBytes: String(LOG_BYTES_MAX),
          timestamps: 'true',
          ...(previous ? { previous: 'true' } : {}),
        });
        const what = `Read the log of ${pod.metadata.name}/${container.name}`;
        const text = await this.#text(what, `${podPath(pod, namespace)}/log?${query}`);
        const name = `${container.name}${previous ? '.previous' : ''}.log`;
        if (text !== undefined) yield { path: `logs/${pod.metadata.name}/${name}`, text };
      }
    }
  }

  /** Health and metrics, asked through the apiserver: nothing secret is in either (T3). */
  async *#ownWords(pod: KubeObject, namespace: string): AsyncGenerator<BundleFile> {
    const component = pod.metadata.labels?.[COMPONENT];
    if (component !== 'coordinator' && component !== 'node') return;
    const base = `${podPath(pod, namespace)}:${HEALTH_PORTS[component]}/proxy`;
    for (const word of ['livez', 'readyz', 'metrics']) {
      const text = await this.#text(`Ask ${pod.metadata.name} for /${word}`, `${base}/${word}`);
      if (text !== undefined) yield { path: `${component}s/${pod.metadata.name}/${word}.txt`, text };
    }
  }

  /** Wherever it runs; a person of one namespace may not see it. */
  async *#operator(): AsyncGenerator<BundleFile> {
    const { api, signal } = this.#session;
    const pods = await this.#try(() => api.list(RESOURCES.pods, { labelSelector: OPERATOR, signal }));
    for (const pod of pods ?? []) {
      yield* objectFiles([pod]);
      yield* this.#logs(pod, pod.metadata.namespace ?? '');
    }
  }

  async #text(what: string, path: string): Promise<string | undefined> {
    const { api, signal } = this.#session;
    const found = await this.#try(() => api.text(what, path, signal, 2 * LOG_BYTES_MAX));
    return found === undefined ? undefined : redactText(found);
  }

  async #list(
    resource: Resource,
    more: { labelSelector?: string; metadataOnly?: boolean } = {},
  ): Promise<KubeObject[]> {
    const { api, namespace, signal } = this.#session;
    return (await this.#try(() => api.list(resource, { namespace, signal, ...more }))) ?? [];
  }

  async #try<T>(act: () => Promise<T>): Promise<T | undefined> {
    try {
      return await act();
    } catch (thrown) {
      if (this.#session.signal.aborted || !(thrown instanceof CollectiveError)) throw thrown;
      this.#missing.push(redactText(errorChain(thrown).join(': ')));
      return undefined;
    }
  }
}

function* objectFiles(objects: readonly KubeObject[]): Generator<BundleFile> {
  for (const object of objects) {
    const { kind, metadata } = object;
    const text = redactText(stringify(redactObject(object)));
    yield { path: `objects/${kind.toLowerCase()}/${metadata.name}.yaml`, text };
  }
}

function belongs({ metadata }: KubeObject, members: readonly MemberObject[]): boolean {
  return members.some(
    ({ metadata: { name } }) => metadata.labels?.[MEMBER_LABEL] === name || metadata.name.startsWith(`${name}-`),
  );
}

function isAbout(event: KubeObject, members: readonly MemberObject[]): boolean {
  const { name = '' } = (event.involvedObject ?? {}) as { name?: string };
  return members.some(({ metadata }) => name === metadata.name || name.startsWith(`${metadata.name}-`));
}

function eventText(events: readonly KubeObject[]): string {
  const rows = eventRows(events).map(({ time = '-', type, reason, about, message }) => [
    time,
    type,
    reason,
    about,
    message,
  ]);
  return redactText(lines(rows.map((row) => row.join('  '))));
}

function containersOf({ spec, status }: KubeObject): { name: string; restarted: boolean }[] {
  const { containers = [], initContainers = [] } = (spec ?? {}) as Record<
    string,
    readonly { name: string }[] | undefined
  >;
  const { containerStatuses = [] } = (status ?? {}) as {
    containerStatuses?: readonly { name: string; restartCount?: number }[];
  };
  const restarts = new Map(containerStatuses.map(({ name, restartCount = 0 }) => [name, restartCount]));
  return [...initContainers, ...containers].map(({ name }) => ({ name, restarted: (restarts.get(name) ?? 0) > 0 }));
}

function podPath({ metadata }: KubeObject, namespace: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${metadata.name}`;
}

function lines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join('');
}
