import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { connect, type Member, type MemberStatus } from '@collective/client';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { parseBundle } from '@collective/protocol/tls/trust-set';
import { until } from './cli-world.ts';
import { MountedMember } from './mounted-member.ts';
import { seededFile } from './random-file.ts';
import { domainOf } from './raw-session.ts';

/** Against hanging, not a promise: tests share the machine with others. */
const ENDS = { timeout: 360_000 };
const LEVEL_WITHIN_MS = 120_000;
const FILE_BYTES = 4 * 1024 * 1024 + 17;
const FILES_KEPT = 12;
const domain = domainOf('alice.home');

/** Writes one file after the other, over and over the same names, and reads back what it wrote last. */
class Writer {
  readonly seeds = new Map<string, number>();
  rounds = 0;
  readonly #member: Member;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  failure: unknown;

  constructor(member: Member) {
    this.#member = member;
    this.#running = this.#run().catch((error: unknown) => {
      this.failure = error;
    });
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const path = `/file-${this.rounds % FILES_KEPT}`;
      const seed = this.rounds + 1;
      await this.#member.files.write(path, seededFile(seed, FILE_BYTES));
      this.seeds.set(path, seed);
      assert.ok((await this.#member.files.readAll(path)).equals(seededFile(seed, FILE_BYTES)), `${path} reads back`);
      this.rounds++;
    }
  }

  /** Some more rounds come to their end. */
  async goesOn(): Promise<void> {
    const from = this.rounds;
    await until(
      () => {
        if (this.failure !== undefined) throw this.failure;
        return this.rounds >= from + 3;
      },
      'the writer goes on',
      LEVEL_WITHIN_MS,
      () => `${this.rounds} rounds`,
    );
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

describe('a member whose authority is replaced while somebody writes', () => {
  let old: ScratchAuthority;
  let next: ScratchAuthority;
  let member: MountedMember;
  let credentials: string;
  let session: Member;
  let writer: Writer;

  before(async () => {
    old = await ScratchAuthority.create(domain);
    next = await ScratchAuthority.create(domain, { generation: 2 });
    member = await MountedMember.start(old);
    credentials = join(member.folder, 'ann');
    await mkdir(credentials);
    await writeTrustFiles(credentials, await old.peer('user', 'ann'));
    session = await connect(member.connectOptions(credentials), { signal: AbortSignal.timeout(60_000) });
    writer = new Writer(session);
  });
  after(async () => {
    await writer?.stop();
    await session?.close();
    await member?.[Symbol.asyncDispose]();
  });
  afterEach((t) => member?.printLogs(t));

  const root = (set: { bundlePem: string }): string => parsedRoots(set)[0] ?? assert.fail('a bundle has a root');
  const everyone = (status: MemberStatus, is: (group: MemberStatus['trust']['groups'][number]) => boolean): boolean =>
    status.trust.groups.filter(({ connected }) => connected).every(is) &&
    ['node', 'user'].every((kind) => status.trust.groups.some((group) => group.kind === kind && group.connected));

  test('T6: status says which bundle and which root each peer has', ENDS, async () => {
    const { trust } = await member.untilStatus(
      (status) => everyone(status, ({ bundleHash }) => bundleHash === status.trust.bundleHash),
      'all are there',
      LEVEL_WITHIN_MS,
    );
    assert.deepEqual(trust.roots, [root(old)]);
    assert.equal(trust.signingRoot, root(old));
    assert.deepEqual(
      trust.peers.map(({ peer, root: under, connected, count }) => [peer, under, connected, count]),
      [
        ['spiffe://alice.home/node/node-1', root(old), true, 1],
        ['spiffe://alice.home/node/node-2', root(old), true, 1],
        ['spiffe://alice.home/user/ann', root(old), true, 1],
      ],
    );
    assert.ok(trust.peers.every(({ notAfter }) => (notAfter?.seconds ?? 0) > Date.now() / 1000));
    assert.deepEqual(
      trust.connections.map((one) => one.root),
      [root(old)],
    );
    await writer.goesOn();
  });

  test('T6: a client outside learns the new root over its session, and writes it beside its leaf', ENDS, async () => {
    await member.mountBundle(old.bundlePem + next.bundlePem);
    const { trust } = await member.untilStatus(
      (status) =>
        status.trust.roots.length === 2 && everyone(status, ({ bundleHash }) => bundleHash === status.trust.bundleHash),
      'all report both roots',
      LEVEL_WITHIN_MS,
    );
    assert.equal(trust.signingRoot, root(old), 'nothing is signed by the new root yet');
    const bundle = await readFile(join(credentials, 'trust.pem'), 'utf8');
    assert.deepEqual(parsedRoots({ bundlePem: bundle }).sort(), [root(old), root(next)].sort());
    await writer.goesOn();
  });

  test(
    'T6: who was away and comes for a moment only has learnt the new root when its session has ended',
    ENDS,
    async () => {
      const laptop = join(member.folder, 'laptop');
      await mkdir(laptop);
      await writeTrustFiles(laptop, await old.peer('user', 'ann'));
      const moment = await connect(member.connectOptions(laptop), { signal: AbortSignal.timeout(60_000) });
      await moment.close();
      const bundle = await readFile(join(laptop, 'trust.pem'), 'utf8');
      assert.deepEqual(parsedRoots({ bundlePem: bundle }).sort(), [root(old), root(next)].sort());
    },
  );

  test(
    'T6: parts with new leaves are seen under the new root, and the client without one is seen under the old',
    ENDS,
    async () => {
      await member.mount(next, old.bundlePem + next.bundlePem);
      const { trust } = await member.untilStatus(
        ({ trust: { signingRoot, peers } }) =>
          signingRoot === root(next) &&
          peers.every(({ kind, root: under, connected }) => connected && under === root(kind === 'node' ? next : old)),
        'the nodes show leaves of the new root',
        LEVEL_WITHIN_MS,
      );
      assert.equal(trust.groups.find(({ kind }) => kind === 'user')?.root, root(old));
      await writer.goesOn();

      const renewed = await next.peer('user', 'ann');
      await writeTrustFiles(credentials, { ...renewed, bundlePem: old.bundlePem + next.bundlePem });
      await member.untilStatus(
        (status) =>
          everyone(status, (group) => group.root === root(next)) &&
          status.trust.connections.every((one) => one.root === root(next)),
        'nothing of the old root is connected',
        LEVEL_WITHIN_MS,
      );
      await writer.goesOn();
    },
  );

  test('T6: the old root goes: all go on, who comes with it is refused, every byte is there', ENDS, async () => {
    await member.mountBundle(next.bundlePem);
    await member.untilStatus(
      (status) =>
        status.trust.roots.length === 1 && everyone(status, ({ bundleHash }) => bundleHash === status.trust.bundleHash),
      'all report the new root alone',
      LEVEL_WITHIN_MS,
    );
    assert.deepEqual(parsedRoots({ bundlePem: await readFile(join(credentials, 'trust.pem'), 'utf8') }), [root(next)]);
    await writer.goesOn();
    const absent = join(member.folder, 'absent');
    const leaf = await old.peer('user', 'ann');
    await writeTrustFiles(absent, { ...leaf, bundlePem: old.bundlePem + next.bundlePem });
    await assert.rejects(
      connect(member.connectOptions(absent), { signal: AbortSignal.timeout(60_000) }),
      (error: unknown) => error instanceof CollectiveError && error.code === 'unauthenticated',
    );
    await writer.stop();
    assert.equal(writer.failure, undefined);
    for (const [path, seed] of writer.seeds) {
      assert.ok((await session.files.readAll(path)).equals(seededFile(seed, FILE_BYTES)), path);
      const report = await session.files.verify(path);
      assert.deepEqual([report.lost, report.underReplicated, report.bad], [0, 0, []], path);
    }
  });
});

function parsedRoots({ bundlePem }: { bundlePem: string }): string[] {
  return parseBundle(bundlePem, 'a bundle').map(({ fingerprint256 }) => fingerprint256);
}
