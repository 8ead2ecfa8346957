/**
 * The parts list of a storage node. Order matters: the store is open and verified before anybody can connect, and it is closed
 * after the last connection.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import { FileDisk } from '@collective/base/disk/file-disk';
import type { CollectiveError } from '@collective/base/errors';
import { HealthServer } from '@collective/base/health-server';
import type { NodeName } from '@collective/base/ids';
import type { Running } from '@collective/base/lifecycle';
import { WIRE_VERSION } from '@collective/base/limits';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { TlsBulkAcceptor } from '@collective/protocol/bulk/tls-acceptor';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { MembershipClient, type NodeReport } from '@collective/protocol/gen/node';
import { clientLink } from '@collective/protocol/link/grpc-link';
import { channelCredentials, dialOptions } from '@collective/protocol/tls/grpc-credentials';
import { type ExpectedServer, nodeNameOf } from '@collective/protocol/tls/spiffe-id';
import { TrustFiles } from '@collective/protocol/tls/trust-files';
import { FileChunkStore } from './chunk-store/file-chunk-store.ts';
import type { AdvertisedAddress, NodeOptions } from './options.ts';
import { AccessControl } from './server/access-control.ts';
import { BulkService } from './server/bulk-service.ts';
import { CoordinatorLink, type NodeLink } from './server/coordinator-link.ts';
import { Forwarder } from './server/forwarder.ts';
import { NodeMetrics } from './server/node-metrics.ts';

const DRAIN_WITHIN_MS = 3_000;
const VERSION = '0.1.0';

export interface RunningNode extends Running {
  readonly name: NodeName;
  readonly port: number;
  readonly healthPort: number | undefined;
  /** Resolves when the node cannot go on; dispose it and end the process. */
  readonly failed: Promise<CollectiveError>;
  /** True while the coordinator answers. */
  readonly registered: boolean;
}

export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const { log = silentLog, version = VERSION } = options;
  const clock = new SystemClock();
  const random = new SystemRandom();
  await using parts = new AsyncDisposableStack();

  const trust = parts.use(await TrustFiles.load(options.trustFolder, { clock, log })).watch();
  const name = nodeNameOf(trust.current.id);
  const disk = await FileDisk.at(options.dataFolder);
  const { capacityBytes, reserveBytes } = options;
  const store = parts.use(
    await FileChunkStore.open({
      disk,
      clock,
      random,
      log,
      capacityBytes,
      ...(reserveBytes === undefined ? {} : { reserveBytes }),
    }),
  );
  const access = await AccessControl.open(disk, clock);
  const metrics = new NodeMetrics();
  metrics.watchStore(store);
  const forwarder = parts.use(
    new Forwarder({ connector: new TlsBulkConnector({ trust, clock }), clock, program: `node ${name} ${version}` }),
  );
  const service = new BulkService({ store, access, forwarder, node: name, metrics, clock, log });
  const { host, port } = options.listen;
  const acceptor = parts.use(
    await TlsBulkAcceptor.listen({
      trust,
      clock,
      log,
      host,
      port,
      accept: (connection, peer) => service.accept(connection, peer),
    }),
  );

  const report = (): NodeReport => {
    const stats = store.stats();
    return {
      disk: store.disk,
      incarnation: store.incarnation,
      capacityBytes: stats.capacityBytes,
      usedBytes: stats.usedBytes,
      freeBytes: stats.freeBytes,
      full: stats.full,
      stableSequence: store.stableSequence,
      chunkCount: stats.chunkCount,
      inventoryDigest: stats.inventoryDigest,
      zone: options.zone ?? '',
      addresses: addressesOf(options, acceptor.port),
      version,
      wireVersion: WIRE_VERSION,
      highestEpoch: access.highestEpoch,
      bundleHash: trust.current.bundleHash,
      time: clock.now(),
      certificateExpires: { seconds: Math.floor(trust.current.notAfterMs / 1000), nanos: 0 },
    };
  };
  const coordinator = new CoordinatorLink({
    connect: coordinatorDialer(options, trust, clock),
    report,
    store,
    access,
    forwarder,
    clock,
    random,
    log,
  });
  const leaving = new AbortController();
  const linkEnded = coordinator.run(leaving.signal);

  const stopping = { now: false };
  const health =
    options.health === undefined
      ? undefined
      : parts.use(
          await HealthServer.listen({
            ...options.health,
            registry: metrics.registry,
            live: () => (store.failed.aborted ? 'the chunk store failed' : undefined),
            ready: () =>
              readiness(store.failed.aborted, stopping.now, coordinator.registered, trust.current.notAfterMs, clock),
          }),
        );

  const failed = Promise.withResolvers<CollectiveError>();
  store.failed.addEventListener('abort', () => failed.resolve(store.failed.reason as CollectiveError), { once: true });
  log.info(
    {
      node: name,
      port: acceptor.port,
      disk: store.disk,
      incarnation: store.incarnation,
      chunks: store.stats().chunkCount,
    },
    'node serves',
  );

  const running = parts.move();
  return {
    name,
    port: acceptor.port,
    healthPort: health?.port,
    failed: failed.promise,
    get registered() {
      return coordinator.registered;
    },
    async [Symbol.asyncDispose]() {
      if (stopping.now) return;
      stopping.now = true;
      acceptor.stopAccepting();
      await drain(service, clock, options.drainWithinMs ?? DRAIN_WITHIN_MS);
      leaving.abort();
      await linkEnded;
      await running.disposeAsync();
      log.info({ node: name }, 'node stopped');
    },
  };
}

function coordinatorDialer(
  options: NodeOptions,
  trust: TrustFiles,
  clock: Clock,
): (signal: AbortSignal) => Promise<NodeLink> {
  const { host, port } = options.coordinator;
  const expected: ExpectedServer = { trustDomain: trust.current.id.trustDomain, role: 'coordinator' };
  return async (signal) => {
    signal.throwIfAborted();
    // A client a link: a new one takes the certificate as it is now, and a dead connection goes with it.
    const client = new MembershipClient(
      `${host}:${port}`,
      channelCredentials(trust, expected, clock),
      dialOptions(expected),
    );
    const link = clientLink(client.link(), `Link to the coordinator at ${host}:${port}`, clock);
    return {
      ...link,
      close: () => {
        link.close();
        client.close();
      },
    };
  };
}

function addressesOf(options: NodeOptions, port: number): NodeReport['addresses'] {
  const advertised: readonly AdvertisedAddress[] = options.advertise ?? [
    { listener: 'internal', host: options.listen.host },
  ];
  return advertised.map((address) => ({ listener: address.listener, host: address.host, port: address.port ?? port }));
}

function readiness(
  failed: boolean,
  stopping: boolean,
  registered: boolean,
  notAfterMs: number,
  clock: Clock,
): string | undefined {
  if (failed) return 'the chunk store failed';
  if (stopping) return 'the node is stopping';
  if (wallMs(clock) >= notAfterMs) return 'the certificate has expired';
  return registered ? undefined : 'the coordinator does not answer';
}

async function drain(service: BulkService, clock: Clock, withinMs: number): Promise<void> {
  const deadline = new AbortController();
  const timer = clock.setTimer(withinMs, () => deadline.abort());
  try {
    await service.drain(deadline.signal);
  } finally {
    timer.cancel();
  }
}
