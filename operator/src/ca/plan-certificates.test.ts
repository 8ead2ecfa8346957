/** T6, K3: what is planned for a member's certificates, on a model of cert-manager and a clock of its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { ModelMember } from './model-member.ts';
import { planCertificates } from './plan-certificates.ts';
import { publishedRoots } from './roots.ts';
import { fingerprintOf, secretText } from './secret-data.ts';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

async function settled(...made: ConstructorParameters<typeof ModelMember>): Promise<ModelMember> {
  const member = new ModelMember(...made);
  await member.settle();
  return member;
}

const bundleOf = (member: ModelMember): string[] =>
  publishedRoots(member.model.configMaps.get('alice-trust')).map(fingerprintOf);

const issuersOf = (member: ModelMember): unknown[] => [
  ...new Set(
    member.leaves.map(
      ({ name }) =>
        (member.model.certificates.get(name)?.spec as { issuerRef: { name: string } } | undefined)?.issuerRef.name,
    ),
  ),
];

test('T1, T4: a new member gets an authority, leaves and a bundle of one root, and then nothing is written any more', async () => {
  const member = await settled();
  assert.deepEqual([...member.model.issuers.keys()].sort(), ['alice-ca-g1', 'alice-self-signed']);
  assert.equal(member.authority.phase, 'Stable');
  assert.equal(member.authority.generations?.length, 1);
  assert.deepEqual(bundleOf(member), [member.authority.generations[0]?.fingerprint]);
  assert.deepEqual(member.lastPlan?.ready, new Set(member.leaves.map(({ name }) => name)));
  assert.deepEqual(member.lastPlan?.condition, {
    status: 'True',
    reason: 'Issued',
    message: '5 certificates under generation 1',
  });
  assert.equal(member.lastPlan.issuer, 'alice-ca-g1');
  assert.deepEqual(
    member.lastPlan.certificates.map(({ name, generation }) => [name, generation]),
    [...member.leaves.map(({ name }) => [name, 1]), ['alice-ca-g1', 1]],
  );
  const { writes } = member.model;
  member.step();
  await member.model.turn(member.nowMs);
  assert.equal(member.model.writes, writes);
  assert.deepEqual(member.events, ['AuthorityCreated']);
});

test('K1: leaves that a busy cert-manager has not come to yet are waited for, without a call and without an alarm', async () => {
  const member = new ModelMember();
  while (member.stored?.ca?.phase !== 'Stable') {
    member.step();
    await member.model.turn(member.nowMs);
    member.nowMs += 1_000;
  }
  for (const { name } of member.leaves) {
    member.model.certificates.delete(name);
    member.model.secrets.delete(name);
  }
  member.step();
  member.model.stopped = true;
  const { writes } = member.model;
  for (let minutes = 0; minutes < 30; minutes++) {
    member.nowMs += 60_000;
    assert.deepEqual(member.step().renewals, []);
  }
  assert.equal(member.model.writes, writes);
  assert.ok(!member.events.includes('CertificateReissued'), String(member.events));
  member.model.stopped = false;
  await member.settle();
});

test('T6: the annotation begins the next generation, once; every peer stays accepted in every phase, and the old root goes', async () => {
  const member = await settled({ overlap: '24h' });
  const [first] = bundleOf(member);
  member.trigger = 'now';
  await member.pass(HOUR_MS);
  assert.equal(member.authority.phase, 'Retiring');
  assert.equal(bundleOf(member).length, 2);
  assert.equal(bundleOf(member)[1], first);
  assert.deepEqual(issuersOf(member), ['alice-ca-g2']);
  await member.pass(25 * HOUR_MS);
  await member.settle();
  assert.equal(member.authority.phase, 'Stable');
  assert.deepEqual(bundleOf(member), [member.authority.generations?.[0]?.fingerprint]);
  assert.notEqual(bundleOf(member)[0], first);
  for (const objects of [member.model.issuers, member.model.certificates, member.model.secrets])
    assert.ok(!objects.has('alice-ca-g1') && objects.has('alice-ca-g2'));
  await member.pass(3 * DAY_MS);
  assert.equal(member.authority.generation, 2);
  assert.deepEqual(member.events, [
    'AuthorityCreated',
    'AuthorityRotationStarted',
    'AuthorityDistributing',
    'AuthorityReissuing',
    'AuthorityRetiring',
    'AuthorityRotated',
  ]);
});

test('T6: certificates that could not be issued anew for a minute do not hold a rotation up for as long as cert-manager waits', async () => {
  const member = await settled();
  member.trigger = 'now';
  for (let turns = 0; member.authority.phase !== 'Reissuing'; turns++) {
    assert.ok(turns < 300, member.authority.phase);
    member.model.failing = member.authority.phase === 'Distributing';
    await member.pass(1_000);
  }
  await member.pass(60_000);
  member.model.failing = false;
  assert.equal(member.authority.phase, 'Reissuing');
  await member.pass(30 * 60_000);
  assert.equal(member.authority.phase, 'Retiring');
});

const triggers: readonly { name: string; pull: (member: ModelMember) => Promise<void>; after?: number }[] = [
  {
    name: 'its age is over rotateAfter',
    pull: async (member) => {
      member.ca = { ...member.ca, rotateAfter: '48h' };
      await member.pass(3 * DAY_MS);
      member.ca = { ...member.ca, rotateAfter: '8700h' };
    },
  },
  {
    name: 'it ends within the life of its leaves and two overlaps',
    pull: async (member) => await member.pass(340 * DAY_MS),
  },
  {
    name: 'spec.ca.duration is another',
    pull: async (member) => {
      member.ca = { ...member.ca, duration: '4380h' };
    },
  },
  {
    name: 'its Secret is deleted, which cert-manager makes again with another key',
    pull: async (member) => {
      member.model.secrets.delete('alice-ca-g1');
      await member.model.turn(member.nowMs);
    },
  },
  {
    name: 'its Secret is deleted while cert-manager stands still',
    pull: async (member) => {
      member.model.secrets.delete('alice-ca-g1');
    },
  },
  {
    name: "its Secret holds somebody else's authority",
    pull: async (member) => {
      const foreign = await ScratchAuthority.create(parseTrustDomain('alice.photos.test'));
      member.model.putSecret('alice-ca-g1', { 'tls.crt': foreign.bundlePem, 'tls.key': foreign.keyPem }, member.nowMs, {
        annotations: { 'cert-manager.io/issuer-name': 'alice-self-signed' },
      });
    },
  },
];

for (const { name, pull } of triggers)
  test(`T6: the next generation begins when ${name}, and leaves of the first live until they are issued anew`, async () => {
    const member = await settled({ duration: '8760h', overlap: '24h', rotateAfter: '8700h' });
    const [first] = bundleOf(member);
    await pull(member);
    await member.pass(HOUR_MS);
    if (member.authority.phase !== 'Stable') assert.ok(bundleOf(member).includes(first ?? ''), 'the old root stays');
    await member.pass(3 * DAY_MS);
    assert.equal(member.authority.phase, 'Stable');
    assert.ok(member.authority.generation >= 2);
    assert.deepEqual(bundleOf(member), [member.authority.generations?.[0]?.fingerprint]);
    assert.deepEqual(issuersOf(member), [`alice-ca-g${member.authority.generation}`]);
    assert.equal(member.lastPlan?.condition.status, 'True');
  });

test('T6: nobody shows a leaf of the new root while a connected peer does not know it, until overlap has passed', async () => {
  const member = await settled({ overlap: '10h' });
  const [slow] = member.peers.slice(-1);
  assert.ok(slow !== undefined);
  member.trigger = 'now';
  const heldBack = slow.bundle;
  const mount = member.mount.bind(member);
  member.mount = (peer) => {
    if (peer !== slow) mount(peer);
  };
  await member.pass(9 * HOUR_MS);
  assert.equal(member.authority.phase, 'Distributing');
  assert.deepEqual(issuersOf(member), ['alice-ca-g1']);
  assert.match(
    member.lastPlan?.condition.message ?? '',
    /peers take the new root: spiffe:\/\/alice.photos.test\/user\/ann/,
  );
  assert.equal(slow.bundle, heldBack);
  slow.connected = false;
  await member.pass(HOUR_MS / 2);
  assert.equal(member.authority.phase, 'Retiring');
});

test('T6: of an authority that is merely old the next root is told for a day: who is away and comes within it is not cut off', async () => {
  const member = await settled({ duration: '8760h', overlap: '48h', rotateAfter: '8700h' });
  const [laptop] = member.peers.slice(-1);
  assert.ok(laptop !== undefined);
  laptop.connected = false;
  const mount = member.mount.bind(member);
  member.mount = (peer) => {
    if (peer !== laptop) mount(peer);
  };
  member.ca = { ...member.ca, rotateAfter: '1h' };
  await member.pass(21 * HOUR_MS);
  assert.equal(member.authority.phase, 'Distributing');
  assert.deepEqual(issuersOf(member), ['alice-ca-g1']);
  assert.match(member.lastPlan?.condition.message ?? '', /who comes until 2026-01-02T.* is told of the new root/);
  const { writes } = member.model;
  await member.pass(HOUR_MS);
  assert.equal(member.model.writes, writes);
  mount(laptop);
  assert.deepEqual(laptop.bundle.map(fingerprintOf), bundleOf(member));
  member.ca = { ...member.ca, rotateAfter: '8700h' };
  await member.pass(5 * HOUR_MS);
  assert.equal(member.authority.phase, 'Retiring');
  assert.deepEqual(issuersOf(member), ['alice-ca-g2']);
});

test('T6: nobody is waited for when the old authority is lost meanwhile, or when its leaves would outlive it', async () => {
  const lost = await settled({ duration: '8760h', overlap: '48h', rotateAfter: '1h' });
  await lost.pass(3 * HOUR_MS);
  assert.equal(lost.authority.phase, 'Distributing');
  lost.model.secrets.delete('alice-ca-g1');
  await lost.pass(HOUR_MS);
  assert.equal(lost.authority.phase, 'Retiring');
  const short = await settled({ duration: '24h', leafDuration: '6h' });
  await short.pass(17 * HOUR_MS);
  assert.equal(short.authority.phase, 'Distributing');
  await short.pass(2 * HOUR_MS);
  assert.equal(short.authority.phase, 'Retiring');
});

test('T6: while the bundle cannot be written nothing goes on without it, and it is not tried without a pause', async () => {
  const member = await settled();
  member.trigger = 'now';
  while (member.authority.phase !== 'Distributing') await member.pass(1_000);
  member.model.configMaps.delete('alice-trust');
  for (const hours of [0, 1, 400]) {
    member.nowMs += hours * HOUR_MS;
    const plan = planCertificates(member.picture());
    assert.equal(plan.ca?.phase, 'Distributing');
    assert.match(plan.condition.message, /the bundle is published/);
    assert.ok((plan.requeueAfterMs ?? 0) >= 1_000, `again after ${plan.requeueAfterMs} ms`);
  }
});

test('T6: a peer that never follows is told of, and left behind after overlap, and after twice of it for the old root', async () => {
  const member = await settled({ overlap: '10h' });
  const [slow] = member.peers.slice(-1);
  assert.ok(slow !== undefined);
  member.excused.add(slow.wish.uri);
  const mount = member.mount.bind(member);
  member.mount = (peer) => {
    if (peer !== slow) mount(peer);
  };
  member.trigger = 'now';
  await member.pass(11 * HOUR_MS);
  assert.equal(member.authority.phase, 'Retiring');
  assert.ok(member.events.includes('AuthorityRotationWaitEnded'));
  await member.pass(15 * HOUR_MS);
  assert.equal(member.authority.phase, 'Retiring');
  await member.pass(6 * HOUR_MS);
  assert.equal(member.authority.phase, 'Stable');
});

test('T6: while the coordinator cannot be asked nothing is believed of peers, and the rotation still ends', async () => {
  const member = await settled({ overlap: '10h' });
  member.coordinatorAnswers = false;
  member.trigger = 'now';
  await member.pass(9 * HOUR_MS);
  assert.equal(member.authority.phase, 'Distributing');
  await member.pass(2 * HOUR_MS);
  assert.equal(member.authority.phase, 'Reissuing');
  await member.pass(31 * HOUR_MS);
  assert.equal(member.authority.phase, 'Stable');
});

test('T6: while cert-manager stands still, the root of leaves that were not issued anew stays, however long that takes', async () => {
  const member = await settled({ overlap: '10h' });
  const [first = ''] = bundleOf(member);
  member.trigger = 'now';
  while (member.authority.phase !== 'Distributing') await member.pass(1_000);
  member.model.stopped = true;
  await member.pass(100 * HOUR_MS);
  assert.equal(member.authority.phase, 'Reissuing');
  assert.ok(bundleOf(member).includes(first));
  assert.match(member.lastPlan?.condition.message ?? '', /certificates are issued anew/);
  member.model.stopped = false;
  await member.pass(15 * HOUR_MS);
  assert.equal(member.authority.phase, 'Stable');
});

test('T6: leaves are issued anew a few at a time', async () => {
  const member = await settled({}, 30);
  member.trigger = 'now';
  let most = 0;
  for (let steps = 0; steps < 60 && member.stored?.ca?.phase !== 'Retiring'; steps++) {
    const before = issuedBy(member, 'alice-ca-g2');
    member.step();
    most = Math.max(most, issuedBy(member, 'alice-ca-g2') - before);
    await member.model.turn(member.nowMs);
    for (const peer of member.peers) member.connect(peer);
    member.nowMs += 1_000;
  }
  assert.equal(member.authority.phase, 'Retiring');
  assert.equal(most, 8);
});

const wounds: readonly { name: string; wound: (member: ModelMember) => Promise<void> | void }[] = [
  { name: 'is deleted', wound: ({ model }) => void model.secrets.delete('alice-disk-0-tls') },
  {
    name: 'holds no key',
    wound: ({ model, nowMs }) => {
      const pem = secretText(model.secrets.get('alice-disk-0-tls'), 'tls.crt');
      model.putSecret('alice-disk-0-tls', { 'tls.crt': pem }, nowMs);
    },
  },
  {
    name: 'holds a leaf that a foreign authority signed, which cert-manager takes for good',
    wound: async ({ model, nowMs }) => {
      const foreign = await ScratchAuthority.create(parseTrustDomain('alice.photos.test'));
      const { certificatePem, keyPem } = await foreign.peer('node', 'disk-0');
      model.putSecret('alice-disk-0-tls', { 'tls.crt': certificatePem, 'tls.key': keyPem }, nowMs);
    },
  },
  {
    name: "holds another peer's leaf",
    wound: ({ model, nowMs }) => {
      const other = model.secrets.get('alice-disk-1-tls');
      model.putSecret(
        'alice-disk-0-tls',
        { 'tls.crt': secretText(other, 'tls.crt'), 'tls.key': secretText(other, 'tls.key') },
        nowMs,
      );
    },
  },
  {
    name: 'is deleted while cert-manager waits for an hour after a failure',
    wound: async (member) => {
      member.model.failing = true;
      member.model.secrets.delete('alice-disk-0-tls');
      await member.model.turn(member.nowMs);
      member.model.failing = false;
    },
  },
];

for (const { name, wound } of wounds)
  test(`T6: a leaf heals within two minutes when its Secret ${name}`, async () => {
    const member = await settled();
    await member.pass(DAY_MS);
    await wound(member);
    assert.ok(!planCertificates(member.picture()).ready.has('alice-disk-0-tls'));
    assert.match(planCertificates(member.picture()).condition.message, /^Not ready: alice-disk-0-tls: /);
    await member.pass(2 * 60_000);
    assert.ok(member.step().ready.has('alice-disk-0-tls'));
    assert.equal(member.authority.generation, 1);
  });

test('T6: what is known of nobody does not stay in the bundle, and an old root is not lost with its Secret', async () => {
  const member = await settled({ overlap: '24h' });
  const [first = ''] = bundleOf(member);
  member.model.secrets.delete('alice-ca-g1');
  await member.model.turn(member.nowMs);
  await member.pass(60_000);
  const foreign = await ScratchAuthority.create(parseTrustDomain('alice.photos.test'));
  const published = member.model.configMaps.get('alice-trust');
  assert.ok(published !== undefined);
  member.model.configMaps.set('alice-trust', {
    ...published,
    data: { 'trust.pem': [foreign.bundlePem, ...publishedRoots(published)].join('') },
  });
  member.step();
  assert.ok(bundleOf(member).includes(first));
  assert.equal(bundleOf(member).length, 2);
  assert.ok(member.events.includes('TrustBundleRestored'));
  // Beside each leaf lies the root that signed it.
  member.model.configMaps.delete('alice-trust');
  member.step();
  assert.ok(bundleOf(member).includes(first));
});

test('K3: a Member that is created again finds the authority that was kept, and goes on with a rotation that was begun', async () => {
  const member = await settled({ overlap: '24h' });
  const [first] = bundleOf(member);
  const again = async (): Promise<void> => {
    member.stored = undefined;
    member.uid = `${member.uid}-again`;
    member.model.configMaps.clear();
    for (const { name } of member.leaves) {
      member.model.certificates.delete(name);
      member.model.secrets.delete(name);
    }
    await member.settle();
  };
  await again();
  assert.deepEqual(bundleOf(member), [first]);
  assert.equal(member.authority.generation, 1);
  assert.deepEqual(member.events, ['AuthorityCreated', 'AuthorityFound']);
  member.trigger = 'now';
  await member.pass(HOUR_MS);
  await again();
  await member.pass(2 * DAY_MS);
  assert.equal(member.authority.phase, 'Stable');
  assert.equal(member.authority.generation, 2);
});

test('K3: the kept authority of another trust domain is left alone', async () => {
  const bob = new ModelMember();
  await bob.settle();
  const foreign = await ScratchAuthority.create(parseTrustDomain('alice.elsewhere.test'));
  const certificate = bob.model.certificates.get('alice-ca-g1');
  const member = new ModelMember();
  assert.ok(certificate !== undefined);
  member.model.certificates.set('alice-ca-g1', {
    ...certificate,
    spec: { ...(certificate.spec as object), subject: { organizations: ['alice.elsewhere.test'] } },
  });
  member.model.putSecret('alice-ca-g1', { 'tls.crt': foreign.bundlePem, 'tls.key': foreign.keyPem }, member.nowMs);
  member.model.stopped = true;
  member.step();
  member.step();
  member.step();
  assert.equal(member.authority.generation, 2);
  assert.ok(member.model.secrets.has('alice-ca-g1') && member.model.certificates.has('alice-ca-g1'));
  assert.ok(member.model.certificates.has('alice-ca-g2'));
});

test('T1: an authority without name constraints is never trusted', async () => {
  const member = new ModelMember();
  member.step();
  const open = await ScratchAuthority.create(parseTrustDomain('alice.photos.test'), { unconstrained: true });
  member.model.putSecret('alice-ca-g1', { 'tls.crt': open.bundlePem, 'tls.key': open.keyPem }, member.nowMs);
  const plan = member.step();
  assert.equal(plan.stalled?.reason, 'AuthorityUnfit');
  assert.match(plan.stalled.message, /alice-ca-g1.*NameConstraints/);
  assert.ok(!member.model.configMaps.has('alice-trust'));
});

for (const { supported, reason, says } of [
  { supported: 'absent', reason: 'CertManagerMissing', says: /install version 1.21/ },
  { supported: false, reason: 'CertManagerTooOld', says: /upgrade it to version 1.21/ },
] as const)
  test(`T6: ${reason}: nothing begins, and what runs already keeps its certificates`, async () => {
    const fresh = new ModelMember();
    fresh.renewalPolicySupported = supported;
    const plan = fresh.step();
    assert.deepEqual([plan.objects, plan.removals, plan.ca], [[], [], undefined]);
    assert.equal(plan.stalled?.reason, reason);
    assert.match(plan.stalled.message, says);

    const running = await settled();
    running.renewalPolicySupported = supported;
    running.trigger = 'now';
    const kept = running.step();
    assert.equal(kept.stalled?.reason, reason);
    assert.equal(kept.ready.size, 5);
    assert.equal(running.authority.generation, 1);
  });

test('T6: a leaf that is not wished for any more goes with its Secret; names of authorities are never given to leaves', async () => {
  const member = await settled();
  const left = member.leaves.filter(({ name }) => name !== 'alice-user-ann');
  const saved = member.model.secrets.get('alice-user-ann');
  assert.ok(saved !== undefined);
  // A copy that somebody made with all that is in it is not ours.
  const copy = { ...saved, metadata: { ...saved.metadata, name: 'saved', uid: 'uid-saved' } };
  const secrets = new Map([...member.model.secrets, ['saved', copy]]);
  const plan = planCertificates(member.picture({ leaves: left, secrets }));
  assert.deepEqual(
    plan.removals.map(({ reference: { resource, name } }) => [resource.kind, name]),
    [
      ['Certificate', 'alice-user-ann'],
      ['Secret', 'alice-user-ann'],
    ],
  );
  const thief = { name: 'alice-ca-g1', uri: 'spiffe://alice.photos.test/user/eve', usages: 'client' } as const;
  const refused = planCertificates(member.picture({ leaves: [...member.leaves, thief] }));
  assert.match(refused.condition.message, /^Not ready: alice-ca-g1: another certificate has this name/);
  assert.ok(refused.objects.every(({ object }) => JSON.stringify(object).includes('user/eve') === false));
  assert.deepEqual(refused.removals, []);
});

test('T6: of two wishes for one name the first has it, and is not issued anew again and again for the other', async () => {
  const member = await settled();
  const thief = { name: 'alice-user-ann', uri: 'spiffe://alice.photos.test/user/eve', usages: 'client' } as const;
  const leaves = [...member.leaves, thief];
  const plan = planCertificates(member.picture({ leaves, nowMs: member.nowMs + HOUR_MS }));
  assert.match(plan.condition.message, /^Not ready: alice-user-ann: another certificate has this name/);
  assert.ok(plan.ready.has('alice-user-ann'));
  assert.deepEqual(plan.renewals, []);
});

test("a Secret that is not this member's is left alone, and what to do is said", async () => {
  const member = await settled();
  const wish = { name: 'database', uri: 'spiffe://alice.photos.test/user/eve', usages: 'client' } as const;
  const leaves = [...member.leaves, wish];
  assert.ok(JSON.stringify(planCertificates(member.picture({ leaves })).objects).includes('user/eve'));
  for (const kind of ['Secret', 'Certificate']) {
    const plan = planCertificates(member.picture({ leaves, foreign: new Set([`${kind}/database`]) }));
    assert.ok(!JSON.stringify(plan.objects).includes('user/eve'));
    assert.deepEqual([plan.removals, plan.renewals], [[], []]);
    assert.match(
      plan.condition.message,
      new RegExp(`^Not ready: database: a ${kind} of this name is not this Member's: choose another spec\\.users`),
    );
  }
});

test('T6: a duration that is none is said, and nothing is touched', async () => {
  const member = await settled();
  member.ca = { overlap: 'a week' };
  const plan = member.step();
  assert.equal(plan.stalled?.reason, 'InvalidAuthoritySettings');
  assert.deepEqual([plan.objects, plan.removals], [[], []]);
  assert.equal(member.authority.generation, 1);
});

function issuedBy(member: ModelMember, issuer: string): number {
  return member.leaves.filter(({ name }) =>
    JSON.stringify(member.model.certificates.get(name)?.spec).includes(`"${issuer}"`),
  ).length;
}
