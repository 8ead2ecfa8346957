/**
 * The parts list of a coordinator. Order matters: the data is locked first, then identity, then the port opens; and back.
 * What was answered is stable before the process ends.
 */
import { resolve } from 'node:path';
import { FileDisk } from '@collective/base/disk/file-disk';
import { inFolder } from '@collective/base/disk/file-error';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { HealthServer } from '@collective/base/health-server';
import { parseMemberName, parseNodeName, trustDomainOf } from '@collective/base/ids';
import type { Running } from '@collective/base/lifecycle';
import { silentLog } from '@collective/base/log';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { checkCsr } from '@collective/protocol/tls/check-csr';
import { keepRenewed } from '@collective/protocol/tls/keep-renewed';
import { toldBundle } from '@collective/protocol/tls/trust-bundle';
import type { Trust } from '@collective/protocol/tls/trust-files';
import { createBackup } from './backup/create-backup.ts';
import { letFirstUserIn, openIdentity } from './bootstrap.ts';
import { openMemberState } from './member-state.ts';
import { Enrolment } from './membership/enrolment.ts';
import { inviteNodes } from './membership/node-invitations.ts';
import { KeptRequests } from './membership/signer/kept-requests.ts';
import { SubjectAdmin } from './membership/subject-admin.ts';
import type { CoordinatorOptions } from './options.ts';
import { Readmission } from './readmission.ts';
import { AdminService } from './server/admin-service.ts';
import { GarbageAdmin } from './server/garbage-admin.ts';
import { GrpcServer } from './server/grpc-server.ts';
import { coordinatorMetrics } from './server/metrics.ts';
import { RebalanceAdmin } from './server/rebalance-admin.ts';
import { gatherStatus } from './server/status.ts';
import { TrashService } from './server/trash-service.ts';

const VERSION = '0.1.0';

export interface RunningCoordinator extends Running {
  readonly port: number;
  readonly healthPort: number | undefined;
  /** Resolves when the coordinator cannot go on; dispose it and end the process. */
  readonly failed: Promise<CollectiveError>;
}

export async function startCoordinator(options: CoordinatorOptions): Promise<RunningCoordinator> {
  const { log = silentLog, version = VERSION, collective, autoTls = false } = options;
  const clock = new SystemClock();
  const random = new SystemRandom();
  const member = parseMemberName(options.member);
  const trustDomain = trustDomainOf(member, collective);
  const dataFolder = resolve(options.dataFolder);
  const failed = Promise.withResolvers<CollectiveError>();
  let failure: CollectiveError | undefined;
  const onFatal = (error: Error): void => {
    failure = toCollectiveError(error, 'Commit metadata', 'disk_failed');
    failed.resolve(failure);
  };
  const disk = await FileDisk.at(dataFolder);
  const rootOwner = options.rootOwner ?? { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  await using parts = new AsyncDisposableStack();

  // It is opened after the data is locked; nobody is told anything before.
  let identity: Trust | undefined;
  const state = parts.use(
    await openMemberState({
      clock,
      random,
      disk,
      folder: dataFolder,
      member,
      collective,
      version,
      expectData: options.expectData ?? false,
      rootOwner: options.rootMode === undefined ? rootOwner : { ...rootOwner, mode: options.rootMode },
      log,
      onFatal,
      told: (peer) => (identity === undefined ? undefined : toldBundle(identity.current, peer)),
    }).catch((error: unknown) => {
      throw inFolder(dataFolder, error);
    }),
  );
  const { engine } = state.core;
  const { trust, ca } = await openIdentity({ ...options, dataFolder, member, collective, autoTls, clock, random, log });
  identity = parts.use(trust).watch();
  trust.onChange(() => {
    state.core.trustChanged();
    state.links.trustChanged();
  });
  if (ca !== undefined) {
    const request = async (csr: Buffer): Promise<{ certificatePem: string; bundlePem: string }> => {
      const { certificatePem } = await ca.sign(await checkCsr(csr, trust.current.id));
      return { certificatePem, bundlePem: ca.bundlePem() };
    };
    const renewal = keepRenewed({ trust, clock, log, request });
    parts.defer(() => void renewal.stop());
  }
  const requests = new KeptRequests({ engine, clock, trust, epoch: engine.epoch });
  const enrolment = new Enrolment({ engine, signer: ca ?? requests, random, trustDomain });
  const signsHere = ca !== undefined;
  await letFirstUserIn({ dataFolder, engine, enrolment, signsHere, log });
  parts.use(await Readmission.start({ dataFolder, clock, enrolment, signsHere, events: state.events, log }));
  if (options.inviteNodes !== undefined) {
    if (ca === undefined)
      throw new CollectiveError(
        'config_invalid',
        `Invite nodes to ${trustDomain}: this coordinator holds no authority that could sign for them (start it with --auto-tls)`,
      );
    await inviteNodes({
      names: options.inviteNodes.names.map((name) => parseNodeName(name)),
      folder: resolve(options.inviteNodes.folder),
      trustDomain,
      bundlePem: trust.current.bundlePem,
      isKnown: (name) => state.nodes.get(name) !== undefined,
      enrolment,
      log,
    });
  }

  const started = clock.now();
  const listening: { server?: GrpcServer } = {};
  const garbage = new GarbageAdmin({
    clock,
    engine,
    background: state.background,
    settings: () => state.maintenance.current,
  });
  const admin = new AdminService({
    engine,
    enrolment,
    requests,
    subjects: new SubjectAdmin({
      engine,
      trustDomain,
      events: state.events,
      rightsChanged: (uri) => state.core.rightsChanged(uri),
      endSessionsOf: (uri) => {
        requests.rowsChanged();
        return state.core.endSessionsOf(uri);
      },
    }),
    status: () =>
      gatherStatus({
        clock,
        state,
        diskSpace: () => disk.space(),
        garbage,
        trust,
        member,
        trustDomain,
        version,
        started,
        connectionsByRoot: () => listening.server?.connectionsByRoot ?? [],
      }),
    createRealm: (request, caller) => state.core.createRealm(request, caller),
    dissolveRealm: (path, caller) => state.core.dissolveRealm(path, caller),
    setRealm: (request) => state.core.setRealm(request),
    listRealms: () => state.core.listRealms(),
    events: state.events,
    maintenance: state.maintenance,
    duties: state.duties,
    garbage,
    rebalance: new RebalanceAdmin({
      engine,
      background: state.background,
      events: state.events,
      settings: () => state.maintenance.current,
    }),
    createBackup: (signal) => createBackup({ clock, engine, facts: { member, collective, version } }, signal),
  });
  const server = parts.use(
    await GrpcServer.listen(
      {
        trust,
        clock,
        log,
        admin,
        trash: new TrashService({
          engine,
          shared: state.core.shared,
          change: (caller, operation) => state.core.change(caller, operation),
        }),
        enrolment,
        acceptSession: (link, peer) => state.core.serveSession(link, { uri: peer.uri, leaf: peer }),
        acceptNode: (link, peer, signal) => state.links.serve(link, parseNodeName(peer.name), signal, peer),
      },
      options.listen,
    ),
  );
  listening.server = server;
  let stopping = false;
  const health =
    options.health === undefined
      ? undefined
      : parts.use(
          await HealthServer.listen({
            ...options.health,
            registry: coordinatorMetrics(clock, state, () => disk.space()),
            live: () => failure?.message,
            ready: () => failure?.message ?? (stopping ? 'stopping' : undefined),
          }),
        );
  log.info({ member, trustDomain, port: server.port, epoch: engine.epoch }, 'coordinator serves');
  const running = parts.move();
  return {
    port: server.port,
    healthPort: health?.port,
    failed: failed.promise,
    async [Symbol.asyncDispose]() {
      if (stopping) return;
      stopping = true;
      await running.disposeAsync();
      log.info({ member }, 'coordinator stopped');
    },
  };
}
