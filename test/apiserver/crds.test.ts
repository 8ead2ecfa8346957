import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ApiError, type KubeObject } from './api-client.ts';
import { installCrds, readCrds } from './crds.ts';
import { TestApiServer } from './test-apiserver.ts';

const NAMESPACE = 'photos';
const DAYS_90 = '2160h';

interface Row {
  /** Message of the rule that is tried. */
  readonly rule: string;
  /** What the server says of `bad`, one entry for each field at fault. */
  readonly error: string;
  readonly good: KubeObject;
  readonly bad: KubeObject;
  /** What is stored when the rule judges a change. */
  readonly before?: KubeObject;
}

const running = new AsyncDisposableStack();
let server: TestApiServer;
before(async () => {
  server = running.use(await TestApiServer.start());
  await installCrds(server);
  await server.admin.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } });
});
after(() => running.disposeAsync());

const POOL = { name: 'disks', replicas: 2, capacity: '500Gi' };

function member(spec: object = {}, name = 'alice'): KubeObject {
  const metadata = { name, namespace: NAMESPACE };
  const whole = { collectiveRef: { name: 'photos' }, nodePools: [POOL], ...spec };
  return { apiVersion: 'collective.storage/v1alpha1', kind: 'Member', metadata, spec: whole };
}

function collective(spec: object = {}, name = 'photos'): KubeObject {
  const metadata = { name, namespace: NAMESPACE };
  return {
    apiVersion: 'collective.storage/v1alpha1',
    kind: 'Collective',
    metadata,
    spec: { domain: 'photos.example', ...spec },
  };
}

const pool = (fields: object): object => ({ nodePools: [{ ...POOL, ...fields }] });
const user = (fields: object): object => ({ users: [{ name: 'laptop', ...fields }] });
const storage = (fields: object): object => ({ coordinator: { storage: fields } });
const backup = (fields: object): object => ({ backup: { schedule: '@daily', ...fields } });
const external = (fields: object = {}): KubeObject =>
  member({
    nodePools: undefined,
    external: { endpoint: 'files.bob.example:7420', trustBundle: PEM, ...fields },
  });
const PEM = `-----BEGIN CERTIFICATE-----\n${'A'.repeat(64)}\n-----END CERTIFICATE-----\n`;

const DURATION_MESSAGE = (atLeast: string): string =>
  `must be a duration of at least ${atLeast} in hours, minutes and seconds, for example 720h or 1h30m`;
const QUANTITY_MESSAGE = 'must be a quantity above 0, for example 500Gi';
const CLASS_MESSAGE = 'the StorageClass of a volume never changes';
const DOMAIN_MESSAGE = 'must be DNS labels joined by dots: a-z, 0-9 and "-", not "-" at the ends of a label';
const NAME_MESSAGE = 'must be the name of an object: a-z, 0-9, "-" and ".", not "-" or "." at its ends';
const IMAGE_MESSAGE = 'must be an image with a tag other than latest, or with a digest';
const HOST_MESSAGE = 'must be a host name in lower case or an IP address, without a port';
const GROWS_MESSAGE = 'only grows: volumes cannot shrink';
const GROWS_FROM_10 = 'only grows: volumes cannot shrink (10Gi unless said)';
const MEMBER_NAME_MESSAGE =
  'must be a DNS label of at most 24 characters that begins with a letter: it is part of the trust domain and of the names of Services';
const COLLECTIVE_NAME_MESSAGE = 'must be a DNS label of at most 63 characters: it is the value of a label';
const DOMAIN_STAYS = 'never changes: it is part of every certificate of every member';
const REFERENCE_STAYS = 'never changes: the domain of the Collective is part of every certificate of the member';
const ELSEWHERE_MESSAGE =
  'a member that lives elsewhere has no image, replication, coordinator, nodePools, ca, exposure, users or backup here';
const FOR_GOOD_MESSAGE = 'a member lives here or elsewhere for good: make another Member';
const POOL_NAME_MESSAGE = 'must be at most 15 letters a-z and digits, a letter first, without "-"';
const POOL_CLASS_MESSAGE = 'never changes: make another pool, then take the nodes of this one away';
const USER_NAME_MESSAGE =
  'must be at most 40 of a-z, 0-9 and "-", not "-" at its ends, and must not end like a Secret of a server ("-tls", "-ca-g1")';
const USER_SECRET_MESSAGE = 'must be the name of a Secret, and must not end like one of a server ("-tls", "-ca-g1")';
const REALM_MESSAGE = 'must be an absolute path without "." and "..", without "/" at its end';
const UID_MESSAGE = 'is only for identity Squashed: a trusted one acts with the uids of its own machine';
const SCHEDULE_MESSAGE =
  'must be a schedule of five fields (minute, hour, day, month, weekday 0-6), for example "17 3 * * *", or @daily';
const ENOUGH_NODES_MESSAGE = 'the pools together must have at least as many nodes as replication.replicas';
const ONE_NODE_MESSAGE = 'the pools together must have at least one node';
const MIN_REPLICAS_MESSAGE = 'must not be more than replicas (2 unless said)';
const SHORTER_MESSAGE = (fallback: string): string =>
  `must be shorter than the duration of the authority (${fallback}87600h unless said)`;

const ROWS: readonly Row[] = [
  {
    rule: COLLECTIVE_NAME_MESSAGE,
    error: `metadata.name: Invalid value: ${COLLECTIVE_NAME_MESSAGE}`,
    good: collective({}, 'a'.repeat(63)),
    bad: collective({}, 'photos.2026'),
  },
  {
    rule: DOMAIN_MESSAGE,
    error: `spec.domain: Invalid value: ${DOMAIN_MESSAGE}`,
    good: collective({ domain: 'home' }),
    bad: collective({ domain: 'photos-.example' }),
  },
  {
    rule: DOMAIN_STAYS,
    error: `spec.domain: Forbidden: ${DOMAIN_STAYS}`,
    before: collective({}, 'settled'),
    good: collective({ defaults: { compression: 'Disabled' } }, 'settled'),
    bad: collective({ domain: 'pictures.example' }, 'settled'),
  },
  {
    rule: MIN_REPLICAS_MESSAGE,
    error: `spec.defaults.replication.minReplicas: Invalid value: ${MIN_REPLICAS_MESSAGE}`,
    good: collective({ defaults: { replication: { minReplicas: 2 } } }),
    bad: collective({ defaults: { replication: { minReplicas: 3 } } }),
  },
  {
    rule: IMAGE_MESSAGE,
    error: `spec.defaults.image: Invalid value: ${IMAGE_MESSAGE}`,
    good: collective({ defaults: { image: `registry.example:5000/collective@sha256:${'0f'.repeat(32)}` } }),
    bad: collective({ defaults: { image: 'registry.example:5000/collective:latest' } }),
  },
  {
    rule: NAME_MESSAGE,
    error: `spec.defaults.storageClass: Invalid value: ${NAME_MESSAGE}`,
    good: collective({ defaults: { storageClass: 'fast.ssd' } }),
    bad: collective({ defaults: { storageClass: 'Fast' } }),
  },
  {
    rule: QUANTITY_MESSAGE,
    error: `spec.defaults.quotas.bytes: Invalid value: ${QUANTITY_MESSAGE}`,
    good: collective({ defaults: { quotas: { bytes: '2T', inodes: 1_000_000 } } }),
    bad: collective({ defaults: { quotas: { bytes: '2 TB' } } }),
  },
  {
    rule: DURATION_MESSAGE('1s'),
    error: `spec.monitoring.interval: Invalid value: ${DURATION_MESSAGE('1s')}`,
    good: collective({ monitoring: { interval: '30s' } }),
    bad: collective({ monitoring: { interval: '500ms' } }),
  },
  {
    rule: MEMBER_NAME_MESSAGE,
    error: `metadata.name: Invalid value: ${MEMBER_NAME_MESSAGE}`,
    good: member({}, 'a'.repeat(24)),
    bad: member({}, 'a'.repeat(25)),
  },
  {
    rule: REFERENCE_STAYS,
    error: `spec.collectiveRef: Forbidden: ${REFERENCE_STAYS}`,
    before: member({}, 'settled'),
    good: member({ maintenance: { paused: true } }, 'settled'),
    bad: member({ collectiveRef: { name: 'pictures' } }, 'settled'),
  },
  {
    rule: 'is required, unless the member is external',
    error: 'spec.nodePools: Required value: is required, unless the member is external',
    good: external(),
    bad: member({ nodePools: undefined }),
  },
  {
    rule: ELSEWHERE_MESSAGE,
    error: `spec.external: Forbidden: ${ELSEWHERE_MESSAGE}`,
    good: external(),
    bad: member({ external: { endpoint: 'files.bob.example:7420', trustBundle: PEM } }),
  },
  {
    rule: FOR_GOOD_MESSAGE,
    error: `spec.external: Forbidden: ${FOR_GOOD_MESSAGE}`,
    before: member({}, 'here'),
    good: member({ deletionPolicy: 'Delete' }, 'here'),
    bad: { ...external(), metadata: { name: 'here', namespace: NAMESPACE } },
  },
  {
    rule: 'must be HOST:PORT, for example files.example.org:7420',
    error: 'spec.external.endpoint: Invalid value: must be HOST:PORT, for example files.example.org:7420',
    good: external({ endpoint: '[2001:db8::1]:7420' }),
    bad: external({ endpoint: 'https://files.bob.example' }),
  },
  {
    rule: 'must be certificates in PEM',
    error: 'spec.external.trustBundle: Invalid value: must be certificates in PEM',
    good: external({ trustBundle: PEM.repeat(2) }),
    bad: external({ trustBundle: 'A'.repeat(64) }),
  },
  {
    rule: POOL_NAME_MESSAGE,
    error: `spec.nodePools[0].name: Invalid value: ${POOL_NAME_MESSAGE}`,
    good: member(pool({ name: 'ssd2' })),
    bad: member(pool({ name: 'b-c' })),
  },
  {
    rule: GROWS_MESSAGE,
    error: `spec.nodePools[0].capacity: Forbidden: ${GROWS_MESSAGE}`,
    before: member({}, 'grown'),
    good: member(pool({ capacity: '0.5Ti' }), 'grown'),
    bad: member(pool({ capacity: '499Gi' }), 'grown'),
  },
  {
    rule: POOL_CLASS_MESSAGE,
    error: `spec.nodePools[0].storageClass: Forbidden: ${POOL_CLASS_MESSAGE}`,
    before: member({}, 'classless'),
    good: member(pool({ replicas: 5 }), 'classless'),
    bad: member(pool({ storageClass: 'fast' }), 'classless'),
  },
  {
    rule: POOL_CLASS_MESSAGE,
    error: `spec.nodePools[0].storageClass: Forbidden: ${POOL_CLASS_MESSAGE}`,
    before: member(pool({ storageClass: 'fast' }), 'fast'),
    good: member(
      {
        nodePools: [
          { ...POOL, storageClass: 'fast' },
          { ...POOL, name: 'slow', storageClass: 'slow' },
        ],
      },
      'fast',
    ),
    bad: member({}, 'fast'),
  },
  {
    rule: ENOUGH_NODES_MESSAGE,
    error: `spec.nodePools: Invalid value: ${ENOUGH_NODES_MESSAGE}`,
    good: member({ replication: { replicas: 3 }, nodePools: [POOL, { ...POOL, name: 'more', replicas: 1 }] }),
    bad: member({ replication: { replicas: 3 } }),
  },
  {
    rule: ONE_NODE_MESSAGE,
    error: `spec.nodePools: Invalid value: ${ONE_NODE_MESSAGE}`,
    good: member({ nodePools: [POOL, { ...POOL, name: 'old', replicas: 0 }] }),
    bad: member(pool({ replicas: 0 })),
  },
  {
    rule: GROWS_FROM_10,
    error: `spec.coordinator.storage: Forbidden: ${GROWS_FROM_10}`,
    before: member(storage({ size: '20Gi' }), 'names'),
    good: member(storage({ size: '21Gi' }), 'names'),
    bad: member(storage({ size: '19Gi' }), 'names'),
  },
  {
    rule: GROWS_FROM_10,
    error: `spec.coordinator.storage: Forbidden: ${GROWS_FROM_10}`,
    before: member(storage({ size: '20Gi' }), 'unsaid'),
    good: member(storage({ size: '20Gi' }), 'unsaid'),
    bad: member({}, 'unsaid'),
  },
  {
    rule: GROWS_FROM_10,
    error: `spec.coordinator.storage: Forbidden: ${GROWS_FROM_10}`,
    before: member({}, 'said'),
    good: member(storage({ size: '10Gi' }), 'said'),
    bad: member(storage({ size: '9Gi' }), 'said'),
  },
  {
    rule: CLASS_MESSAGE,
    error: `spec.coordinator.storage: Forbidden: ${CLASS_MESSAGE}`,
    before: member(storage({ storageClass: 'fast' }), 'moved'),
    good: member(storage({ storageClass: 'fast', size: '11Gi' }), 'moved'),
    bad: member(storage({ storageClass: 'slow' }), 'moved'),
  },
  {
    rule: CLASS_MESSAGE,
    error: `spec.coordinator.storage: Forbidden: ${CLASS_MESSAGE}`,
    before: member({}, 'placed'),
    good: member({ coordinator: {} }, 'placed'),
    bad: member(storage({ storageClass: 'fast' }), 'placed'),
  },
  {
    rule: DURATION_MESSAGE('1h'),
    error: `spec.ca.leafDuration: Invalid value: ${DURATION_MESSAGE('1h')}`,
    good: member({ ca: { leafDuration: '1h' } }),
    bad: member({ ca: { leafDuration: '59m' } }),
  },
  {
    rule: DURATION_MESSAGE('1h'),
    error: `spec.ca.duration: Invalid value: ${DURATION_MESSAGE('1h')}`,
    good: member({ ca: { duration: DAYS_90 } }),
    bad: member({ ca: { duration: '90d' } }),
  },
  {
    rule: DURATION_MESSAGE('1m'),
    error: `spec.ca.overlap: Invalid value: ${DURATION_MESSAGE('1m')}`,
    good: member({ ca: { overlap: '1m' } }),
    bad: member({ ca: { overlap: '30s' } }),
  },
  {
    rule: SHORTER_MESSAGE('720h and '),
    error: `spec.ca.leafDuration: Invalid value: ${SHORTER_MESSAGE('720h and ')}`,
    good: member({ ca: { duration: DAYS_90 } }),
    bad: member({ ca: { duration: '720h' } }),
  },
  {
    rule: SHORTER_MESSAGE('720h and '),
    error: `spec.ca.leafDuration: Invalid value: ${SHORTER_MESSAGE('720h and ')}`,
    good: member({ ca: { leafDuration: '87599h' } }),
    bad: member({ ca: { leafDuration: '87600h' } }),
  },
  {
    rule: SHORTER_MESSAGE('168h and '),
    error: `spec.ca.overlap: Invalid value: ${SHORTER_MESSAGE('168h and ')}`,
    good: member({ ca: { duration: DAYS_90, overlap: '2159h' } }),
    bad: member({ ca: { duration: DAYS_90, overlap: DAYS_90 } }),
  },
  {
    rule: SHORTER_MESSAGE(''),
    error: `spec.ca.rotateAfter: Invalid value: ${SHORTER_MESSAGE('')}`,
    good: member({ ca: { duration: DAYS_90, rotateAfter: '1080h' } }),
    bad: member({ ca: { duration: DAYS_90, rotateAfter: '2161h' } }),
  },
  {
    rule: HOST_MESSAGE,
    error: `spec.exposure.advertised.host: Invalid value: ${HOST_MESSAGE}`,
    good: member({ exposure: { advertised: { host: '2001:db8::1' } } }),
    bad: member({ exposure: { advertised: { host: 'files.example:7420' } } }),
  },
  {
    rule: USER_NAME_MESSAGE,
    error: `spec.users[0].name: Invalid value: ${USER_NAME_MESSAGE}`,
    good: member(user({ name: 'laptop-2' })),
    bad: member(user({ name: 'bob-0-tls' })),
  },
  {
    rule: USER_NAME_MESSAGE,
    error: `spec.users[0].name: Invalid value: ${USER_NAME_MESSAGE}`,
    good: member(user({ name: 'tlsx' })),
    bad: member(user({ name: 'ca-g3' })),
  },
  {
    rule: USER_SECRET_MESSAGE,
    error: `spec.users[0].secretName: Invalid value: ${USER_SECRET_MESSAGE}`,
    good: member(user({ secretName: 'laptop.credentials' })),
    bad: member(user({ secretName: 'bob-ca-g1' })),
  },
  {
    rule: REALM_MESSAGE,
    error: `spec.users[0].realms[0].path: Invalid value: ${REALM_MESSAGE}`,
    good: member(user({ realms: [{ path: '/' }, { path: '/photos/2026..old', readOnly: true }] })),
    bad: member(user({ realms: [{ path: '/photos/../secret' }] })),
  },
  {
    rule: UID_MESSAGE,
    error: `spec.users[0].uid: Forbidden: ${UID_MESSAGE}`,
    good: member(user({ uid: 1000 })),
    bad: member(user({ uid: 1000, identity: 'Trusted' })),
  },
  {
    rule: SCHEDULE_MESSAGE,
    error: `spec.backup.schedule: Invalid value: ${SCHEDULE_MESSAGE}`,
    good: member(backup({ schedule: '*/15 1-5,22 1 JAN MON-FRI' })),
    bad: member(backup({ schedule: '61 * * * *' })),
  },
  {
    rule: GROWS_FROM_10,
    error: `spec.backup.storage: Forbidden: ${GROWS_FROM_10}`,
    before: member(backup({ storage: { size: '20Gi' } }), 'saved'),
    good: member({}, 'saved'),
    bad: member(backup({ storage: { size: '1Gi' } }), 'saved'),
  },
  {
    rule: CLASS_MESSAGE,
    error: `spec.backup.storage: Forbidden: ${CLASS_MESSAGE}`,
    before: member(backup({ storage: { storageClass: 'other-disk' } }), 'kept'),
    good: member(backup({ keep: 3, storage: { storageClass: 'other-disk' } }), 'kept'),
    bad: member(backup({}), 'kept'),
  },
];

for (const { error, good, bad, before: stored } of ROWS) {
  test(`K1: the apiserver says: ${error}`, async () => {
    if (stored !== undefined) await server.admin.apply(stored, { strict: true });
    await server.admin.apply(good, { strict: true, dryRun: true });
    assert.deepEqual(await refusal(bad), [error]);
  });
}

test('K1: every rule of the CRDs is tried above', () => {
  const tried = new Set(ROWS.map(({ rule }) => rule));
  const untried = readCrds()
    .flatMap((crd) => messagesIn(crd))
    .filter((message) => !tried.has(message));
  assert.deepEqual(untried, []);
});

/** What the server says is wrong, each sentence without the value that it repeats. */
async function refusal(object: KubeObject): Promise<readonly string[]> {
  try {
    await server.admin.apply(object, { strict: true, dryRun: true });
  } catch (thrown) {
    assert.ok(thrown instanceof ApiError);
    assert.equal(thrown.reason, 'Invalid', thrown.message);
    return thrown.faults.map(({ field, message }) => `${field}: ${message.replace(VALUE_IN_MESSAGE, '$1: ')}`);
  }
  return [];
}

const VALUE_IN_MESSAGE = /^(Invalid value): (?:"(?:\\.|[^"\\])*"|\{.*\}|\[.*\]|[0-9]+|object|array): /s;

function messagesIn(value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  if (Array.isArray(value)) return value.flatMap(messagesIn);
  const { 'x-kubernetes-validations': rules = [] } = value as {
    'x-kubernetes-validations'?: readonly { message: string }[];
  };
  return [...rules.map(({ message }) => message), ...Object.values(value).flatMap(messagesIn)];
}
