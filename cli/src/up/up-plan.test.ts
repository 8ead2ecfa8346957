import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileDisk } from '@collective/base/disk/file-disk';
import { defaultUpFolder, memberNameOf, nodePorts, UpFolder } from './layout.ts';
import { type MemberFile, readMemberFile, writeMemberFile } from './member-file.ts';
import { checkRoom, planUp, type UpFlags } from './up-plan.ts';

const FOLDER = new UpFolder('/data/alice');
const FLAGS: UpFlags = { host: '127.0.0.1' };
const REMEMBERED: MemberFile = { member: 'alice', collective: 'home', portBase: 9000, nodes: 3, capacityBytes: 5e9 };

test('a first start takes flags and defaults: two nodes of 20 GiB, collective home', () => {
  const plan = planUp(FOLDER, FLAGS, undefined, 'anna');
  assert.equal(plan.trustDomain, 'anna.home');
  assert.deepEqual(plan.nodeNames, ['node-1', 'node-2']);
  assert.equal(plan.capacityBytes, 20 * 1024 ** 3);
  assert.equal(plan.portBase, 7420);
});

test('a second start needs no flags, and flags win over what is remembered', () => {
  const again = planUp(FOLDER, FLAGS, REMEMBERED, 'anna');
  assert.deepEqual([again.trustDomain, again.nodes, again.portBase], ['alice.home', 3, 9000]);
  const more = planUp(FOLDER, { ...FLAGS, nodes: 4, portBase: 9100 }, REMEMBERED, 'anna');
  assert.deepEqual([more.nodes, more.portBase], [4, 9100]);
});

const refused: { name: string; flags: Partial<UpFlags>; remembered?: MemberFile; code: string; says: RegExp }[] = [
  {
    name: 'the folder of another member',
    flags: { member: 'bob' },
    remembered: REMEMBERED,
    code: 'wrong_member',
    says: /holds alice\.home/,
  },
  {
    name: 'the folder of another collective',
    flags: { collective: 'work' },
    remembered: REMEMBERED,
    code: 'wrong_member',
    says: /alice\.work/,
  },
  {
    name: 'fewer nodes than hold data',
    flags: { nodes: 2 },
    remembered: REMEMBERED,
    code: 'invalid_argument',
    says: /it has 3/,
  },
  { name: 'a member name that is no label', flags: { member: 'Alice!' }, code: 'invalid_argument', says: /Alice!/ },
  { name: 'ports beyond the last', flags: { portBase: 65_500 }, code: 'range', says: /port base 65500/ },
  {
    name: 'all addresses without a name for others',
    flags: { host: '0.0.0.0' },
    code: 'invalid_argument',
    says: /--advertise/,
  },
];

for (const { name, flags, remembered, code, says } of refused) {
  test(`a start is refused before anything is touched: ${name}`, () => {
    assert.throws(() => planUp(FOLDER, { ...FLAGS, ...flags }, remembered, 'anna'), { code, message: says });
  });
}

test('a full disk is refused, one that is smaller than what the nodes promise is said', () => {
  const plan = planUp(FOLDER, FLAGS, undefined, 'anna');
  const full = { code: 'no_space', message: /9\.5 MiB left, at least 64\.0 MiB/ };
  assert.throws(() => checkRoom(plan, 10_000_000, false), full);
  assert.match(checkRoom(plan, 5e9, false) ?? '', /2 nodes of 20\.0 GiB are more than the 4\.7 GiB/);
  assert.equal(checkRoom(plan, 1e12, false), undefined);
});

test('a member starts again on the disk that it has filled', () => {
  const plan = planUp(FOLDER, FLAGS, REMEMBERED, 'anna');
  assert.match(checkRoom(plan, 10_000_000, true) ?? '', /more than/);
  assert.throws(() => checkRoom(plan, 1_000_000, true), { code: 'no_space', message: /at least 8\.0 MiB/ });
});

test('nodes that could hold nothing are refused, asked for or remembered', () => {
  for (const capacity of [0, 5, 100 * 1024 ** 2])
    assert.throws(() => planUp(FOLDER, { ...FLAGS, capacity }, undefined, 'anna'), {
      code: 'invalid_argument',
      message: /128 MiB are the least/,
    });
  assert.throws(() => planUp(FOLDER, FLAGS, { ...REMEMBERED, capacityBytes: 0 }, 'alice'), {
    code: 'invalid_argument',
  });
  assert.equal(planUp(FOLDER, { ...FLAGS, capacity: 128 * 1024 ** 2 }, undefined, 'anna').nodes, 2);
});

test('user names become member names', () => {
  const names: [string, string][] = [
    ['anna', 'anna'],
    ['Anna.Müller', 'anna-muller'],
    ['root', 'root'],
    ['DOMAIN\\user', 'domain-user'],
    ['_', 'member'],
    ['a-very-long-user-name-indeed', 'a-very-long-user-name-in'],
  ];
  for (const [user, member] of names) assert.equal(memberNameOf(user), member);
});

test('data lies in the XDG data folder, ports follow from base and number', () => {
  assert.equal(defaultUpFolder({ XDG_DATA_HOME: '/x' }, 'alice'), '/x/collective/alice');
  assert.equal(defaultUpFolder({ HOME: '/home/a' }, 'alice'), '/home/a/.local/share/collective/alice');
  assert.deepEqual(nodePorts(7420, 1), { port: 7431, healthPort: 7451 });
});

test('member.json is read back, and refused when damaged, foreign or newer', async () => {
  const root = await mkdtemp(join(tmpdir(), 'collective-up-'));
  try {
    const disk = await FileDisk.at(root);
    assert.equal(await readMemberFile(disk, root), undefined);
    await writeMemberFile(disk, REMEMBERED);
    assert.deepEqual(await readMemberFile(disk, root), REMEMBERED);
    const cases: [string, string][] = [
      ['{', 'store_damaged'],
      ['{"name":"other"}', 'store_damaged'],
      ['{"format":"collective-up","version":99}', 'version_too_new'],
      ['{"format":"collective-up","version":1,"member":"a"}', 'store_damaged'],
    ];
    for (const [content, code] of cases) {
      await writeFile(join(root, 'member.json'), content);
      await assert.rejects(readMemberFile(disk, root), { code }, content);
    }
  } finally {
    await rm(root, { recursive: true });
  }
});
