/** The health check for Argo CD as the docs page gives it, on statuses as the operator writes them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Member } from '../api/member.ts';
import { planCollective } from '../collective/plan-collective.ts';
import { argoHealth } from './argo-health.ts';
import { exampleCollective, exampleMember, operatorSettings } from './example-member.ts';
import { answered, began, exampleObjects, examplePicture, NOW_MS } from './example-picture.ts';
import { plainStatus } from './member-status.ts';
import type { MemberPicture } from './picture.ts';
import { type ConditionsInput, planConditions } from './plan-conditions.ts';
import { deletingConditions, planDeletion } from './plan-deletion.ts';
import { planMember } from './plan-member.ts';
import { planNodes } from './plan-nodes.ts';
import { planVolumes } from './plan-volumes.ts';
import { shapeOf } from './shape.ts';

const NODES = ['disk-0', 'disk-1', 'disk-2'];
const fine = { status: 'True', reason: 'CertificatesReady', message: '' } as const;
const serving = answered({ nodes: NODES.map((name) => ({ name })) });

function pictured(change: Partial<MemberPicture>): MemberPicture {
  const member = { ...exampleMember(), status: began() };
  return examplePicture({ member, objects: exampleObjects(NODES), coordinator: serving, ...change });
}

/** As the operator leaves it after a look. */
function looked(change: Partial<MemberPicture> = {}, input: Partial<ConditionsInput> = {}): Member {
  const picture = pictured(change);
  const shape = shapeOf(picture.member, exampleCollective(), operatorSettings());
  const nodes = planNodes(picture, shape);
  const conditions = planConditions({
    picture,
    shape,
    nodes,
    volumes: planVolumes(picture, shape, nodes),
    upgrading: { status: 'False', reason: 'UpToDate', message: '' },
    certificates: { condition: fine },
    refused: [],
    ...input,
  });
  return { ...picture.member, status: plainStatus(picture, conditions) };
}

function deleted(): Member {
  const member = { ...looked(), metadata: { ...exampleMember().metadata, deletionTimestamp: '2026-11-20T11:59:00Z' } };
  const picture = pictured({ member });
  return { ...member, status: plainStatus(picture, deletingConditions(picture, planDeletion(picture))) };
}

function withoutCollective(): Member {
  const member = exampleMember();
  const { collective: _, ...picture } = pictured({ member });
  const plan = planMember(picture, { renewalPolicySupported: true, userLeaves: [], peers: undefined });
  assert.ok(plan.kind === 'stalled');
  return { ...member, status: plainStatus(picture, plan.conditions) };
}

const starting = exampleObjects([{ name: 'disk-0', isReady: false }, 'disk-1', 'disk-2']);
const refused = [{ kind: 'PersistentVolumeClaim', name: 'alice-disk-0', message: 'must support resize' }];
const paused = { ...exampleMember({ maintenance: { paused: true } }), status: began() };
const shrinks = {
  ...exampleMember({ nodePools: [{ name: 'disk', replicas: 2, capacity: '100Gi' }] }),
  status: began(),
};

const cases: readonly {
  readonly name: string;
  readonly given: Member;
  readonly want: string;
  readonly says: RegExp;
}[] = [
  { name: 'no status yet', given: exampleMember(), want: 'Progressing', says: /^Waiting for the operator$/ },
  {
    name: 'a status without conditions',
    given: { ...exampleMember(), status: began() },
    want: 'Progressing',
    says: /^Waiting for the operator$/,
  },
  { name: 'Ready', given: looked(), want: 'Healthy', says: /as they should be$/ },
  {
    name: 'Ready, and Reconciling while a node drains',
    given: looked({ member: shrinks }),
    want: 'Healthy',
    says: /as they should be$/,
  },
  {
    name: 'Ready, although blocks were lost',
    given: looked({
      coordinator: answered({ nodes: NODES.map((name) => ({ name })), replication: { lost: 2 } }),
    }),
    want: 'Healthy',
    says: /as they should be$/,
  },
  {
    name: 'Reconciling, since a node starts',
    given: looked({ objects: starting }),
    want: 'Progressing',
    says: /^2 of 3 nodes are ready; not: disk-0$/,
  },
  {
    name: 'Stalled, although it serves',
    given: looked({}, { refused }),
    want: 'Degraded',
    says: /^Volume claim alice-disk-0 cannot grow: .*allowVolumeExpansion/,
  },
  { name: 'Stalled, without its Collective', given: withoutCollective(), want: 'Degraded', says: /photos/ },
  { name: 'deleting', given: deleted(), want: 'Progressing', says: /Pods end|objects are removed/ },
  { name: 'paused', given: looked({ member: paused }), want: 'Suspended', says: /^spec\.maintenance\.paused/ },
  {
    name: 'paused, and not ready',
    given: looked({ member: paused, objects: starting }),
    want: 'Suspended',
    says: /^spec\.maintenance\.paused/,
  },
  {
    name: 'paused, and Stalled',
    given: looked({ member: paused }, { refused }),
    want: 'Degraded',
    says: /^Volume claim alice-disk-0/,
  },
  {
    name: 'a spec that the operator has not looked at yet',
    given: ((member) => ({ ...member, metadata: { ...member.metadata, generation: 2 } }))(looked()),
    want: 'Progressing',
    says: /^Waiting for the operator$/,
  },
];

for (const { name, given, want, says } of cases) {
  test(`K1: Argo CD takes a Member for ${want}: ${name}`, () => {
    const { status, message } = argoHealth(given);
    assert.equal(status, want);
    assert.match(message, says);
  });
}

for (const [name, members, want] of [
  ['all of its Members are ready', [looked()], 'Healthy'],
  ['one is on its way', [looked(), { ...looked({ objects: starting }) }], 'Progressing'],
  ['one is Stalled', [looked(), looked({}, { refused })], 'Degraded'],
] as const) {
  test(`K1: Argo CD takes a Collective for ${want}: ${name}`, () => {
    const collective = exampleCollective();
    const status = planCollective(collective, members, NOW_MS);
    assert.equal(argoHealth({ ...collective, status }).status, want);
  });
}

test('K1: a Collective without a status is Progressing, and what is said is passed on letter by letter', () => {
  assert.equal(argoHealth(exampleCollective()).status, 'Progressing');
  const member = looked();
  const message = 'größer als "1 Gi"\n\\ ]] --';
  const conditions = member.status?.conditions?.map((each) => ({ ...each, message }));
  assert.deepEqual(argoHealth({ ...member, status: { ...member.status, conditions } } as Member), {
    status: 'Healthy',
    message,
  });
});
