/** What a plan of a whole member does with requests for certificates (T5) and lost blocks (D3, K2), and which ports its status remembers (D10). */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { parseTrustDomain, spiffeId } from '@collective/protocol/tls/spiffe-id';
import { type CheckedKeptRequest, checkKeptRequest } from '../csr/checked-requests.ts';
import { NO_REQUESTS } from '../csr/plan-requests.ts';
import { exampleCollective, exampleMember } from './example-member.ts';
import { answered, byName, exampleObjects, examplePicture } from './example-picture.ts';
import { statusOf } from './member-status.ts';
import type { MemberPicture } from './picture.ts';
import { type CertificateFacts, conditionsOf, type MemberPlan, planMember } from './plan-member.ts';

const DOMAIN = parseTrustDomain(`alice.${exampleCollective().spec.domain}`);
const ann = spiffeId(DOMAIN, 'user', 'ann');
const coordinator = spiffeId(DOMAIN, 'coordinator');
let refused: CheckedKeptRequest;
before(async () => {
  const { csr } = await makeCsr(coordinator);
  refused = await checkKeptRequest({ id: 'r1', uri: coordinator.uri, csr }, DOMAIN);
});

const left = {
  apiVersion: 'cert-manager.io/v1',
  kind: 'CertificateRequest',
  metadata: { name: `alice-csr-${'0'.repeat(20)}`, namespace: 'team', uid: 'u1' },
};

function planned(change: Partial<MemberPicture>, facts: Partial<CertificateFacts> = {}): MemberPlan {
  const objects = { ...exampleObjects(['disk-0']), certificateRequests: byName([left]) };
  const picture = examplePicture({ coordinator: answered(), keptRequests: [refused], objects, ...change });
  const plan = planMember(picture, { renewalPolicySupported: true, userLeaves: [], peers: undefined, ...facts });
  assert.ok(plan.kind === 'run');
  return plan;
}

test('T5: what the coordinator keeps is answered, and objects of what it keeps no more are removed', () => {
  const { requests } = planned({});
  assert.deepEqual(
    requests.answers.map(({ id }) => id),
    ['r1'],
  );
  assert.deepEqual(
    requests.removals.map(({ uid }) => uid),
    ['u1'],
  );
});

test('T5: while the coordinator is silent, or without cert-manager, nothing is made and nothing taken away', () => {
  const silent = { coordinator: { state: 'silent', why: 'no answer within 5s' }, keptRequests: [] } as const;
  assert.deepEqual(planned(silent).requests, NO_REQUESTS);
  assert.deepEqual(planned({}, { renewalPolicySupported: 'absent' }).requests, NO_REQUESTS);
});

test('T5: of a paused member requests are answered as well', () => {
  const member = exampleMember({ maintenance: { paused: true } });
  assert.equal(planned({ member }).requests.answers.length, 1);
});

test('T5: nothing is asked of cert-manager before there is an authority that signs', async () => {
  const { csr } = await makeCsr(ann);
  const fit = await checkKeptRequest({ id: 'r2', uri: ann.uri, csr }, DOMAIN);
  const { requests } = planned({ keptRequests: [fit] });
  assert.deepEqual([requests.objects, requests.answers], [[], []]);
});

test('D10: the ports of a member are remembered in its status while it is exposed by ports, also without their Services', () => {
  const service = (name: string, nodePort: number) => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'team' },
    spec: { ports: [{ nodePort }] },
  });
  const services = byName([service('alice-coordinator', 30_001), service('alice-disk-0', 30_002)]);
  const ports = (type: 'NodePort' | 'LoadBalancer', change: Partial<MemberPicture>) => {
    const nodePools = [{ name: 'disk', replicas: 1, capacity: '100Gi' }];
    const status = change.member?.status;
    const member = { ...exampleMember({ nodePools, exposure: { type } }), ...(status === undefined ? {} : { status }) };
    const picture = examplePicture({ ...change, member });
    const plan = planned(picture);
    const told = statusOf({ picture, plan, conditions: conditionsOf(plan, picture, []), settingsWait: false });
    return { told, ports: [told.coordinator?.nodePort, told.nodes?.[0]?.nodePort, told.endpoints?.external] };
  };
  const objects = { ...exampleObjects(['disk-0']), pods: new Map(), services };
  const first = ports('NodePort', { objects });
  assert.deepEqual(first.ports.slice(0, 2), [30_001, 30_002]);
  const gone = { objects: { ...objects, services: new Map() }, member: { ...exampleMember(), status: first.told } };
  assert.deepEqual(ports('NodePort', gone).ports, first.ports);
  assert.deepEqual(ports('LoadBalancer', gone).ports, [undefined, undefined, undefined]);
});

test('K2, D3: lost blocks are in the status to the last one, also while the coordinator is silent, and keep no node from being evicted', () => {
  const nodePools = [{ name: 'disk', replicas: 2, capacity: '100Gi' }];
  const looked = (change: Partial<MemberPicture>) => {
    const member = { ...exampleMember({ nodePools }), ...change.member };
    const picture = examplePicture({ objects: exampleObjects(['disk-0', 'disk-1']), ...change, member });
    const plan = planned(picture);
    const status = statusOf({ picture, plan, conditions: conditionsOf(plan, picture, []), settingsWait: false });
    const budget = plan.applies.find(({ object }) => object.kind === 'PodDisruptionBudget')?.object.spec;
    return { status, minAvailable: (budget as { minAvailable?: number } | undefined)?.minAvailable };
  };
  const lost = looked({ coordinator: answered({ replication: { lost: 1_234_567 } }) });
  assert.deepEqual([lost.status.replication?.lost, lost.minAvailable], [1_234_567, 1]);
  const silent = looked({
    coordinator: { state: 'silent', why: 'no answer within 5s' },
    member: { ...exampleMember({ nodePools }), status: lost.status },
  });
  assert.deepEqual([silent.status.replication?.lost, silent.minAvailable], [1_234_567, 2]);
  const short = looked({ coordinator: answered({ replication: { lost: 1, underReplicated: 1 } }) });
  assert.equal(short.minAvailable, 2);
});

test('K2: what is left on a node that drains is told as it was counted now, also by a coordinator that has just started', () => {
  const left = (holdings: Record<string, number>): number | undefined => {
    const nodePools = [{ name: 'disk', replicas: 0, capacity: '100Gi' }];
    const nodes = [{ name: 'disk-0', duty: 'draining', leftChunks: 0 }];
    const picture = examplePicture({
      member: exampleMember({ nodePools }),
      objects: exampleObjects([{ name: 'disk-0', mark: 'Draining' }]),
      coordinator: answered({ nodes, holdings, replication: { counting: true } }),
    });
    const plan = planned(picture);
    return statusOf({ picture, plan, conditions: conditionsOf(plan, picture, []), settingsWait: false }).nodes?.[0]
      ?.leftChunks;
  };
  assert.equal(left({ 'disk-0': 12 }), 12);
  assert.equal(left({}), 0);
});
