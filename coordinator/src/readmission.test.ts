import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { FakeClock } from '@collective/base/fake-clock';
import { silentLog } from '@collective/base/log';
import { SystemClock } from '@collective/base/system-clock';
import { openScratchMember, type ScratchMember } from './membership/scratch-member.ts';
import type { Signer } from './membership/signer/signer.ts';
import { Readmission } from './readmission.ts';
import { layAnswer, layWish, type ReadmissionAnswer, readAnswer, readWish } from './readmission-files.ts';

const LOOK_MS = 1_000;
const neverAsked: Signer = {
  sign: () => Promise.reject(new Error('Sign: nothing here is to be signed')),
  bundlePem: () => '',
};

let dataFolder: string;
let member: ScratchMember;
let told: string[];
const clock = new FakeClock();
beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'collective-readmission-'));
  member = await openScratchMember(neverAsked);
  told = [];
});
afterEach(async () => {
  await member[Symbol.asyncDispose]();
  await rm(dataFolder, { recursive: true, force: true });
});

const start = (signsHere = true): Promise<Readmission> =>
  Readmission.start({
    dataFolder,
    clock,
    enrolment: member.enrolment,
    signsHere,
    events: { record: (kind, message) => void told.push(`${kind}: ${message}`) },
    log: silentLog,
  });

test('T3a: whoever may write the data folder gets a one-time token of an administrator, and it is told', async () => {
  await using _readmission = await start();
  await layWish(dataFolder, 'anna');
  const answer = await answered();
  assert.equal(answer.user, 'anna');
  assert.equal(await member.enrolment.isUsable(String(answer.refusal === undefined && answer.token)), true);
  assert.equal((await stat(join(dataFolder, 'readmission'))).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(dataFolder), ['readmission']);
  assert.equal(told.length, 1);
  assert.match(told[0] as string, /^readmitted: .*one-time token for spiffe:\/\/alice\.home\/user\/anna/);
});

test('T3a: a name that none may have is refused in words, and the coordinator looks on', async () => {
  await using _readmission = await start();
  await layWish(dataFolder, '../etc');
  assert.match((await answered()).refusal ?? '', /\.\.\/etc/);
  await layWish(dataFolder, 'anna');
  assert.equal((await answered()).refusal, undefined);
});

test('T5: where another authority signs nobody is let in this way', async () => {
  await using _readmission = await start(false);
  await layWish(dataFolder, 'anna');
  assert.match((await answered()).refusal ?? '', /spec\.users of the Member/);
  assert.deepEqual(told, []);
});

test('T3: a token that nobody fetched is worth nothing after the next start, and what cannot be read is no hindrance', async () => {
  let token: string;
  {
    await using _readmission = await start();
    await layWish(dataFolder, 'anna');
    token = String((await answered()).token);
    assert.equal(await member.enrolment.isUsable(token), true);
  }
  await using _again = await start();
  assert.equal(await member.enrolment.isUsable(token), false);
  assert.deepEqual(await readdir(dataFolder), []);
  await writeFile(join(dataFolder, 'readmission'), '{"user":');
  await using _third = await start();
  assert.deepEqual(await readdir(dataFolder), []);
});

test('after its end no wish is answered', async () => {
  const readmission = await start();
  await readmission[Symbol.asyncDispose]();
  await layWish(dataFolder, 'anna');
  await clock.advance(10 * LOOK_MS);
  assert.equal(await readWish(dataFolder), 'anna');
});

test('an older answer is not taken for that of a new wish', async () => {
  await layAnswer(dataFolder, { user: 'anna', token: 'old' });
  await layWish(dataFolder, 'anna');
  assert.equal(await readAnswer(dataFolder), undefined);
});

/** The look goes to the disk, which takes real time. */
async function answered(): Promise<ReadmissionAnswer & { readonly token?: string }> {
  const real = new SystemClock();
  const untilMs = real.bootMs() + 10_000;
  for (;;) {
    await clock.advance(LOOK_MS);
    const answer = await readAnswer(dataFolder);
    if (answer !== undefined) return answer;
    assert.ok(real.bootMs() < untilMs, 'the wish is not answered');
    await new Promise<void>((resolve) => real.setTimer(5, resolve));
  }
}
