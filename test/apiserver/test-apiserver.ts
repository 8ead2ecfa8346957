/**
 * A real kube-apiserver on a real etcd, as processes of this test on the loopback: nothing schedules, no pod runs and no
 * garbage is collected (there is no controller manager), but API, validation, watches, RBAC, server-side apply and audit are
 * Kubernetes' own. It is ready in seconds, keeps nothing, and ends with whoever disposes it.
 */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { get, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { parseMemberName, trustDomainOf } from '@collective/base/ids';
import { findTools } from '@collective/hack/kind/tool-cache';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { freePorts } from '../integration/free-ports.ts';
import { type ApiAccess, ApiClient } from './api-client.ts';
import { type AuditEvent, AuditTail } from './audit-tail.ts';
import { ForeignProcess } from './foreign-process.ts';

/** Deadlines against hanging, not promises: tests share the machine with others. */
const ETCD_READY_WITHIN_MS = 60_000;
const API_READY_WITHIN_MS = 180_000;
const AUDIT_LOG_MIB_MAX = 4_000;

export interface Person {
  readonly user: string;
  /** `system:masters` may do everything. */
  readonly groups?: readonly string[];
}

/** A kubeconfig as an object; written as JSON it is a file that every client reads. */
export interface Kubeconfig {
  readonly apiVersion: 'v1';
  readonly kind: 'Config';
  readonly clusters: readonly { readonly name: string; readonly cluster: object }[];
  readonly users: readonly { readonly name: string; readonly user: object }[];
  readonly contexts: readonly { readonly name: string; readonly context: object }[];
  readonly 'current-context': string;
}

export class TestApiServer implements AsyncDisposable {
  readonly folder: string;
  readonly url: string;
  /** May do everything. */
  readonly admin: ApiClient;
  readonly #authority: ScratchAuthority;
  readonly #adminAccess: ApiAccess;
  readonly #port: number;
  #etcd: ForeignProcess | undefined;
  #apiserver: ForeignProcess | undefined;

  static async start(): Promise<TestApiServer> {
    const tools = findTools(['etcd', 'kube-apiserver']);
    const authority = await ScratchAuthority.create(trustDomainOf(parseMemberName('apiserver'), 'test'), {
      unconstrained: true,
    });
    const [port = 0] = await freePorts(1);
    const url = `https://127.0.0.1:${port}`;
    const admin = await accessOf(authority, url, { user: 'admin', groups: ['system:masters'] });
    const server = new TestApiServer(authority, url, port, admin);
    try {
      await server.#writeFiles();
      await server.#startEtcd(join(tools.etcd, 'etcd'));
      await server.#startApiServer(join(tools['kube-apiserver'], 'kube-apiserver'));
      return server;
    } catch (thrown) {
      await server[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  private constructor(authority: ScratchAuthority, url: string, port: number, admin: ApiAccess) {
    this.folder = mkdtempSync(join(tmpdir(), 'collective-apiserver-'));
    this.url = url;
    this.#authority = authority;
    this.#port = port;
    this.#adminAccess = admin;
    this.admin = new ApiClient(admin);
  }

  /** What somebody with these groups sees and may do. */
  async clientFor(person: Person): Promise<ApiClient> {
    return new ApiClient(await accessOf(this.#authority, this.url, person));
  }

  /** `url`: where it reaches the server, when that is not the server's own address. */
  async kubeconfigFor(person: Person, url = this.url): Promise<Kubeconfig> {
    return kubeconfigOf(await accessOf(this.#authority, url, person), person.user);
  }

  get port(): number {
    return this.#port;
  }

  /** Processes that serve, by name. */
  get pids(): Readonly<Record<string, number>> {
    assert.ok(this.#etcd !== undefined && this.#apiserver !== undefined);
    return { etcd: this.#etcd.pid, 'kube-apiserver': this.#apiserver.pid };
  }

  get caPem(): string {
    return this.#authority.bundlePem;
  }

  get adminKubeconfig(): Kubeconfig {
    return kubeconfigOf(this.#adminAccess, 'admin');
  }

  /** A file for programs that want one. */
  writeKubeconfig(name: string, kubeconfig: Kubeconfig): string {
    const file = join(this.folder, `${name}.kubeconfig`);
    writeFileSync(file, JSON.stringify(kubeconfig), { mode: 0o600 });
    return file;
  }

  /** Every request that has been answered, and every watch that has begun, in order. */
  auditEvents(): readonly AuditEvent[] {
    return new AuditTail(this.#file('audit.log')).next();
  }

  /** What is asked from now on. */
  auditTail(): AuditTail {
    const tail = new AuditTail(this.#file('audit.log'));
    tail.next();
    return tail;
  }

  /** All connections break, as when a control plane's machine fails; what was stored stays. */
  async restart(): Promise<void> {
    await this.#apiserver?.end();
    await this.#startApiServer(join(findTools(['kube-apiserver'])['kube-apiserver'], 'kube-apiserver'));
  }

  /** etcd forgets what was: versions older than now can be read no more. The server's own cache may still know some. */
  async compact(): Promise<void> {
    const socket = this.#file('etcd.sock');
    const { header } = await askEtcd<{ header: { revision: string } }>(socket, 'range', { key: 'AA==' });
    await askEtcd(socket, 'compaction', { revision: header.revision, physical: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.admin[Symbol.dispose]();
    await this.#apiserver?.end();
    await this.#etcd?.end();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #writeFiles(): Promise<void> {
    const serving = await this.#authority.leaf({
      subject: 'CN=kube-apiserver',
      names: [
        { type: 'ip', value: '127.0.0.1' },
        { type: 'dns', value: 'localhost' },
        { type: 'dns', value: 'kubernetes.default.svc' },
      ],
    });
    const accounts = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const auditPolicy = {
      apiVersion: 'audit.k8s.io/v1',
      kind: 'Policy',
      omitStages: ['RequestReceived'],
      rules: [{ level: 'Metadata' }],
    };
    const files = {
      'ca.pem': this.#authority.bundlePem,
      'serving.pem': serving.certificatePem,
      'serving-key.pem': serving.keyPem,
      'accounts.pem': accounts.publicKey.export({ type: 'spki', format: 'pem' }),
      'accounts-key.pem': accounts.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      'audit-policy.json': JSON.stringify(auditPolicy),
      'audit.log': '',
    };
    for (const [name, content] of Object.entries(files)) writeFileSync(this.#file(name), content, { mode: 0o600 });
    mkdirSync(this.#file('certs'));
  }

  async #startEtcd(program: string): Promise<void> {
    const socket = this.#file('etcd.sock');
    this.#etcd = new ForeignProcess(
      program,
      [
        '--name=test',
        `--data-dir=${this.#file('etcd')}`,
        `--listen-client-urls=unix://${socket}`,
        `--listen-peer-urls=unix://${this.#file('peer.sock')}`,
        // Nobody asks for these: there is one etcd, and its one client knows the socket.
        '--advertise-client-urls=http://localhost:1',
        '--initial-advertise-peer-urls=http://localhost:1',
        '--initial-cluster=test=http://localhost:1',
        '--unsafe-no-fsync',
        '--log-level=warn',
      ],
      this.#file('etcd.log'),
    );
    await this.#etcd.ready(() => isHealthy(socket), ETCD_READY_WITHIN_MS);
  }

  async #startApiServer(program: string): Promise<void> {
    this.#apiserver = new ForeignProcess(
      program,
      [
        `--etcd-servers=unix://${this.#file('etcd.sock')}`,
        '--bind-address=127.0.0.1',
        `--secure-port=${this.#port}`,
        `--cert-dir=${this.#file('certs')}`,
        `--tls-cert-file=${this.#file('serving.pem')}`,
        `--tls-private-key-file=${this.#file('serving-key.pem')}`,
        `--client-ca-file=${this.#file('ca.pem')}`,
        '--authorization-mode=RBAC',
        '--anonymous-auth=false',
        '--service-account-issuer=https://kubernetes.default.svc',
        `--service-account-key-file=${this.#file('accounts.pem')}`,
        `--service-account-signing-key-file=${this.#file('accounts-key.pem')}`,
        '--service-cluster-ip-range=10.96.0.0/16',
        // Its Service would name an address of the loopback, which no Service may.
        '--endpoint-reconciler-type=none',
        // Nobody makes the accounts and their tokens that it would put into pods.
        '--disable-admission-plugins=ServiceAccount',
        `--audit-policy-file=${this.#file('audit-policy.json')}`,
        `--audit-log-path=${this.#file('audit.log')}`,
        '--audit-log-mode=blocking-strict',
        // One file for the whole test: whoever reads on from where it was would miss what goes into the next.
        `--audit-log-maxsize=${AUDIT_LOG_MIB_MAX}`,
      ],
      this.#file('apiserver.log'),
    );
    await this.#apiserver.ready(() => this.#isReady(), API_READY_WITHIN_MS);
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await this.admin.ask('/readyz')).status === 200;
    } catch (thrown) {
      return refusesYet(thrown);
    }
  }

  #file(name: string): string {
    return join(this.folder, name);
  }
}

async function accessOf(authority: ScratchAuthority, url: string, { user, groups = [] }: Person): Promise<ApiAccess> {
  const leaf = await authority.leaf({
    subject: [`CN=${user}`, ...groups.map((group) => `O=${group}`)].join(', '),
    names: [{ type: 'dns', value: 'client.apiserver.test' }],
    serverAuth: false,
  });
  return { url, caPem: authority.bundlePem, certificatePem: leaf.certificatePem, keyPem: leaf.keyPem };
}

function kubeconfigOf({ url, caPem, certificatePem, keyPem }: ApiAccess, user: string): Kubeconfig {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const cluster = { server: url, 'certificate-authority-data': base64(caPem) };
  const certificate = { 'client-certificate-data': base64(certificatePem), 'client-key-data': base64(keyPem) };
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster }],
    users: [{ name: user, user: certificate }],
    contexts: [{ name: 'test', context: { cluster: 'test', user } }],
    'current-context': 'test',
  };
}

function isHealthy(socketPath: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  get({ socketPath, path: '/health' }, (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  }).once('error', (thrown) => {
    try {
      resolve(refusesYet(thrown));
    } catch (unexpected) {
      reject(unexpected);
    }
  });
  return promise;
}

/** A call of etcd's own API in its JSON form. */
async function askEtcd<Answer>(socketPath: string, method: string, body: object): Promise<Answer> {
  const asking = request({ socketPath, path: `/v3/kv/${method}`, method: 'POST' });
  asking.end(JSON.stringify(body));
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  const answer = await text(response);
  assert.equal(response.statusCode, 200, `etcd: ${method}: ${answer}`);
  return JSON.parse(answer) as Answer;
}

/** False for what a server says that does not listen yet; anything else is thrown on. */
function refusesYet(thrown: unknown): false {
  const code = (thrown as NodeJS.ErrnoException).code ?? '';
  if (['ECONNREFUSED', 'ENOENT', 'ECONNRESET'].includes(code)) return false;
  throw thrown;
}
