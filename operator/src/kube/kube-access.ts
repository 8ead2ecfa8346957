/**
 * Where the apiserver is and how this process proves who it is: inside a cluster by the account of the pod, outside by a
 * kubeconfig. Both may change while the process runs (kubelet replaces tokens, the cluster its CA, a login plugin its
 * certificate), so credentials are asked for again and again; they are read anew after a while, and at once when refused.
 *
 * A pod's account is two files and is read here; the kubeconfig with its plugins and providers is client-node's business,
 * which costs 85 MB and is loaded only then.
 */
import { access, readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { SecureContextOptions } from 'node:tls';
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';

/** As client-go: a token that kubelet has replaced stays valid for minutes. */
const READ_AGAIN_AFTER_MS = 60_000;
const ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface KubeCredentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'> & {
    readonly servername?: string;
    readonly rejectUnauthorized?: boolean;
  };
}

export interface CredentialSource {
  readonly server: URL;
  /** `refused`: these were turned away; whatever is there now counts. */
  credentials(refused?: KubeCredentials): Promise<KubeCredentials>;
}

export interface KubeAccessOptions {
  readonly clock: Clock;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Where kubelet mounts the account of a pod. */
  readonly accountFolder?: string;
}

export class KubeAccess implements CredentialSource {
  readonly server: URL;
  /** Of the pod or of the kubeconfig's context. */
  readonly namespace: string | undefined;
  readonly #clock: Clock;
  readonly #read: (refused: boolean) => Promise<KubeCredentials>;
  #kept: { readonly credentials: KubeCredentials; readonly readAtMs: number } | undefined;

  /** As kubectl's libraries look: $KUBECONFIG, the pod's account, ~/.kube/config. */
  static async fromEnvironment(options: KubeAccessOptions): Promise<KubeAccess> {
    const { env = process.env } = options;
    const { KUBECONFIG: named = '' } = env;
    if (named !== '') return await KubeAccess.fromKubeconfig(named, options);
    if (env.KUBERNETES_SERVICE_HOST !== undefined) return await KubeAccess.fromAccount(options);
    const file = join(env.HOME ?? homedir(), '.kube', 'config');
    if (await isThere(file)) return await KubeAccess.fromKubeconfig(file, options);
    throw new CollectiveError('config_invalid', 'Find an apiserver: this is no pod, and there is no kubeconfig', {
      todo: 'Set KUBECONFIG, or run inside a cluster with an account.',
    });
  }

  /** By the account that kubelet mounts into a pod. */
  static async fromAccount({ clock, env = process.env, accountFolder }: KubeAccessOptions): Promise<KubeAccess> {
    const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = env;
    if (host === undefined) {
      throw new CollectiveError('config_invalid', 'Find the apiserver of the cluster: no KUBERNETES_SERVICE_HOST');
    }
    const file = (name: string): string => join(accountFolder ?? ACCOUNT_FOLDER, name);
    const read = async (): Promise<KubeCredentials> => {
      const [token, ca] = await Promise.all([readFile(file('token'), 'utf8'), readFile(file('ca.crt'), 'utf8')]);
      return { headers: { authorization: `Bearer ${token.trim()}` }, tls: { ca } };
    };
    const namespace = (await isThere(file('namespace')))
      ? (await readFile(file('namespace'), 'utf8')).trim()
      : undefined;
    const server = new URL(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`);
    return await KubeAccess.#proven(new KubeAccess(server, namespace, clock, read), `the account in ${file('')}`);
  }

  /** One file, or several as in $KUBECONFIG. */
  static async fromKubeconfig(path: string, { clock }: { readonly clock: Clock }): Promise<KubeAccess> {
    const { KubeConfig } = await import('@kubernetes/client-node');
    const load = (): InstanceType<typeof KubeConfig> => {
      const config = new KubeConfig();
      const [first = '', ...others] = path.split(delimiter).filter((file) => file !== '');
      config.loadFromFile(first);
      for (const file of others) {
        const other = new KubeConfig();
        other.loadFromFile(file);
        config.mergeConfig(other, true);
      }
      return config;
    };
    let config: InstanceType<typeof KubeConfig>;
    try {
      config = load();
    } catch (thrown) {
      throw new CollectiveError('config_invalid', `Read the kubeconfig ${path}`, { cause: thrown });
    }
    const cluster = config.getCurrentCluster();
    if (cluster === null)
      throw new CollectiveError('config_invalid', `Read the kubeconfig ${path}: no current cluster`);
    if (!cluster.server.startsWith('https:') || cluster.proxyUrl !== undefined) {
      throw new CollectiveError('config_invalid', `Reach ${cluster.server} of ${path}: only https without a proxy`);
    }
    const read = async (refused: boolean): Promise<KubeCredentials> => {
      // A login may have been renewed within the kubeconfig itself; files that it names are read each time.
      if (refused) config = load();
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      return credentialsOf(options);
    };
    const namespace = config.getContextObject(config.getCurrentContext())?.namespace;
    return await KubeAccess.#proven(new KubeAccess(new URL(cluster.server), namespace, clock, read), path);
  }

  private constructor(
    server: URL,
    namespace: string | undefined,
    clock: Clock,
    read: (refused: boolean) => Promise<KubeCredentials>,
  ) {
    this.server = server;
    this.namespace = namespace;
    this.#clock = clock;
    this.#read = read;
  }

  async credentials(refused?: KubeCredentials): Promise<KubeCredentials> {
    const nowMs = this.#clock.bootMs();
    const kept = this.#kept;
    const isFresh = kept !== undefined && nowMs - kept.readAtMs < READ_AGAIN_AFTER_MS;
    if (isFresh && kept.credentials !== refused) return kept.credentials;
    const credentials = await this.#read(refused !== undefined);
    this.#kept = { credentials, readAtMs: nowMs };
    return credentials;
  }

  /** Fails at the start, with the file's name, rather than at the first call. */
  static async #proven(kube: KubeAccess, where: string): Promise<KubeAccess> {
    try {
      await kube.credentials();
      return kube;
    } catch (thrown) {
      throw new CollectiveError('config_invalid', `Read credentials for ${kube.server.host} from ${where}`, {
        cause: thrown,
      });
    }
  }
}

function credentialsOf(options: RequestOptions): KubeCredentials {
  const { ca, cert, key, servername, rejectUnauthorized, auth, headers = {} } = options;
  const named = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]);
  const basic = typeof auth === 'string' ? { authorization: `Basic ${Buffer.from(auth).toString('base64')}` } : {};
  return {
    headers: { ...basic, ...Object.fromEntries(named) },
    tls: {
      ...(ca === undefined ? {} : { ca }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(servername === undefined ? {} : { servername }),
      ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }),
    },
  };
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
