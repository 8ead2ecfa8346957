/**
 * The parts list of a storage node process: identity files, disk, sockets, the line to the coordinator, health. What a node does
 * is in `storage-node.ts`.
 */
import { type Clock, wallMs } from '@collective/base/clock';
import { FileDisk } from '@collective/base/disk/file-disk';
import { inFolder } from '@collective/base/disk/file-error';
import type { CollectiveError } from '@collective/base/errors';
import { HealthServer } from '@collective/base/health-server';
import { formatHostPort } from '@collective/base/host-port';
import type { NodeName } from '@collective/base/ids';
import type { Running } from '@collective/base/lifecycle';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { TlsBulkAcceptor } from '@collective/protocol/bulk/tls-acceptor';
import { TlsBulkConnector } from '@collective/protocol/bulk/tls-connector';
import { MembershipClient, type NodeReport } from '@collective/protocol/gen/node';
import { clientLink } from '@collective/protocol/link/grpc-link';
import { DialledGuard } from '@collective/protocol/tls/dialled-guard';
import { channelCredentials, dialOptions } from '@collective/protocol/tls/grpc-credentials';
import { type ExpectedServer, nodeNameOf } from '@collective/protocol/tls/spiffe-id';
import { TrustFiles } from '@collective/protocol/tls/trust-files';
import type { AdvertisedAddress, NodeOptions } from './options.ts';
import { OwnCertificate } from './own-certificate.ts';
import type { NodeLink } from './server/coordinator-link.ts';
import { StorageNode } from './storage-node.ts';

const DRAIN_WITHIN_MS = 3_000;
const VERSION = '0.1.0';

export interface RunningNode extends Running {
  readonly name: NodeName;
  /** Of the bulk listener. */
  readonly port: number;
  readonly healthPort: number | undefined;
  /** True while the coordinator answers. */
  readonly registered: boolean;
  /** Resolves when the node cannot go on; dispose it and end the process. */
  readonly failed: Promise<CollectiveError>;
}

/** Resolves when the node serves; it may still be looking for its coordinator. */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const { log = silentLog, version = VERSION, capacityBytes, reserveBytes } = options;
  const clock = new SystemClock();
  await using parts = new AsyncDisposableStack();

  const trust = parts.use(await TrustFiles.load(options.trustFolder, { clock, log })).watch();
  const name = nodeNameOf(trust.current.id);
  const certificate = parts.use(
    new OwnCertificate({ trust, clock, log, coordinator: formatHostPort(options.coordinator) }),
  );
  const listening = { port: 0 };
  const node = parts.use(
    await StorageNode.open({
      name,
      disk: await FileDisk.at(options.dataFolder),
      clock,
      random: new SystemRandom(),
      log,
      capacityBytes,
      ...(reserveBytes === undefined ? {} : { reserveBytes }),
      version,
      connector: new TlsBulkConnector({ trust, clock }),
      connectCoordinator: coordinatorDialer(options, trust, clock),
      takeTrust: (told) => void certificate.take(told),
      surroundings: () => ({
        zone: options.zone ?? '',
        addresses: addressesOf(options, listening.port),
        bundleHash: trust.current.bundleHash,
        certificateExpires: { seconds: Math.floor(trust.current.notAfterMs / 1000), nanos: 0 },
      }),
    }).catch((error: unknown) => {
      throw inFolder(options.dataFolder, error);
    }),
  );
  const { host, port } = options.listen;
  const acceptor = parts.use(
    await TlsBulkAcceptor.listen({
      trust,
      clock,
      log,
      host,
      port,
      accept: (connection, peer) => node.accept(connection, peer),
    }),
  );
  listening.port = acceptor.port;
  const stopping = { now: false };
  const health =
    options.health === undefined
      ? undefined
      : parts.use(
          await HealthServer.listen({
            ...options.health,
            registry: node.metrics.registry,
            live: () => node.failure?.message,
            ready: () => readiness(node, stopping.now, trust.current.notAfterMs, clock),
          }),
        );
  node.join();
  log.info(
    {
      node: name,
      port: acceptor.port,
      disk: node.store.disk,
      incarnation: node.store.incarnation,
      chunks: node.store.stats().chunkCount,
    },
    'node serves',
  );

  const failed = Promise.withResolvers<CollectiveError>();
  node.failed.addEventListener('abort', () => failed.resolve(node.failed.reason as CollectiveError), { once: true });
  const running = parts.move();
  return {
    name,
    port: acceptor.port,
    healthPort: health?.port,
    failed: failed.promise,
    get registered() {
      return node.registered;
    },
    async [Symbol.asyncDispose]() {
      if (stopping.now) return;
      stopping.now = true;
      acceptor.stopAccepting();
      await node.drain(options.drainWithinMs ?? DRAIN_WITHIN_MS);
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
  const address = formatHostPort(options.coordinator);
  const expected: ExpectedServer = { trustDomain: trust.current.id.trustDomain, role: 'coordinator' };
  return async (signal) => {
    signal.throwIfAborted();
    // A client a link: a new one takes the certificate as it is now, and a dead connection goes with it.
    let outdated = false;
    const guard = new DialledGuard({
      trust,
      clock,
      giveUp: (_reason, ownLeaf) => {
        outdated = ownLeaf;
        close();
      },
    });
    const credentials = channelCredentials(trust, expected, clock, (peer) => guard.secured(peer));
    const client = new MembershipClient(address, credentials, dialOptions(expected));
    const link = clientLink(client.link(), `Link to the coordinator at ${address}`, clock);
    const close = (): void => {
      guard[Symbol.dispose]();
      link.close();
      client.close();
    };
    return {
      ...link,
      get outdated() {
        return outdated;
      },
      close,
    };
  };
}

function addressesOf(options: NodeOptions, port: number): NodeReport['addresses'] {
  const advertised: readonly AdvertisedAddress[] = options.advertise ?? [
    { listener: 'internal', host: options.listen.host },
  ];
  return advertised.map((address) => ({ listener: address.listener, host: address.host, port: address.port ?? port }));
}

function readiness(node: StorageNode, stopping: boolean, certificateEndsMs: number, clock: Clock): string | undefined {
  if (node.failure !== undefined) return node.failure.message;
  if (stopping) return 'the node is stopping';
  if (wallMs(clock) >= certificateEndsMs) return 'the certificate has expired';
  return node.registered ? undefined : 'the coordinator does not answer';
}
