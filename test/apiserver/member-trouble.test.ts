/** What a cluster does not let happen: every case is a condition and an event that say what to do, and ends by itself when it is mended. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SystemClock } from '@collective/base/system-clock';
import { askExternalEndpoint } from '@collective/operator/coordinator/external-endpoint';
import { until } from '../until.ts';
import { conditionOf, type KubeObject } from './api-client.ts';
import { DOMAIN, isSettled, MemberWorld, NAMESPACE, pool } from './member-world.ts';
import { namespaceNamed } from './operator-side.ts';

const TOLD_WITHIN_MS = 60_000;
const ELSEWHERE = 'elsewhere';

const running = new AsyncDisposableStack();
let world: MemberWorld;
before(async () => {
  world = running.use(await MemberWorld.start({ canPull: (image) => !image.startsWith('nowhere.example/') }));
  await world.applyCollective();
});
after(() => running.disposeAsync());

async function told(member: string, type: string, reason: string): Promise<string> {
  const seen = await world.whenMember(
    member,
    (each) => conditionOf(each, type).reason === reason,
    `says ${type} ${reason}`,
    TOLD_WITHIN_MS,
  );
  return conditionOf(seen, type).message;
}

async function eventOf(member: string, reason: string): Promise<KubeObject> {
  let found: KubeObject | undefined;
  await until(
    async () => {
      const events = await world.server.admin.list('events.k8s.io/v1', 'Event', NAMESPACE);
      found = events.find(
        (event) => event.reason === reason && (event.regarding as { name?: string } | undefined)?.name === member,
      );
      return found !== undefined;
    },
    `there is an event ${reason} of ${member}`,
    TOLD_WITHIN_MS,
  );
  assert.ok(found !== undefined);
  return found;
}

test('an image that cannot be pulled is told, and another image mends it', async () => {
  await world.applyMember('alice', { nodePools: [pool(1)], image: 'nowhere.example/collective:1' });
  const message = await told('alice', 'Ready', 'ImageCannotBePulled');
  assert.match(message, /image nowhere\.example\/collective:1 cannot be pulled \(ImagePullBackOff\).*imagePullSecrets/);
  assert.equal((await eventOf('alice', 'ImageCannotBePulled')).type, 'Warning');
  await world.applyMember('alice', { nodePools: [pool(1)] });
  await world.ready('alice');
});

test('a quota that is exceeded is told, and a larger quota mends it', async () => {
  const quota = (pods: string): KubeObject =>
    ({
      apiVersion: 'v1',
      kind: 'ResourceQuota',
      metadata: { name: 'small', namespace: NAMESPACE },
      spec: { hard: { pods } },
    }) as KubeObject;
  await world.server.admin.apply(quota('2'));
  await world.server.admin.when(
    quota('2'),
    ({ status }) => (status as { used?: { pods?: string } } | undefined)?.used?.pods === '2',
    'counts the pods that there are',
  );
  await world.applyMember('alice', { nodePools: [pool(2)] });
  const message = await told('alice', 'Stalled', 'QuotaExceeded');
  assert.match(message, /exceeded quota: small.*Raise the quota/);
  await eventOf('alice', 'QuotaExceeded');
  await world.server.admin.apply(quota('20'));
  await world.ready('alice');
  await world.server.admin.remove(quota('20'));
});

test("T3a: a Secret that is not this Member's is not taken over, and what to do is told", async () => {
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'database', namespace: NAMESPACE },
    stringData: { password: 'not for certificates' },
  };
  await world.server.admin.apply(secret);
  const users = [
    { name: 'ann', admin: true },
    { name: 'eve', secretName: 'database' },
  ];
  await world.applyMember('alice', { nodePools: [pool(2)], users });
  const message = await told('alice', 'CertificatesReady', 'Issuing');
  assert.match(
    message,
    /database: a Secret of this name is not this Member's: choose another spec\.users\[\]\.secretName/,
  );
  const left = await world.server.admin.find(secret);
  assert.deepEqual([left?.metadata.labels, Object.keys(left?.data as object)], [undefined, ['password']]);
  await world.server.admin.remove(secret);
  await world.ready('alice');
  assert.ok(Object.keys((await world.server.admin.find(secret))?.data as object).includes('tls.crt'));
  await world.applyMember('alice', { nodePools: [pool(2)] });
  await world.ready('alice');
});

test("an account that is not this Member's is not taken over, and stalls it", async () => {
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'robot', namespace: NAMESPACE } };
  await world.server.admin.apply(account);
  await world.applyMember('robot', { nodePools: [pool(1)] });
  assert.match(await told('robot', 'Stalled', 'NameTaken'), /ServiceAccount robot .* use another name for the Member/);
  const left = await world.server.admin.find(account);
  assert.deepEqual(
    [left?.metadata.labels, (left?.metadata as { ownerReferences?: unknown } | undefined)?.ownerReferences],
    [undefined, undefined],
  );
  await world.server.admin.remove(world.member('robot'));
});

test('a removal that is not let through is told, and holds up nothing else', async () => {
  const webhook = {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: 'keeper' },
    webhooks: [
      {
        name: 'keeper.example.test',
        clientConfig: { url: 'https://127.0.0.1:1' },
        rules: [{ apiGroups: ['batch'], apiVersions: ['v1'], operations: ['DELETE'], resources: ['cronjobs'] }],
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
      },
    ],
  };
  const nodePools = [pool(2)];
  await world.applyMember('alice', { nodePools, backup: { schedule: '0 0 1 1 *' } });
  await world.ready('alice');
  await world.server.admin.apply(webhook);
  const cronJob = world.object('batch/v1', 'CronJob', 'alice-backup');
  const isKept = async (): Promise<boolean> =>
    await world.server.admin.remove({ ...cronJob, metadata: { ...cronJob.metadata, name: 'none' } }).then(
      () => false,
      () => true,
    );
  await until(isKept, 'the webhook is asked', TOLD_WITHIN_MS);
  await world.applyMember('alice', { nodePools });
  const message = await told('alice', 'Reconciling', 'WebhookSilent');
  assert.match(message, /CronJob alice-backup cannot be written.*Delete cronjobs/);
  assert.ok((await world.server.admin.find(cronJob)) !== undefined);
  await world.server.admin.remove(webhook);
  await world.ready('alice');
  assert.equal(await world.server.admin.find(cronJob), undefined);
});

test("K1: cert-manager's webhook that does not answer is told to the operator's next leader, and holds up nothing else", async () => {
  const webhook = {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: 'silent' },
    webhooks: [
      {
        name: 'webhook.cert-manager.io',
        clientConfig: { url: 'https://127.0.0.1:1' },
        rules: [
          {
            apiGroups: ['cert-manager.io'],
            apiVersions: ['v1'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['certificates', 'issuers'],
          },
        ],
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
      },
    ],
  };
  const service = world.object('v1', 'Service', 'alice-coordinator');
  await world.stopOperator();
  await world.server.admin.apply(webhook);
  // One that it has a say about, and one that it has not: what is as it was is not written by the next leader.
  await world.server.admin.remove(world.object('cert-manager.io/v1', 'Certificate', 'alice-coordinator-tls'));
  await world.server.admin.remove(service);
  await world.startOperator();
  const message = await told('alice', 'Reconciling', 'WebhookSilent');
  assert.match(message, /failed calling webhook "webhook\.cert-manager\.io".*Look whether its pods run/);
  assert.ok((await world.server.admin.find(service)) !== undefined, 'what it has no say about is put right');
  await world.server.admin.remove(webhook);
  await world.whenMember('alice', isSettled, 'has settled', TOLD_WITHIN_MS);
});

test('a volume that cannot grow is told, and the member goes on as it is', async () => {
  await world.applyMember('alice', { nodePools: [pool(2, { capacity: '2Gi' })] });
  const message = await told('alice', 'Stalled', 'VolumeCannotGrow');
  assert.match(message, /alice-disk-[01] cannot grow: .*allowVolumeExpansion: true/);
  await eventOf('alice', 'VolumeCannotGrow');
  const alice = await world.server.admin.find(world.member('alice'));
  assert.equal(conditionOf(alice, 'NodesReady').status, 'True');
});

test('K1: a trust domain is claimed once in all namespaces: the younger Member is stalled and gets no authority', async () => {
  const { admin } = world.server;
  await admin.apply(namespaceNamed(ELSEWHERE));
  const collective = { apiVersion: 'collective.storage/v1alpha1', kind: 'Collective' };
  await admin.apply({
    ...collective,
    metadata: { name: 'photos', namespace: ELSEWHERE },
    spec: { domain: DOMAIN },
  } as KubeObject);
  const younger = {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Member',
    metadata: { name: 'alice', namespace: ELSEWHERE },
    spec: { collectiveRef: { name: 'photos' }, nodePools: [pool(1)] },
  };
  await admin.apply(younger as KubeObject);
  const seen = await admin.when(
    younger,
    (each) => conditionOf(each, 'Stalled').reason === 'TrustDomainConflict',
    'is told whose the trust domain is',
    TOLD_WITHIN_MS,
  );
  assert.match(conditionOf(seen, 'Stalled').message, new RegExp(`that of the Member ${NAMESPACE}/alice`));
  assert.deepEqual(await admin.list('cert-manager.io/v1', 'Certificate', ELSEWHERE), []);
  const alice = await admin.find(world.member('alice'));
  assert.notEqual(conditionOf(alice, 'Stalled').reason, 'TrustDomainConflict');
});

test('a Member that its Collective does not select is told, and a label mends it', async () => {
  const collective = world.object('collective.storage/v1alpha1', 'Collective', 'photos');
  await world.server.admin.patch(collective, { spec: { memberSelector: { matchLabels: { team: 'one' } } } });
  await told('alice', 'Stalled', 'NotSelected');
  await world.applyMember('alice', { nodePools: [pool(2, { capacity: '2Gi' })] }, { labels: { team: 'one' } });
  await told('alice', 'Stalled', 'VolumeCannotGrow');
});

test('a member that lives elsewhere is reachable when it proves its name under the bundle that was given, and else is not', async () => {
  const trust = await world.server.admin.find(world.object('v1', 'ConfigMap', 'alice-trust'));
  const trustBundle = (trust?.data as { 'trust.pem': string } | undefined)?.['trust.pem'] ?? '';
  const endpoint = world.kubelet.resolve(`alice-coordinator.${NAMESPACE}.svc:7420`);
  const asked = { endpoint, trustBundle, trustDomain: `alice.${DOMAIN}` };
  const signal = AbortSignal.timeout(TOLD_WITHIN_MS);
  assert.deepEqual(await askExternalEndpoint(asked, new SystemClock(), signal), { reachable: true });
  const external = (name: string, at: string): KubeObject =>
    ({
      ...world.member(name),
      metadata: { name, namespace: NAMESPACE, labels: { team: 'one' } },
      spec: { collectiveRef: { name: 'photos' }, external: { endpoint: at, trustBundle } },
    }) as KubeObject;
  await world.server.admin.apply(external('dora', endpoint));
  // Alice answers there, and dora is somebody else.
  assert.match(await told('dora', 'Ready', 'Unreachable'), /dora\.photos\.test/);
  await world.server.admin.apply(external('emil', '127.0.0.1:1'));
  assert.match(await told('emil', 'Ready', 'Unreachable'), /127\.0\.0\.1:1/);
});
