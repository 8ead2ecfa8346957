/**
 * A member as it runs in pods: every part reads its identity from a folder that somebody else keeps, as kubelet keeps a
 * projected volume, and no part holds the authority's key. The test is the one who signs and swaps.
 */
import { mkdir, mkdtemp, readdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TrustDomain } from '@collective/base/ids';
import { type AdminConnection, type ConnectOptions, connectAdmin, type MemberStatus } from '@collective/client';
import { MemoryTrust } from '@collective/protocol/tls/memory-trust';
import type { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { type SpiffeId, spiffeId } from '@collective/protocol/tls/spiffe-id';
import type { TrustPems } from '@collective/protocol/tls/trust-set';
import { until } from './cli-world.ts';
import { freePorts } from './free-ports.ts';
import { PartProcess } from './part-process.ts';
import { domainOf } from './raw-session.ts';

const STATUS_WITHIN_MS = 60_000;
let swaps = 0;

/** As kubelet does: a folder with the time in its name, then one rename of `..data`. */
export async function mountFiles(folder: string, pems: TrustPems): Promise<void> {
  await mkdir(folder, { recursive: true });
  const before = await readlink(join(folder, '..data')).catch(() => undefined);
  const fresh = `..2026_11_25_20_00_00.${++swaps}`;
  await mkdir(join(folder, fresh), { mode: 0o755 });
  const files = { 'tls.crt': pems.certificatePem, 'tls.key': pems.keyPem, 'trust.pem': pems.bundlePem };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, fresh, name), text, { mode: 0o440 });
  await symlink(fresh, join(folder, '..data_tmp'));
  await rename(join(folder, '..data_tmp'), join(folder, '..data'));
  const there = await readdir(folder);
  for (const name of Object.keys(files))
    if (!there.includes(name)) await symlink(join('..data', name), join(folder, name));
  if (before !== undefined) await rm(join(folder, before), { recursive: true });
}

export class MountedMember implements AsyncDisposable {
  readonly trustDomain: TrustDomain;
  readonly folder: string;
  readonly coordinator: PartProcess;
  readonly nodes: readonly PartProcess[];
  readonly coordinatorPort: number;
  readonly operatorTrust: MemoryTrust;
  readonly operator: AdminConnection;
  readonly #stack: AsyncDisposableStack;

  static async start(
    authority: ScratchAuthority,
    { nodes = 2, coordinatorFlags = [] as string[] } = {},
  ): Promise<MountedMember> {
    await using stack = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), 'collective-mounted-'));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    await mkdir(join(folder, 'logs'));
    const ports = await freePorts(2 + 2 * nodes);
    const operatorTrust = new MemoryTrust(await authority.peer('operator'));
    const trustDomain = domainOf(authority.trustDomain);
    const operator = stack.use(
      await connectAdmin({ coordinator: `127.0.0.1:${ports[0]}`, trustDomain, trust: operatorTrust }),
    );
    const member = new MountedMember(
      { folder, trustDomain, ports, coordinatorFlags, operator, operatorTrust },
      stack.move(),
    );
    try {
      // Nobody could enrol: this member has no authority of its own.
      await mkdir(join(folder, 'data'));
      const ann = { uri: spiffeId(trustDomain, 'user', 'ann').uri };
      await writeFile(join(folder, 'data', 'first-user.json'), JSON.stringify(ann));
      await member.mount(authority, authority.bundlePem);
      await Promise.all([member.coordinator, ...member.nodes].map((part) => part.start()));
      return member;
    } catch (error) {
      await member[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(
    world: Pick<MountedMember, 'folder' | 'trustDomain' | 'operator' | 'operatorTrust'> & {
      ports: readonly number[];
      coordinatorFlags: readonly string[];
    },
    stack: AsyncDisposableStack,
  ) {
    const { folder, trustDomain, ports } = world;
    const dot = trustDomain.indexOf('.');
    const port = (index: number): number => ports[index] ?? 0;
    this.folder = folder;
    this.trustDomain = trustDomain;
    this.operator = world.operator;
    this.operatorTrust = world.operatorTrust;
    this.coordinatorPort = port(0);
    this.#stack = stack;
    this.coordinator = stack.use(
      new PartProcess({
        name: 'coordinator',
        args: [
          ...['coordinator', '--member', trustDomain.slice(0, dot), '--collective', trustDomain.slice(dot + 1)],
          ...['--data', join(folder, 'data'), '--tls', join(folder, 'coordinator-tls')],
          ...['--listen', `127.0.0.1:${port(0)}`, ...world.coordinatorFlags],
        ],
        healthPort: port(1),
        logFile: join(folder, 'logs', 'coordinator'),
      }),
    );
    this.nodes = Array.from({ length: ports.length / 2 - 1 }, (_, i) => {
      const name = `node-${i + 1}`;
      return stack.use(
        new PartProcess({
          name,
          args: [
            ...['node', '--coordinator', `127.0.0.1:${port(0)}`, '--data', join(folder, name), '--capacity', '4GiB'],
            ...['--tls', join(folder, `${name}-tls`), '--listen', `127.0.0.1:${port(2 + 2 * i)}`],
          ],
          healthPort: port(3 + 2 * i),
          logFile: join(folder, 'logs', name),
        }),
      );
    });
  }

  get parts(): readonly PartProcess[] {
    return [this.coordinator, ...this.nodes];
  }

  /** New leaves by the authority for all parts and the operator; or, with `leaves: false`, new roots alone. */
  async mount(authority: ScratchAuthority, bundlePem: string): Promise<void> {
    const ids = [
      spiffeId(this.trustDomain, 'coordinator'),
      ...this.nodes.map(({ name }) => spiffeId(this.trustDomain, 'node', name)),
    ];
    for (const id of ids) await this.#mountOne(id, { ...(await authority.peer(id.role, id.name)), bundlePem });
    this.operatorTrust.replace({ ...(await authority.peer('operator')), bundlePem });
  }

  /** Other roots beside the leaves that are there. */
  async mountBundle(bundlePem: string): Promise<void> {
    for (const [folder, pems] of this.#mounted) await this.#swap(folder, { ...pems, bundlePem });
    this.operatorTrust.replace({ ...this.operatorTrust.current, bundlePem });
  }

  readonly #mounted = new Map<string, TrustPems>();

  async #mountOne({ role, name }: SpiffeId, pems: TrustPems): Promise<void> {
    await this.#swap(join(this.folder, `${role === 'coordinator' ? role : name}-tls`), pems);
  }

  async #swap(folder: string, { certificatePem, keyPem, bundlePem }: TrustPems): Promise<void> {
    const pems = { certificatePem, keyPem, bundlePem };
    this.#mounted.set(folder, pems);
    await mountFiles(folder, pems);
  }

  connectOptions(credentials: string): ConnectOptions {
    return { coordinator: `127.0.0.1:${this.coordinatorPort}`, trustDomain: this.trustDomain, credentials };
  }

  status(): Promise<MemberStatus> {
    return this.operator.admin.status({ signal: AbortSignal.timeout(STATUS_WITHIN_MS) });
  }

  async untilStatus(
    level: (status: MemberStatus) => boolean,
    what: string,
    withinMs: number,
    shown: (status: MemberStatus) => unknown = ({ trust }) => trust,
  ): Promise<MemberStatus> {
    let last: MemberStatus | undefined;
    let failure: unknown;
    await until(
      async () => {
        try {
          last = await this.status();
        } catch (thrown) {
          failure = thrown;
          return false;
        }
        return level(last);
      },
      what,
      withinMs,
      () => (last === undefined ? String(failure) : JSON.stringify(shown(last), undefined, 1)),
    );
    return last as MemberStatus;
  }

  printLogs(test: object): void {
    if (!('passed' in test) || test.passed === true) return;
    for (const part of this.parts) console.error(`--- ${part.name}\n${part.log}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
