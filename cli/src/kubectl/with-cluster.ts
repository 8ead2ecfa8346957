/** From the flags of a command to an apiserver and a namespace, and the end of the connection in every case. */
import { CollectiveError } from '@collective/base/errors';
import type { Command } from 'commander';
import type { Shell } from '../shell.ts';
import { KubeApi } from './kube-api.ts';
import { RESOURCES } from './kube-object.ts';
import { type KubeOptions, kubeOptions } from './kube-verb.ts';
import { chooseCluster } from './kubeconfig.ts';
import type { MemberObject } from './member-object.ts';

export interface ClusterSession {
  readonly api: KubeApi;
  readonly options: KubeOptions;
  /** Of the flag, else of the context. */
  readonly namespace: string;
  readonly signal: AbortSignal;
}

export async function withCluster<T>(
  shell: Shell,
  command: Command,
  use: (session: ClusterSession) => Promise<T>,
): Promise<T> {
  const options = kubeOptions(command);
  const cluster = await chooseCluster(options, shell.env, shell.cwd);
  using api = new KubeApi({ cluster, clock: shell.clock, requestTimeoutMs: options.requestTimeoutMs });
  return await use({ api, options, namespace: cluster.namespace, signal: shell.signal });
}

/** The named one, or all that the flags mean, by namespace and name. */
export async function wantedMembers(session: ClusterSession, name?: string): Promise<MemberObject[]> {
  const { api, options, namespace, signal } = session;
  if (name !== undefined) {
    if (options.allNamespaces || options.selector !== undefined) {
      throw new CollectiveError('invalid_argument', `Look at member ${name}: a name and -A or -l were given`, {
        todo: 'Give the name of a member, or flags that choose several.',
      });
    }
    return [await memberOf(session, name)];
  }
  const found = await api.list(RESOURCES.members, {
    namespace: options.allNamespaces ? undefined : namespace,
    labelSelector: options.selector,
    signal,
  });
  return (found as MemberObject[]).sort(byPlace);
}

export async function memberOf({ api, namespace, signal }: ClusterSession, name: string): Promise<MemberObject> {
  const found = await api.find(RESOURCES.members, namespace, name, signal);
  if (found !== undefined) return found as MemberObject;
  throw new CollectiveError('not_found', `Look at member ${name}: namespace ${namespace} has none of this name`, {
    todo: "'kubectl collective members -A' lists all of them.",
  });
}

function byPlace(a: MemberObject, b: MemberObject): number {
  const key = ({ metadata }: MemberObject): string => `${metadata.namespace}/${metadata.name}`;
  return key(a) < key(b) ? -1 : 1;
}
