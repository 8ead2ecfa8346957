import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MaintenanceSettings, MemberStatus, NodeScrub, NodeStatus } from '@collective/client';
import { examine, type Facts, type Finding } from './examine.ts';

const NOW_S = 1_800_000_000;
const DAY_S = 86_400;
const at = (seconds: number) => ({ seconds, nanos: 0 });

function node(name: string, change: Partial<NodeStatus> = {}): NodeStatus {
  return {
    name,
    state: 'ready',
    zone: '',
    capacityBytes: 1e12,
    usedBytes: 1e11,
    freeBytes: 9e11,
    lastHeartbeat: at(NOW_S - 1),
    version: '0.1.0',
    disk: 'd',
    chunks: 5,
    addresses: [],
    certificateExpires: undefined,
    incarnation: 1,
    waiting: [],
    clockOffMs: 3,
    ...change,
  } as NodeStatus;
}

const REPLICATION = {
  ...{ replicas: 10, underReplicated: 0, unstable: 0, lost: 0, toMove: 0, unreadable: 0 },
  ...{ waiting: [], counting: false },
} as unknown as MemberStatus['replication'];

const STATUS = {
  version: '0.1.0',
  time: at(NOW_S),
  nodes: [node('node-1'), node('node-2')],
  refusedNodes: [],
  certificates: [{ subject: 'CN=ca', issuer: '', kind: 'ca', notAfter: at(NOW_S + 3_000 * DAY_S) }],
  replication: REPLICATION,
  jobs: [],
  garbage: { waitsFor: [] },
  events: [],
  metadataCapacityBytes: 1e11,
  metadataFreeBytes: 5e10,
  metadataFull: false,
} as unknown as MemberStatus;

const MAINTENANCE: MaintenanceSettings = {
  repairAfterSeconds: 600,
  repairBytesPerSecond: 1e6,
  scrubPeriodSeconds: 30 * DAY_S,
  garbageGraceSeconds: DAY_S,
  garbageWaits: false,
  rebalancePercent: 10,
  rebalanceHours: '',
};

const WELL: Facts = {
  nowMs: NOW_S * 1000,
  program: '0.1.0',
  context: { name: 'alice', coordinator: 'alice:7420' },
  certificate: { state: 'valid', leftMs: 20 * DAY_S * 1000, chain: 'verified: signed by the root' },
  status: STATUS,
  statusTookMs: 3,
  probes: [
    { node: 'node-1', error: undefined, tookMs: 4 },
    { node: 'node-2', error: undefined, tookMs: 5 },
  ],
  maintenance: MAINTENANCE,
  lastBackupMs: (NOW_S - 3_600) * 1000,
};

test('a member that is well has findings that say so, and nothing to do', () => {
  const findings = examine(WELL);
  assert.deepEqual(
    findings.map(({ about }) => about),
    ['your certificate', 'coordinator', 'clocks', 'authority', 'node node-1', 'node node-2', 'replication', 'backup'],
  );
  for (const { level, todo } of findings) assert.deepEqual([level, todo], ['ok', undefined]);
});

const scrub = (change: Partial<NodeScrub>): NodeScrub => ({
  ...{ verifiedBytes: 0, totalBytes: 0, lastDamaged: 0, damagedFound: 0, damagedNow: 0 },
  ...change,
});

const withStatus = (change: Partial<MemberStatus>): Partial<Facts> => ({ status: { ...STATUS, ...change } });
const withNode = (change: Partial<NodeStatus>): Partial<Facts> =>
  withStatus({ nodes: [node('node-1', change), node('node-2')] });

const CASES: {
  name: string;
  facts: Partial<Facts>;
  level: Finding['level'];
  about: string;
  says: RegExp;
  todo: RegExp;
}[] = [
  {
    name: 'a coordinator that does not answer',
    facts: { status: { error: 'Ask for the status: refused', code: 'unavailable' } },
    level: 'problem',
    about: 'coordinator',
    says: /refused/,
    todo: /alice:7420/,
  },
  {
    name: 'a coordinator that does not take the certificate',
    facts: { status: { error: 'expired', code: 'unauthenticated' } },
    level: 'problem',
    about: 'coordinator',
    says: /expired/,
    todo: /enrol again/,
  },
  {
    name: 'a certificate that ends soon',
    facts: { certificate: { state: 'expires soon', leftMs: 3_600_000, chain: 'verified: x' } },
    level: 'warning',
    about: 'your certificate',
    says: /1h left/,
    todo: /auth renew/,
  },
  {
    name: 'a certificate of another authority',
    facts: { certificate: { state: 'valid', leftMs: 1e9, chain: 'NOT VALID: another root' } },
    level: 'problem',
    about: 'your certificate',
    says: /another root/,
    todo: /[Ee]nrol/,
  },
  {
    name: 'no certificate',
    facts: { certificate: { error: 'Read the certificate in x' } },
    level: 'problem',
    about: 'your certificate',
    says: /Read the certificate/,
    todo: /init alice/,
  },
  {
    name: 'a clock that is some seconds off',
    facts: withStatus({ time: at(NOW_S + 20) }),
    level: 'warning',
    about: 'clocks',
    says: /20s/,
    todo: /NTP/,
  },
  {
    name: 'a clock that is so far off that nodes are refused',
    facts: withStatus({ time: at(NOW_S - 90) }),
    level: 'problem',
    about: 'clocks',
    says: /1m30s/,
    todo: /NTP/,
  },
  {
    name: 'another version of the coordinator',
    facts: withStatus({ version: '0.2.0', nodes: [node('node-1', { version: '0.2.0' })] }),
    level: 'warning',
    about: 'coordinator',
    says: /0\.2\.0/,
    todo: /[Uu]pgrade/,
  },
  {
    name: 'an authority that ends within three months',
    facts: withStatus({ certificates: [{ subject: 'ca', issuer: '', kind: 'ca', notAfter: at(NOW_S + 50 * DAY_S) }] }),
    level: 'warning',
    about: 'authority',
    says: /left/,
    todo: /next generation/,
  },
  {
    name: 'a node whose certificate has expired',
    facts: withStatus({ certificates: [{ subject: 'n', issuer: '', kind: 'node', notAfter: at(NOW_S - 60) }] }),
    level: 'problem',
    about: 'certificate of n',
    says: /expired 1m ago/,
    todo: /renewed itself/,
  },
  {
    name: 'a node that is away',
    facts: withNode({ state: 'away', lastHeartbeat: at(NOW_S - 300) }),
    level: 'problem',
    about: 'node node-1',
    says: /5m/,
    todo: /running/,
  },
  {
    name: 'a full node',
    facts: withNode({ state: 'full' }),
    level: 'problem',
    about: 'node node-1',
    says: /full/,
    todo: /capacity/,
  },
  {
    name: 'a node that is nearly full',
    facts: withNode({ freeBytes: 5e10 }),
    level: 'warning',
    about: 'node node-1',
    says: /only/,
    todo: /before it is full/,
  },
  {
    name: 'a node that cannot be reached from here',
    facts: { probes: [{ node: 'node-1', error: 'refused', tookMs: 2 }] },
    level: 'problem',
    about: 'node node-1',
    says: /cannot be reached: refused/,
    todo: /advertises/,
  },
  {
    name: 'no node at all',
    facts: withStatus({ nodes: [] }),
    level: 'problem',
    about: 'nodes',
    says: /no storage node/,
    todo: /token create/,
  },
  {
    name: 'chunks that lack replicas',
    facts: withStatus({ replication: { ...STATUS.replication, underReplicated: 7 } }),
    level: 'warning',
    about: 'replication',
    says: /7 chunks/,
    todo: /Repair/,
  },
  {
    name: 'chunks that are lost',
    facts: withStatus({ replication: { ...STATUS.replication, lost: 2, lostLast: at(NOW_S - 300) } }),
    level: 'problem',
    about: 'replication',
    says: /2 blocks lost what was written last, the latest 5m ago/,
    todo: /--kind block-reverted.*settle-losses/,
  },
  {
    name: 'D8: a chunk without a sound copy, which no repair makes anew,',
    facts: withStatus({ replication: { ...STATUS.replication, unreadable: 3, underReplicated: 3 } }),
    level: 'problem',
    about: 'replication',
    says: /3 chunks have no sound copy left/,
    todo: /Bring back a node.*verify \/ --only-bad.*repair\.md/,
  },
  {
    name: 'a repair that cannot go on',
    facts: withStatus({
      replication: {
        ...STATUS.replication,
        underReplicated: 7,
        waiting: [{ reason: 'no-node', says: 'no further node is ready', chunks: 5 }],
      },
    }),
    level: 'warning',
    about: 'replication',
    says: /7 chunks have fewer replicas than they should; 5 wait: no further node is ready/,
    todo: /Repair/,
  },
  {
    name: 'a move that cannot go on',
    facts: withStatus({
      replication: {
        ...STATUS.replication,
        toMove: 4,
        waiting: [{ reason: 'away', says: 'a node that has one of its copies is away', chunks: 4 }],
      },
    }),
    level: 'warning',
    about: 'replication',
    says: /4 chunks do not lie where they should; 4 wait: a node/,
    todo: /repair\.md/,
  },
  {
    name: 'a node that cannot be emptied',
    facts: withNode({
      duty: 'draining',
      waiting: [{ reason: 'no-node', says: 'no further node is ready', chunks: 9 }],
    }),
    level: 'warning',
    about: 'node node-1',
    says: /9 chunks cannot leave it now: no further node is ready/,
    todo: /add one/,
  },
  {
    name: 'a job that fails',
    facts: withStatus({
      jobs: [{ name: 'fold', state: 'failing', failure: 'Fold a block: no', done: 0, unit: '', rounds: 3 }],
    }),
    level: 'warning',
    about: 'job fold',
    says: /last round failed: Fold a block: no/,
    todo: /tried again.*log/,
  },
  {
    name: 'garbage that a node which is there is not told of',
    facts: withStatus({
      garbage: { ...STATUS.garbage, waitsFor: [{ node: 'node-2', reason: 'it did not answer' }] },
    }),
    level: 'warning',
    about: 'garbage',
    says: /node node-2 .*: it did not answer/,
    todo: /space\.md/,
  },
  {
    name: 'a node whose clock goes wrong',
    facts: withNode({ clockOffMs: -20_400 }),
    level: 'warning',
    about: 'node node-1',
    says: /20s behind/,
    todo: /NTP/,
  },
  {
    name: 'a node that is refused for its clock',
    facts: withStatus({
      nodes: [node('node-1', { state: 'away' }), node('node-2')],
      refusedNodes: [{ name: 'node-1', code: 'clock_wrong', message: 'Take node node-1: its clock differs by 120 s' }],
    }),
    level: 'problem',
    about: 'node node-1',
    says: /refuses it: .* differs by 120 s/,
    todo: /NTP.*registers again by itself/,
  },
  {
    name: 'a node that is refused and was never there',
    facts: withStatus({ refusedNodes: [{ name: 'node-9', code: 'version_too_new', message: 'it speaks 9' }] }),
    level: 'problem',
    about: 'node node-9',
    says: /refuses it: it speaks 9/,
    todo: /Upgrade/,
  },
  {
    name: 'a scrub that is overdue',
    facts: withNode({ scrub: scrub({ lastEnded: at(NOW_S - 61 * DAY_S) }) }),
    level: 'warning',
    about: 'node node-1',
    says: /not .* read for 61d.*period is 30d/,
    todo: /nodes scrub node-1/,
  },
  {
    name: 'a first scrub that does not come to its end',
    facts: withNode({ scrub: scrub({ passBegan: at(NOW_S - 70 * DAY_S) }) }),
    level: 'warning',
    about: 'node node-1',
    says: /70d/,
    todo: /scrub\.md/,
  },
  {
    name: 'garbage that waits for a person',
    facts: { maintenance: { ...MAINTENANCE, garbageWaits: true } },
    level: 'warning',
    about: 'garbage',
    says: /restored/,
    todo: /garbage-waits=false/,
  },
  {
    name: 'a scrub that is off',
    facts: { maintenance: { ...MAINTENANCE, scrubPeriodSeconds: 0 } },
    level: 'warning',
    about: 'scrub',
    says: /off/,
    todo: /scrub-period/,
  },
  {
    name: 'no backup',
    facts: { lastBackupMs: undefined },
    level: 'warning',
    about: 'backup',
    says: /none/,
    todo: /backup create/,
  },
  {
    name: 'an old backup',
    facts: { lastBackupMs: (NOW_S - 30 * DAY_S) * 1000 },
    level: 'warning',
    about: 'backup',
    says: /30d/,
    todo: /backup create/,
  },
];

for (const { name, facts, level, about, says, todo } of CASES) {
  test(`${name} is a ${level} with something to do`, () => {
    const found = examine({ ...WELL, ...facts }).filter((finding) => finding.level !== 'ok');
    assert.deepEqual(
      found.map((finding) => [finding.level, finding.about]),
      [[level, about]],
    );
    assert.match(found[0]?.says ?? '', says);
    assert.match(found[0]?.todo ?? '', todo);
  });
}

test('garbage of a node that is away, and a scrub that goes on in time, are no findings of their own', () => {
  const facts = withStatus({
    nodes: [node('node-1', { state: 'away' }), node('node-2', { scrub: scrub({ lastEnded: at(NOW_S - 59 * DAY_S) }) })],
    garbage: { ...STATUS.garbage, waitsFor: [{ node: 'node-1', reason: 'it is not connected' }] },
  });
  const found = examine({ ...WELL, ...facts }).filter(({ level }) => level !== 'ok');
  assert.deepEqual(
    found.map(({ level, about }) => [level, about]),
    [['problem', 'node node-1']],
  );
});

test('what was lost for good is told beside what repair still makes anew', () => {
  const replication = { ...STATUS.replication, lost: 1, unreadable: 2, underReplicated: 9 };
  const found = examine({ ...WELL, ...withStatus({ replication }) }).filter(({ about }) => about === 'replication');
  assert.deepEqual(
    found.map(({ level }) => level),
    ['problem', 'problem', 'warning'],
  );
  assert.match(found[2]?.says ?? '', /^7 chunks have fewer/);
});

test('who may not ask for settings is not told about backups', () => {
  const about = examine({ ...WELL, maintenance: undefined, lastBackupMs: undefined }).map((finding) => finding.about);
  assert.ok(!about.includes('backup') && !about.includes('garbage'));
});

test('little room on the disk of the coordinator is found before it is full', () => {
  const about = (metadataFreeBytes: number): string[] =>
    examine({ ...WELL, ...withStatus({ metadataFreeBytes }) }).flatMap(({ about, level }) =>
      about === 'metadata' ? [level] : [],
    );
  assert.deepEqual([about(3e9), about(1e9), about(1e8)], [[], ['warning'], ['problem']]);
  const full = examine({ ...WELL, ...withStatus({ metadataFreeBytes: 2e7, metadataFull: true }) });
  assert.match(full.find((finding) => finding.about === 'metadata')?.says ?? '', /19.*MiB.*nothing new is taken/);
  const unknown = examine({ ...WELL, ...withStatus({ metadataCapacityBytes: 0, metadataFreeBytes: 0 }) });
  assert.ok(
    unknown.every((finding) => finding.about !== 'metadata'),
    'an older coordinator does not say',
  );
});
