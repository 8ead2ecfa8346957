/**
 * `kubectl collective` against a real apiserver, and Members as an operator leaves them: no operator runs, so a test says
 * itself what the status is.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KUBECTL_COLLECTIVE } from '@collective/cli/kubectl/kubectl-program';
import { run } from '@collective/cli/run';
import { testShell } from '@collective/cli/shell-for-tests';
import { parse } from 'yaml';
import type { KubeObject } from './api-client.ts';
import { installCrd } from './crds.ts';
import { TestApiServer } from './test-apiserver.ts';

const API_VERSION = 'collective.storage/v1alpha1';
export const NAMESPACE = 'photos';

/** A Member without one is refused. */
const POOLS = [{ name: 'rack', replicas: 2, capacity: '10Gi' }];

export interface Ran {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

export interface PluginRun {
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  readonly signal?: AbortSignal;
}

export class PluginWorld implements AsyncDisposable {
  readonly server: TestApiServer;
  readonly kubeconfig: string;

  static async start(): Promise<PluginWorld> {
    const server = await TestApiServer.start();
    try {
      const world = new PluginWorld(server);
      await world.#prepare();
      return world;
    } catch (thrown) {
      await server[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  private constructor(server: TestApiServer) {
    this.server = server;
    this.kubeconfig = server.writeKubeconfig('plugin', {
      ...server.adminKubeconfig,
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin', namespace: NAMESPACE } }],
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }

  async run(args: readonly string[], { env = {}, cwd = this.server.folder, signal }: PluginRun = {}): Promise<Ran> {
    const { folder } = this.server;
    const shell = testShell({ env: { HOME: folder, KUBECONFIG: this.kubeconfig, ...env }, cwd, signal });
    const exit = await run(args, shell, KUBECTL_COLLECTIVE);
    return { exit, out: shell.out(), err: shell.err() };
  }

  /** Runs and expects success; the result is what it printed. */
  async ok(args: readonly string[], options: PluginRun = {}): Promise<string> {
    const { exit, out, err } = await this.run(args, options);
    assert.equal(exit, 0, `kubectl collective ${args.join(' ')} ended with ${exit}:\n${err}${out}`);
    return out;
  }

  async json<T>(args: readonly string[]): Promise<T> {
    return JSON.parse(await this.ok([...args, '-o', 'json'])) as T;
  }

  async collective(name: string, domain: string, status: object = {}): Promise<void> {
    const { admin } = this.server;
    const object = { apiVersion: API_VERSION, kind: 'Collective', metadata: { name, namespace: NAMESPACE } };
    await admin.apply({ ...object, spec: { domain } });
    await admin.patch(object, { status }, 'status');
  }

  async member(
    name: string,
    spec: object,
    status?: object,
    metadata: Partial<KubeObject['metadata']> = {},
  ): Promise<KubeObject> {
    const { admin } = this.server;
    const reference = { apiVersion: API_VERSION, kind: 'Member', metadata: { name, namespace: NAMESPACE } };
    const applied: KubeObject = await admin.apply({
      ...reference,
      metadata: { ...reference.metadata, ...metadata },
      spec: { collectiveRef: { name: 'home' }, nodePools: POOLS, ...spec },
    });
    if (status === undefined) return applied;
    return await this.memberStatus(name, { observedGeneration: applied.metadata.generation, ...status });
  }

  async memberStatus(name: string, status: object): Promise<KubeObject> {
    return await this.server.admin.patch(memberReference(name), { status }, 'status');
  }

  async seen(name: string): Promise<KubeObject> {
    const found = await this.server.admin.find(memberReference(name));
    assert.ok(found !== undefined, `there is no Member ${name}`);
    return found;
  }

  async #prepare(): Promise<void> {
    const { admin } = this.server;
    await admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
    for (const plural of ['collectives', 'members']) {
      const file = join(import.meta.dirname, `../../crds/collective.storage_${plural}.yaml`);
      await installCrd(this.server, parse(readFileSync(file, 'utf8')) as KubeObject);
    }
  }
}

export function memberReference(name: string): { apiVersion: string; kind: string; metadata: KubeObject['metadata'] } {
  return { apiVersion: API_VERSION, kind: 'Member', metadata: { name, namespace: NAMESPACE } };
}

/** Conditions as an operator writes them, `Ready: 'True'` or `Ready: ['False', 'Reason', 'message']`. */
export function conditions(states: Record<string, string | readonly [string, string, string]>): object[] {
  return Object.entries(states).map(([type, state]) => {
    const [status, reason, message] = typeof state === 'string' ? [state, 'AsWanted', ''] : state;
    return { type, status, reason, message, lastTransitionTime: '2026-11-20T12:00:00Z' };
  });
}
