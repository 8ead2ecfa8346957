/** The real coordinator with all its jobs on fake ports: what `member-state.ts` puts together with files is put together here. */
import { sleep } from '@collective/base/clock';
import { type InodeNumber, type NodeName, ROOT_REALM } from '@collective/base/ids';
import { silentLog } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import { CoordinatorCore } from '@collective/coordinator/core';
import { Background } from '@collective/coordinator/jobs/background';
import { ReplicaSettler } from '@collective/coordinator/jobs/settle-replicas';
import { FileLog } from '@collective/coordinator/log/file-log';
import { AccessKeys } from '@collective/coordinator/membership/access-keys';
import { LinkOrders } from '@collective/coordinator/membership/link-orders';
import { MemberData } from '@collective/coordinator/membership/member-data';
import { NodeDuties } from '@collective/coordinator/membership/node-duties';
import { NodeLinks } from '@collective/coordinator/membership/node-link';
import { NodeTable } from '@collective/coordinator/membership/node-table';
import { ATTRIBUTES, DATA } from '@collective/coordinator/ops/context';
import { storedTrashSeconds } from '@collective/coordinator/ops/trash';
import { MemoryStore, MemoryStoreDisk } from '@collective/coordinator/store/memory-store';
import { MetadataRoom } from '@collective/coordinator/store/metadata-room';
import { REALMS, SUBJECTS } from '@collective/coordinator/tables/tables';
import type { Breaks } from './breaks.ts';
import type { OrderJudge } from './judged-orders.ts';
import type { RealmJudge } from './judged-realms.ts';
import type { AskedCoordinator, LeavingNode } from './leaving-node.ts';
import type { Incarnation, Program } from './machine.ts';
import type { Network } from './network.ts';
import { FILES, MEMBERSHIP, TRUST_DOMAIN, uriOf, VERSION } from './programs.ts';
import { makeRealms, NO_QUOTA, type Quota, type RealmPlan } from './realm-plan.ts';
import { operate, seenByJobs, type Upkeep, withoutGraces } from './upkeep.ts';

const LOG_SEGMENT_BYTES = 64 * 1024;

/** A start of the coordinator that serves. */
export interface RunningCoordinator {
  readonly core: CoordinatorCore;
  readonly nodes: NodeTable;
  readonly background: Background;
  readonly engine: CoordinatorCore['engine'];
  readonly duties: AskedCoordinator['duties'];
}

export interface CoordinatorProgramOptions {
  readonly network: Network;
  readonly breaks: Breaks;
  readonly onEvent: (what: string) => void;
  readonly promisedInodesMax: number | undefined;
  readonly upkeep: Upkeep;
  /** Of each chunk, and none is acknowledged on fewer; undefined: the default. */
  readonly replicas: number | undefined;
  /** Somebody takes a node away. */
  readonly leaving: LeavingNode | undefined;
  readonly judge: OrderJudge;
  readonly realms: RealmPlan;
  readonly realmJudge: RealmJudge;
  /** Realms are made and dissolved now. */
  readonly mayMakeRealms: () => boolean;
  readonly onBreach: (error: unknown) => void;
}

export class CoordinatorProgram implements Program {
  readonly #options: CoordinatorProgramOptions;
  readonly #view = new MemoryStoreDisk();
  #running: RunningCoordinator | undefined;

  constructor(options: CoordinatorProgramOptions) {
    this.#options = options;
  }

  /** Of the last start that came to serve; it may have ended. */
  get running(): RunningCoordinator | undefined {
    return this.#running;
  }

  /** Why the jobs cannot do what they should. */
  get complaints(): string {
    if (this.#running === undefined) return 'the coordinator never came to serve';
    const { background, nodes } = this.#running;
    const { garbage, replicas, figures } = background;
    const { left, failure } = replicas.repair;
    return [
      ...figures.flatMap(({ name, state, failure: why }) =>
        state === 'resting' ? [] : [`${name} is ${state} ${why ?? ''}`],
      ),
      ...[...garbage.waitsFor].map(([node, why]) => `garbage waits for ${node}: ${why}`),
      ...[...left].map(([reason, chunks]) => `${chunks} chunks are left as they are: ${reason}`),
      `the last copy that failed: ${failure}`,
      ...nodes.status().map(({ name, state, freeBytes }) => `${name} is ${state}, ${freeBytes} free`),
    ].join('; ');
  }

  powerLoss(random: Random): void {
    this.#view.powerLoss(random);
  }

  async start(self: Incarnation): Promise<void> {
    const { disk, clock, random } = self;
    const { network, breaks, onEvent, promisedInodesMax, leaving, judge, replicas, realms, realmJudge } = this.#options;
    const upkeep = breaks.keepsGraces ? this.#options.upkeep : withoutGraces(this.#options.upkeep);
    await disk.lock('');
    await disk.makeFolder('log');
    await disk.syncDirectory('');
    const log = await FileLog.open({ disk, clock, random, folder: 'log', segmentBytes: LOG_SEGMENT_BYTES });
    const store = new MemoryStore(this.#view, () => sleep(clock, 0.05));
    const keys = await AccessKeys.load({ disk, path: 'access-keys.json', clock, random });
    const room = await MetadataRoom.open({
      clock,
      disk,
      log: silentLog,
      reusableBytes: () => store.reusableBytes,
      onChange: (isFull) => onEvent(isFull ? 'takes nothing new for want of room' : 'has room again'),
    });
    const parts: { nodes?: NodeTable; data?: MemberData; background?: Background } = {};
    const core = await CoordinatorCore.start({
      clock,
      log: breaks.log(log),
      store,
      data: async (engine) => {
        const nodes = await NodeTable.load({
          clock,
          engine,
          events: {
            diskLost: (node) => onEvent(`node ${node} came with another disk`),
            nodeCame: (node) => parts.background?.nodeCame(node),
            nodeWentAway: (node) => parts.background?.nodeWentAway(node),
          },
        });
        const data = new MemberData({
          clock,
          random,
          nodes,
          keys,
          makeStable: (node, chunks) => links.makeStable(node, chunks),
        });
        Object.assign(parts, { nodes, data });
        return data;
      },
      member: { name: 'sim', trustDomain: TRUST_DOMAIN },
      version: VERSION,
      rootOwner: { uid: 0, gid: 0 },
      onFatal: (error) => self.die(error.message),
      room,
      keepAnswers: breaks.keepsAnswers,
      promisedInodesMax,
    });
    const { nodes, data } = parts;
    if (nodes === undefined || data === undefined) throw new Error('The coordinator started without its nodes');
    const { trashSeconds, trashYields } = upkeep;
    await setUp(core, { trashSeconds, trashYields, replicas, quota: breaks.keepsQuota ? realms.quota : NO_QUOTA });
    const look = await realmJudge.watch(core);
    const settler = new ReplicaSettler({
      engine: core.engine,
      askChunks: (node, chunks) => links.askChunks(node, chunks),
      onReverted: (file) => {
        onEvent(`a block of ${JSON.stringify(file)} got back its earlier content`);
        void core.recallFromAll(file.inode as InodeNumber, ATTRIBUTES | DATA);
      },
      onFailure: () => undefined,
    });
    const links = new NodeLinks({
      scrubPeriodSeconds: () => upkeep.settings.scrubPeriodSeconds,
      told: () => undefined,
      clock,
      epoch: core.engine.epoch,
      member: 'sim',
      nodes,
      keys,
      onReport: (node, report) => {
        settler.reported(node, report);
        parts.background?.nodeReported(node, report);
        core.nodeReported();
      },
      onNewerEpoch: (node) => onEvent(`node ${node} has seen a newer epoch`),
      log: () => undefined,
    });
    const unseen = new LinkOrders({ links, data, epoch: core.engine.epoch, trustDomain: TRUST_DOMAIN });
    const orders = judge.judged(unseen, core.engine, (node) => nodes.get(node)?.row.disk);
    const background = new Background({
      clock,
      random,
      engine: core.engine,
      orders: breaks.orders({ orders, unseen, engine: core.engine, defer: (act) => clock.defer(act) }),
      nodes: seenByJobs(nodes, upkeep, random),
      change: (caller, operation) => core.change(caller, operation),
      settings: () => upkeep.settings,
      replaysOver: (signal) => core.replaysOver(signal),
      drawChunkId: () => core.drawChunkId(),
      ownsChunk: (chunk) => core.ownsChunk(chunk),
      onCrowded: (told) => core.onCrowded(told),
      recallData: (inode) => core.recallFromAll(inode, DATA),
      event: (_kind, message) => onEvent(message),
      onFailure: (job, error) => onEvent(`${job} failed: ${String(error)}`),
      orphanGraceMinSeconds: upkeep.orphanGraceSeconds,
    });
    parts.background = background;
    const duties = breaks.duties(
      new NodeDuties({
        clock,
        engine: core.engine,
        nodes,
        events: { record: (_kind, message) => onEvent(message) },
        orders,
        isConnected: (node) => links.isConnected(node),
        onDuty: () => background.nodesChanged(),
        loadOf: (node) => background.loadOf(node),
        picture: () => nodes.picture(upkeep.settings.repairAfterSeconds),
      }),
    );
    const running = { core, nodes, background, engine: core.engine, duties };
    this.#running = running;
    leaving?.watch(core.engine);
    operate(running, clock, upkeep, leaving);
    const { mayMakeRealms: mayAct, onBreach } = this.#options;
    const rule = { replicas: replicas ?? 0, minReplicas: replicas ?? 0, trashSeconds, trashYields };
    makeRealms({ core, clock, plan: realms, rule, mayAct, onEvent, onBreach });
    const never = new AbortController().signal;
    network.listen(self, FILES, (link, peer) => void core.serveSession(realmJudge.watched(link, look), peer));
    network.listen(self, MEMBERSHIP, (link, peer) => void links.serve(link, peer.name as NodeName, never));
  }
}

/** Clients of the simulation are trusted users of the root realm, whose rule is the one that the run has drawn. */
async function setUp(
  core: CoordinatorCore,
  {
    trashSeconds,
    trashYields,
    replicas,
    quota,
  }: { trashSeconds: number; trashYields: boolean; replicas: number | undefined; quota: Quota },
): Promise<void> {
  await core.engine.run((tx) => {
    const uri = uriOf('client', 'any');
    if (tx.get(SUBJECTS, uri) !== undefined) return;
    const realms = [{ realm: ROOT_REALM, readOnly: false }];
    tx.put(SUBJECTS, { uri, admin: true, trusted: true, uid: 0, gid: 0, realms, created: tx.now }, uri);
    const realm = tx.get(REALMS, ROOT_REALM);
    if (realm === undefined) return;
    const rule = replicas === undefined ? {} : { replicas, minReplicas: replicas };
    tx.put(
      REALMS,
      { ...realm, ...rule, ...quota, trashSeconds: storedTrashSeconds(trashSeconds), trashYields },
      ROOT_REALM,
    );
  });
}
