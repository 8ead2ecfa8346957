/**
 * A member in the cluster as people outside see it: exposed by NodePort, with a person whose certificate lies in a Secret. Every
 * byte goes through the external address of each node (D10).
 */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep } from '@collective/base/clock';
import { SystemClock } from '@collective/base/system-clock';
import { type ConnectOptions, connect, type Member } from '@collective/client';
import { writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { hasCondition, type KubeObject, type KubeReference } from '../apiserver/api-client.ts';
import type { TestCluster } from './cluster.ts';

const READY_WITHIN_MS = 240_000;
const USER = 'tester';
const CONNECT_WITHIN_MS = 60_000;
const CREDENTIALS_EVERY_MS = 1_000;

export interface MemberWish {
  readonly name: string;
  readonly nodes?: number;
  readonly spec?: object;
}

/** A trust domain is claimed once in a cluster: every file has a domain of its own. */
function domainOf({ namespace }: TestCluster): string {
  return `${namespace}.example`;
}

export function collectiveObject(cluster: TestCluster): KubeObject {
  const resources = { requests: { cpu: '20m', memory: '160Mi' }, limits: { memory: '768Mi' } };
  return {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Collective',
    metadata: { name: 'lab' },
    spec: { domain: domainOf(cluster), defaults: { resources } },
  };
}

export class ClusterMember implements AsyncDisposable {
  readonly name: string;
  readonly trustDomain: string;
  readonly #cluster: TestCluster;
  readonly #wish: MemberWish;
  readonly #folder: string;

  constructor(cluster: TestCluster, wish: MemberWish) {
    this.#cluster = cluster;
    this.#wish = wish;
    this.name = wish.name;
    this.trustDomain = `${wish.name}.${domainOf(cluster)}`;
    this.#folder = mkdtempSync(join(tmpdir(), `cluster-member-${wish.name}-`));
  }

  /** The object as the test wants it; `change` is merged into its spec at the top. */
  object(change: object = {}): KubeObject {
    return {
      apiVersion: 'collective.storage/v1alpha1',
      kind: 'Member',
      metadata: { name: this.name },
      spec: {
        collectiveRef: { name: 'lab' },
        coordinator: { storage: { size: '1Gi' } },
        nodePools: [{ name: 'disks', replicas: this.#wish.nodes ?? 2, capacity: '2Gi' }],
        exposure: { type: 'NodePort' },
        users: [{ name: USER, admin: true }],
        ...this.#wish.spec,
        ...change,
      },
    };
  }

  async apply(change: object = {}): Promise<void> {
    await this.#cluster.apply(this.object(change));
  }

  reference(): KubeReference {
    const { apiVersion, kind } = this.object();
    return { apiVersion, kind, metadata: { name: this.name, namespace: this.#cluster.namespace } };
  }

  async when(holds: (member: KubeObject) => boolean, what: string, withinMs = READY_WITHIN_MS): Promise<KubeObject> {
    return await this.#cluster.api.when(this.reference(), holds, what, withinMs);
  }

  /** Ready for the spec that it has now. */
  async whenReady(withinMs = READY_WITHIN_MS): Promise<KubeObject> {
    const settled = ({ metadata, status }: KubeObject): boolean =>
      (status as { observedGeneration?: number } | undefined)?.observedGeneration === metadata.generation;
    return await this.when((member) => settled(member) && hasCondition(member, 'Ready'), 'is ready', withinMs);
  }

  /** Folder with the person's certificate as it is now, and the roots that the member publishes. */
  async credentials(): Promise<string> {
    const namespace = this.#cluster.namespace;
    const secretName = `${this.name}-user-${USER}`;
    const secret = await this.#cluster.api.when(
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: secretName, namespace } },
      ({ data }) => (data as Record<string, string> | undefined)?.['tls.crt'] !== undefined,
      'holds a certificate',
    );
    const trust = await this.#cluster.api.when(
      { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `${this.name}-trust`, namespace } },
      ({ data }) => (data as Record<string, string> | undefined)?.['trust.pem'] !== undefined,
      'holds the roots',
    );
    const pem = (name: string): string =>
      Buffer.from((secret.data as Record<string, string>)[name] ?? '', 'base64').toString();
    await writeTrustFiles(this.#folder, {
      certificatePem: pem('tls.crt'),
      keyPem: pem('tls.key'),
      bundlePem: (trust.data as Record<string, string>)['trust.pem'] ?? '',
    });
    return this.#folder;
  }

  /** As kubelet does for a pod that mounts Secret and ConfigMap: what changes there is soon in the folder. */
  async keepCredentials(signal: AbortSignal): Promise<void> {
    const clock = new SystemClock();
    while (!signal.aborted) {
      await this.credentials();
      await sleep(clock, CREDENTIALS_EVERY_MS, signal).catch(() => undefined);
    }
  }

  async endpoint(): Promise<string> {
    const { status } = await this.when((member) => externalOf(member) !== undefined, 'says where it is reached');
    const endpoint = externalOf({ status });
    assert.ok(endpoint !== undefined);
    return endpoint;
  }

  async connect(change: Partial<ConnectOptions> = {}): Promise<Member> {
    return await connect({
      coordinator: await this.endpoint(),
      trustDomain: this.trustDomain,
      credentials: await this.credentials(),
      listener: 'external',
      connectWithinMs: CONNECT_WITHIN_MS,
      reconnectWithinMs: READY_WITHIN_MS,
      ...change,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function externalOf({ status }: Readonly<Record<string, unknown>>): string | undefined {
  return (status as { endpoints?: { external?: string } } | undefined)?.endpoints?.external;
}
