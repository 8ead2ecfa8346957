/**
 * Which cluster, as whom and in which namespace, by kubectl's rules: --kubeconfig, else KUBECONFIG (several files, the first
 * that names a thing wins), else ~/.kube/config, else the service account of a pod. Certificates, tokens and credential
 * plugins are the library's; it is loaded here, when the first command needs it.
 */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import type { KubeConfig } from '@kubernetes/client-node';

export interface ClusterWish {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
}

export interface ClusterChoice {
  readonly config: KubeConfig;
  readonly context: string;
  /** Where the apiserver is, without a slash at the end. */
  readonly server: string;
  readonly namespace: string;
  /** Files that say so, absolute, as KUBECONFIG would name them; unset: those that any command of this person finds. */
  readonly kubeconfig?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

export async function chooseCluster(wish: ClusterWish, env: Environment, cwd: string): Promise<ClusterChoice> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const given = wish.kubeconfig ?? env.KUBECONFIG;
  const files = kubeconfigFiles(wish, env, cwd);
  const config = new KubeConfig();
  if (files.length === 0) {
    if (env.KUBERNETES_SERVICE_HOST === undefined || !existsSync(SERVICE_ACCOUNT_TOKEN)) {
      throw new CollectiveError('not_found', 'Find a kubeconfig: there is none', {
        todo: "Name one by --kubeconfig or KUBECONFIG; 'kubectl config view' shows what kubectl uses.",
      });
    }
    config.loadFromCluster();
  } else {
    for (const file of files) mergeInto(config, loadFile(new KubeConfig(), file));
  }
  const context = wish.context ?? config.getCurrentContext();
  const entry = config.getContextObject(context);
  if (entry === null) {
    const known = config.getContexts().map(({ name }) => name);
    throw new CollectiveError(
      'not_found',
      context
        ? `Use context '${context}' of the kubeconfig: there is none of this name`
        : 'Use the current context of the kubeconfig: none is set',
      { todo: `Choose one by --context${known.length === 0 ? '' : `: ${known.join(', ')}`}.` },
    );
  }
  config.setCurrentContext(context);
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) {
    throw new CollectiveError(
      'config_invalid',
      `Use context '${context}': the kubeconfig has no cluster '${entry.cluster}'`,
      {
        todo: "'kubectl config view' shows what is there.",
      },
    );
  }
  tellPlugin(config);
  return {
    config,
    context,
    server: server.replace(/\/+$/, ''),
    namespace: wish.namespace ?? entry.namespace ?? 'default',
    kubeconfig: given === undefined ? undefined : files.join(delimiter),
  };
}

/** Those that exist; one that was named by a flag must. */
export function kubeconfigFiles({ kubeconfig }: ClusterWish, env: Environment, cwd: string): string[] {
  if (kubeconfig !== undefined) {
    const files = split(kubeconfig, cwd);
    const missing = files.find((file) => !existsSync(file));
    if (missing === undefined && files.length > 0) return files;
    throw new CollectiveError('not_found', `Read the kubeconfig ${missing ?? "''"}: there is no such file`, {
      todo: 'Check --kubeconfig.',
    });
  }
  const found = env.KUBECONFIG ? split(env.KUBECONFIG, cwd) : [join(env.HOME || homedir(), '.kube', 'config')];
  return found.filter((file) => existsSync(file));
}

function split(list: string, cwd: string): string[] {
  return list
    .split(delimiter)
    .filter((file) => file !== '')
    .map((file) => resolve(cwd, file));
}

function loadFile(into: KubeConfig, file: string): KubeConfig {
  try {
    into.loadFromFile(file);
  } catch (cause) {
    throw new CollectiveError('config_invalid', `Read the kubeconfig ${file}`, {
      cause,
      todo: `Correct the file; 'kubectl config view --kubeconfig ${file}' reads it too.`,
    });
  }
  // A plugin that is named by a path lies beside the file.
  for (const { exec } of into.users) {
    const command: unknown = exec?.command;
    if (typeof command === 'string' && command.includes('/') && !isAbsolute(command))
      exec.command = join(dirname(file), command);
  }
  return into;
}

/** The first that names a thing wins; the library would refuse the second. */
function mergeInto(config: KubeConfig, next: KubeConfig): void {
  const adding = <Named extends { readonly name: string }>(
    known: readonly Named[],
    more: readonly Named[],
  ): Named[] => [...known, ...more.filter(({ name }) => !known.some((one) => one.name === name))];
  config.clusters = adding(config.clusters, next.clusters);
  config.users = adding(config.users, next.users);
  config.contexts = adding(config.contexts, next.contexts);
  if (!config.currentContext) config.currentContext = next.currentContext;
}

/** Plugins of several clouds refuse to work without what kubectl tells them. */
function tellPlugin(config: KubeConfig): void {
  const exec = config.getCurrentUser()?.exec;
  if (!exec) return;
  const cluster = config.getCurrentCluster();
  const spec = {
    interactive: false,
    ...(exec.provideClusterInfo === true && cluster !== null
      ? {
          cluster: {
            server: cluster.server,
            'tls-server-name': cluster.tlsServerName,
            'insecure-skip-tls-verify': cluster.skipTLSVerify,
            'certificate-authority-data': cluster.caData,
          },
        }
      : {}),
  };
  const value = JSON.stringify({ apiVersion: exec.apiVersion, kind: 'ExecCredential', spec });
  exec.env = [...(exec.env ?? []), { name: 'KUBERNETES_EXEC_INFO', value }];
}
