import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { SystemRandom } from '@collective/base/random';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { spiffeId } from '@collective/protocol/tls/spiffe-id';
import { readTrustPems, writeTrustFiles } from '@collective/protocol/tls/trust-files';
import { parseTrustSet, type TrustSet } from '@collective/protocol/tls/trust-set';
import { BOOTSTRAP_USER, initialiseMember, letFirstUserIn, openIdentity } from './bootstrap.ts';
import { ALICE, MovableClock, openScratchMember, type ScratchMember } from './membership/scratch-member.ts';
import { allSubjects, putFirstUser } from './membership/subjects.ts';

const random = new SystemRandom();
const day = 86_400;
const hasCode = (code: string) => (thrown: unknown) => thrown instanceof CollectiveError && thrown.code === code;

test('T4: a new member gets an authority, and every peer a certificate of its own', async () => {
  await using scratch = await scratchFolder();
  const { clock, initialise, openAt } = world(scratch.path);
  await initialise();
  const ann = await readSet(join(scratch.path, 'user'));
  assert.equal(ann.id.uri, 'spiffe://alice.home/user/ann');
  assert.equal((await readSet(join(scratch.path, 'node-1'))).id.uri, 'spiffe://alice.home/node/node-1');
  const { trust, ca } = await openAt();
  assert.equal(trust.current.id.uri, 'spiffe://alice.home/coordinator');
  assert.equal(trust.current.bundleHash, ann.bundleHash);
  assert.equal(ca?.bundlePem(), ann.bundlePem);
  assert.ok(clock);
});

test('T3, T4: to start again keeps certificates, adds those of new nodes, and renews what is past two thirds', async () => {
  await using scratch = await scratchFolder();
  const { clock, initialise } = world(scratch.path);
  await initialise();
  const before = await readSet(join(scratch.path, 'user'));
  await initialise(['node-1', 'node-2']);
  assert.equal((await readSet(join(scratch.path, 'user'))).certificatePem, before.certificatePem);
  const node = await readSet(join(scratch.path, 'node-2'));
  clock.moveWall(21 * day);
  await initialise(['node-1', 'node-2']);
  const after = await readSet(join(scratch.path, 'user'));
  assert.notEqual(after.keyPem, before.keyPem);
  assert.ok(after.notAfterMs > before.notAfterMs);
  assert.equal((await readSet(join(scratch.path, 'node-2'))).keyPem, node.keyPem);
});

test('T3a: who started the member is its first administrator', async () => {
  await using scratch = await scratchFolder();
  const { initialise, openAt, dataFolder } = world(scratch.path);
  await initialise();
  const { ca } = await openAt();
  assert.ok(ca);
  await using member = await openScratchMember(ca);
  await letFirstUserIn({ dataFolder, ...member });
  const subjects = await member.engine.run((tx) => allSubjects(tx));
  assert.deepEqual(
    subjects.map(({ uri, admin, trusted }) => ({ uri, admin, trusted })),
    [{ uri: 'spiffe://alice.home/user/ann', admin: true, trusted: true }],
  );
  await assert.rejects(readFile(join(dataFolder, 'bootstrap-token')), { code: 'ENOENT' });
});

test('T3: a coordinator started alone writes one token for its first administrator', async () => {
  await using alone = await startedAlone();
  const { dataFolder, member } = alone;
  const file = join(dataFolder, 'bootstrap-token');
  await letFirstUserIn({ dataFolder, ...member });
  const token = (await readFile(file, 'utf8')).trim();
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  await letFirstUserIn({ dataFolder, ...member });
  assert.equal((await readFile(file, 'utf8')).trim(), token, 'a restart keeps it');
  const { csr } = await makeCsr(spiffeId(ALICE, 'user', BOOTSTRAP_USER));
  await member.enrolment.enrol(token, csr);
  const [admin] = await member.engine.run((tx) => allSubjects(tx));
  assert.deepEqual([admin?.admin, admin?.trusted], [true, true]);
  await letFirstUserIn({ dataFolder, ...member });
  await assert.rejects(readFile(file), { code: 'ENOENT' });
});

test('T3: a bootstrap token that nobody needed is void once somebody administers the member', async () => {
  await using alone = await startedAlone();
  const { dataFolder, member } = alone;
  await letFirstUserIn({ dataFolder, ...member });
  const token = (await readFile(join(dataFolder, 'bootstrap-token'), 'utf8')).trim();
  await member.engine.run((tx) => putFirstUser(tx, spiffeId(ALICE, 'user', 'ann')));
  await letFirstUserIn({ dataFolder, ...member });
  await assert.rejects(readFile(join(dataFolder, 'bootstrap-token')), { code: 'ENOENT' });
  assert.equal(await member.enrolment.isUsable(token), false);
});

test('T3: a bootstrap token that expired unused is replaced at the next start', async () => {
  await using alone = await startedAlone();
  const { dataFolder, member } = alone;
  await letFirstUserIn({ dataFolder, ...member });
  const first = await readFile(join(dataFolder, 'bootstrap-token'), 'utf8');
  member.clock.moveWall(31 * day);
  await letFirstUserIn({ dataFolder, ...member });
  assert.notEqual(await readFile(join(dataFolder, 'bootstrap-token'), 'utf8'), first);
});

test('T5: where another authority signs, no token for an administrator is written, and one of before is void', async () => {
  await using alone = await startedAlone();
  const { dataFolder, member } = alone;
  const file = join(dataFolder, 'bootstrap-token');
  const elsewhere = { dataFolder, ...member, signsHere: false };
  await letFirstUserIn(elsewhere);
  await assert.rejects(readFile(file), { code: 'ENOENT' });
  await letFirstUserIn({ dataFolder, ...member });
  const token = (await readFile(file, 'utf8')).trim();
  assert.equal(await member.enrolment.isUsable(token), true);
  await letFirstUserIn(elsewhere);
  await assert.rejects(readFile(file), { code: 'ENOENT' });
  assert.equal(await member.enrolment.isUsable(token), false);
});

test('without certificates and without auto-tls the coordinator says what is missing', async () => {
  await using scratch = await scratchFolder();
  await assert.rejects(
    world(scratch.path).openAt(),
    (thrown) => hasCode('not_found')(thrown) && /--auto-tls/.test(String(thrown)),
  );
});

test('a data folder of another member, or the certificate of another, is wrong_member', async () => {
  await using scratch = await scratchFolder();
  const { clock, initialise, openAt, dataFolder } = world(scratch.path);
  await initialise();
  const bob = { dataFolder, member: 'bob', collective: 'home', clock, random };
  await assert.rejects(openIdentity({ ...bob, autoTls: true }), hasCode('wrong_member'));
  await assert.rejects(
    initialiseMember({ ...bob, nodes: [], user: { name: 'bob', trustFolder: join(scratch.path, 'bob') } }),
    hasCode('wrong_member'),
  );
  const node = await readSet(join(scratch.path, 'node-1'));
  await writeTrustFiles(join(scratch.path, 'elsewhere'), node);
  await assert.rejects(openAt({ trustFolder: join(scratch.path, 'elsewhere') }), hasCode('wrong_member'));
});

test('T4: a clock before the certificates is clock_wrong, one after them is told as expiry', async () => {
  await using scratch = await scratchFolder();
  const { clock, initialise, openAt } = world(scratch.path);
  await initialise();
  clock.moveWall(-2 * day);
  await assert.rejects(initialise(), hasCode('clock_wrong'));
  await assert.rejects(openAt(), hasCode('clock_wrong'));
  clock.moveWall(102 * day);
  const coordinator = join(scratch.path, 'data', 'tls');
  await assert.rejects(openAt({ trustFolder: coordinator }), hasCode('unauthenticated'));
  // With the authority beside it, a start makes a new one by itself.
  assert.ok((await openAt()).trust.current.notAfterMs > Date.now() + 100 * day * 1000);
});

test('T3: an authority folder that its owner took away does not turn the certificate into another', async () => {
  await using scratch = await scratchFolder();
  const { initialise, openAt, dataFolder } = world(scratch.path);
  await initialise();
  const { trust } = await openAt();
  await rm(join(dataFolder, 'ca'), { recursive: true });
  const without = await openAt();
  assert.equal(without.ca, undefined);
  assert.equal(without.trust.current.certificatePem, trust.current.certificatePem);
});

function world(root: string) {
  const clock = new MovableClock();
  const dataFolder = join(root, 'data');
  const member = { dataFolder, member: 'alice', collective: 'home', clock, random };
  const nodesOf = (names: readonly string[]) => names.map((name) => ({ name, trustFolder: join(root, name) }));
  return {
    clock,
    dataFolder,
    initialise: (names: readonly string[] = ['node-1']) =>
      initialiseMember({ ...member, nodes: nodesOf(names), user: { name: 'ann', trustFolder: join(root, 'user') } }),
    openAt: (more: { autoTls?: boolean; trustFolder?: string } = {}) =>
      openIdentity({ ...member, autoTls: false, ...more }),
  };
}

/** A member whose coordinator makes its own authority, with no person yet. */
async function startedAlone(): Promise<{ dataFolder: string; member: ScratchMember } & AsyncDisposable> {
  await using parts = new AsyncDisposableStack();
  const { openAt, dataFolder } = world(parts.use(await scratchFolder()).path);
  const { ca } = await openAt({ autoTls: true });
  assert.ok(ca);
  const member = parts.use(await openScratchMember(ca));
  const owned = parts.move();
  return { dataFolder, member, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function readSet(folder: string): Promise<TrustSet> {
  return parseTrustSet(await readTrustPems(folder), folder);
}

async function scratchFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'collective-bootstrap-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
