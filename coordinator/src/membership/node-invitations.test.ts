import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { NodeName } from '@collective/base/ids';
import type { Log } from '@collective/base/log';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { parseInvitation } from '@collective/protocol/tls/invitation';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { spiffeId } from '@collective/protocol/tls/spiffe-id';
import { openIdentity } from '../bootstrap.ts';
import { inviteNodes, type NodeInvitations } from './node-invitations.ts';
import { ALICE, MovableClock, openScratchMember } from './scratch-member.ts';

const ONE = 'node-1' as NodeName;
const TWO = 'node-2' as NodeName;

test('T3: a node that is not known finds an invitation with which it enrols once, and which nobody else can read', async (t) => {
  const { invite, folder, enrolment, logged } = await scene(t);
  await invite([ONE, TWO]);
  for (const name of [ONE, TWO]) {
    const file = join(folder, `${name}.invitation`);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const invitation = parseInvitation(await readFile(file, 'utf8'), file);
    assert.deepEqual([invitation.trustDomain, invitation.role, invitation.name], [ALICE, 'node', name]);
    assert.match(invitation.bundlePem, /BEGIN CERTIFICATE/);
    const { csr } = await makeCsr(spiffeId(ALICE, 'node', name));
    assert.equal((await enrolment.enrol(invitation.token, csr)).subject, `spiffe://alice.home/node/${name}`);
    assert.ok(!logged().includes(invitation.token), 'what is logged says which file, not what is in it');
  }
  assert.match(logged(), /node-1\.invitation/);
  assert.equal((await stat(folder)).mode & 0o777, 0o700);
});

test('an invitation that was not used is kept by a restart, one that was used, expired or broke is made anew', async (t) => {
  const { invite, folder, enrolment, clock } = await scene(t);
  const file = join(folder, 'node-1.invitation');
  const tokenAfter = async (): Promise<string> => {
    await invite([ONE]);
    return parseInvitation(await readFile(file, 'utf8'), file).token;
  };
  const first = await tokenAfter();
  assert.equal(await tokenAfter(), first);
  await enrolment.enrol(first, (await makeCsr(spiffeId(ALICE, 'node', ONE))).csr);
  const second = await tokenAfter();
  assert.notEqual(second, first);
  clock.moveWall(31 * 86_400);
  const third = await tokenAfter();
  assert.notEqual(third, second);
  await writeFile(file, 'torn');
  assert.notEqual(await tokenAfter(), third);
});

test('a node that the member knows is not invited, and what was written for it goes', async (t) => {
  const { invite, folder } = await scene(t);
  await invite([ONE, TWO]);
  await invite([ONE, TWO], (name) => name === ONE);
  await assert.rejects(stat(join(folder, 'node-1.invitation')), { code: 'ENOENT' });
  assert.ok(await stat(join(folder, 'node-2.invitation')));
});

test('a folder that cannot be written is named', async (t) => {
  const { invite, folder } = await scene(t);
  if (process.getuid?.() === 0) await writeFile(folder, 'a file where the folder should be');
  else await chmod(join(folder, '..'), 0o500);
  await assert.rejects(invite([ONE]), (thrown: Error) => thrown.message.includes(folder));
});

async function scene(t: TestContext) {
  const path = await mkdtemp(join(tmpdir(), 'collective-invitations-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  const clock = new MovableClock();
  const identity = { dataFolder: join(path, 'data'), member: 'alice', collective: 'home', autoTls: true };
  const { ca, trust } = await openIdentity({ ...identity, clock, random: new SystemRandom() });
  assert.ok(ca);
  const member = await openScratchMember(ca, clock);
  t.after(() => member[Symbol.asyncDispose]());
  const folder = join(path, 'invitations');
  const lines: string[] = [];
  const log: Log = { ...silentLog, info: (facts, message) => void lines.push(JSON.stringify([facts, message])) };
  return {
    folder,
    clock,
    enrolment: member.enrolment,
    logged: () => lines.join('\n'),
    invite: (names: readonly NodeName[], isKnown: NodeInvitations['isKnown'] = () => false) =>
      inviteNodes({
        names,
        folder,
        trustDomain: ALICE,
        bundlePem: trust.current.bundlePem,
        isKnown,
        enrolment: member.enrolment,
        log,
      }),
  };
}
