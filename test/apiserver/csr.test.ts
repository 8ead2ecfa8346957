/** T5 against the real cert-manager: an approved request comes back as a certificate that the member's peers accept. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { silentLog } from '@collective/base/log';
import type { LeafWish } from '@collective/operator/ca/certificate-picture';
import { checkKeptRequest, type KeptRequest } from '@collective/operator/csr/checked-requests';
import { planRequests, type RequestAnswer } from '@collective/operator/csr/plan-requests';
import type { HttpKubeApi } from '@collective/operator/kube/http-kube-api';
import { RESOURCES } from '@collective/operator/kube/resources';
import { exampleMember } from '@collective/operator/member/example-member';
import { Applier } from '@collective/operator/runtime/applier';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { parseSpiffeId } from '@collective/protocol/tls/spiffe-id';
import { until } from '../until.ts';
import { CertManager } from './cert-manager.ts';
import { CertifiedMember, TRUST_DOMAIN } from './certified-member.ts';
import { namespaceNamed, operatorApi } from './operator-side.ts';
import { TestApiServer } from './test-apiserver.ts';
import { echo, TlsPeer } from './tls-peers.ts';

const NAMESPACE = 'photos';
const LEAF_DURATION_MS = 720 * 3_600_000;
const SIGNED_WITHIN_MS = 60_000;

const running = new AsyncDisposableStack();
let server: TestApiServer;
let api: HttpKubeApi;
before(async () => {
  server = running.use(await TestApiServer.start());
  running.use(await CertManager.start(server));
  api = running.use(await operatorApi(server));
  await server.admin.apply(namespaceNamed(NAMESPACE));
});
after(() => running.disposeAsync());

test('T5: an approved request is signed by cert-manager, accepted by peers, and leaves nothing behind once it is answered', async () => {
  await using member = await new CertifiedMember(api, NAMESPACE, {}).start();
  const uri = `spiffe://${TRUST_DOMAIN}/client/laptop`;
  const asked = await makeCsr(parseSpiffeId(uri));
  const kept: KeptRequest[] = [{ id: 'token-7', uri, csr: asked.csr }];
  let answer: RequestAnswer | undefined;
  await until(
    async () => {
      [answer] = await turn(member, kept);
      return answer !== undefined;
    },
    'the request is answered',
    SIGNED_WITHIN_MS,
  );
  assert.ok(answer !== undefined && 'certificatePem' in answer, JSON.stringify(answer));
  const coordinator = member.peer('coordinator');
  const wish: LeafWish = { name: 'laptop', uri, usages: 'client' };
  await using laptop = new TlsPeer(wish);
  const bundlePem = coordinator.set?.bundlePem ?? '';
  await laptop.mount({ certificatePem: answer.certificatePem, keyPem: asked.keyPem, bundlePem });
  const socket = await laptop.dial(coordinator);
  await echo(socket);
  socket.destroy();
  await turn(member, []);
  const left = await server.admin.list('cert-manager.io/v1', 'CertificateRequest', NAMESPACE);
  assert.deepEqual(
    left.filter(({ metadata }) => metadata.name.startsWith('alice-csr-')),
    [],
  );
});

async function turn(member: CertifiedMember, kept: readonly KeptRequest[]): Promise<readonly RequestAnswer[]> {
  const labelSelector = 'collective.storage/member=alice';
  const { objects } = await api.list(RESOURCES.certificateRequests, { namespace: NAMESPACE, labelSelector });
  const requests = new Map(objects.map((one) => [one.metadata.name, one]));
  const plan = planRequests({
    nowMs: 0,
    member: exampleMember({}, { namespace: NAMESPACE }),
    namespace: NAMESPACE,
    kept: await Promise.all(kept.map((one) => checkKeptRequest(one, TRUST_DOMAIN))),
    requests,
    issuer: member.plan?.issuer,
    leafDurationMs: LEAF_DURATION_MS,
    roots: member.peer('coordinator').set?.roots ?? [],
  });
  const applier = new Applier({ api, observed: ({ name }) => requests.get(name), log: silentLog });
  const { refused } = await applier.apply(plan.objects);
  for (const { error } of refused) throw error;
  await applier.remove(plan.removals);
  return plan.answers;
}
