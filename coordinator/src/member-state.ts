/**
 * A member's coordinator over a data folder: log, store, core, nodes, keys, events, and what follows up replicas. Everything
 * but the ports to the outside, which `main.ts` adds.
 *
 * Folder: `member.json` (whose it is, format), `log/`, `metadata.db`, `access-keys.json`, `lock`.
 */
import { join } from 'node:path';
import { formatByteSize } from '@collective/base/byte-size';
import type { Clock } from '@collective/base/clock';
import type { Disk } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber } from '@collective/base/ids';
import type { Log as EventsLog } from '@collective/base/log';
import type { Random } from '@collective/base/random';
import { CoordinatorCore } from './core.ts';
import { EventLog } from './events/event-log.ts';
import { Background } from './jobs/background.ts';
import { Maintenance } from './jobs/maintenance.ts';
import type { NodeOrders } from './jobs/node-orders.ts';
import { ReplicaSettler } from './jobs/settle-replicas.ts';
import { FileLog } from './log/file-log.ts';
import { claimFolder, METADATA_FILE } from './member-folder.ts';
import { AccessKeys } from './membership/access-keys.ts';
import { LinkOrders } from './membership/link-orders.ts';
import { MemberData } from './membership/member-data.ts';
import { NodeDuties } from './membership/node-duties.ts';
import { NodeLinks } from './membership/node-link.ts';
import { NodeTable } from './membership/node-table.ts';
import { ATTRIBUTES, DATA } from './ops/context.ts';
import type { StreamParts } from './session/session-stream.ts';
import { MetadataRoom } from './store/metadata-room.ts';
import { SqliteStore } from './store/sqlite-store.ts';

export interface MemberStateOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  /** Where `disk` has its root, for SQLite, which opens its file itself. */
  readonly folder: string;
  readonly member: string;
  readonly collective: string;
  readonly version: string;
  readonly rootOwner: { readonly uid: number; readonly gid: number; readonly mode?: number };
  /** The folder must hold the member's metadata already (K3). */
  readonly expectData?: boolean;
  readonly log: EventsLog;
  readonly onFatal: (error: Error) => void;
  /** T6: what a peer that reports this is to be told of the member's roots. */
  readonly told?: StreamParts['told'];
}

export interface MemberState extends AsyncDisposable {
  readonly core: CoordinatorCore;
  readonly nodes: NodeTable;
  readonly links: NodeLinks;
  readonly keys: AccessKeys;
  readonly data: MemberData;
  readonly events: EventLog;
  readonly maintenance: Maintenance;
  readonly duties: NodeDuties;
  readonly orders: NodeOrders;
  readonly background: Background;
  readonly log: FileLog;
  readonly room: MetadataRoom;
}

const KEY_LOOK_MS = 3_600_000;

export async function openMemberState(options: MemberStateOptions): Promise<MemberState> {
  const { clock, random, disk, folder, member, collective, version } = options;
  const logger = options.log;
  const told = options.told ?? (() => undefined);
  const lock = await disk.lock('');
  using released = new DisposableStack();
  try {
    const { generation } = await claimFolder(disk, {
      folder,
      member,
      collective,
      expectData: options.expectData ?? false,
    });
    const log = await FileLog.open({ disk, clock, random, folder: 'log' });
    const store = await SqliteStore.open(join(folder, METADATA_FILE));
    const parts: {
      nodes?: NodeTable;
      keys?: AccessKeys;
      data?: MemberData;
      events?: EventLog;
      background?: Background;
    } = {};
    const tellRoom = (isFull: boolean, roomBytes: number): void => {
      const has = `The coordinator's disk has room for ${formatByteSize(roomBytes)} of metadata`;
      if (isFull) parts.events?.record('metadata-full', `${has}: nothing new is taken until there is more`, {});
      else parts.events?.record('metadata-room', `${has}: all goes on`, {});
      logger.warn({ roomBytes, isFull }, 'room for metadata changed');
    };
    const room = released.use(
      await MetadataRoom.open({
        clock,
        disk,
        log: logger,
        reusableBytes: () => store.reusableBytes,
        onChange: tellRoom,
      }),
    );
    const core = await CoordinatorCore.start({
      clock,
      log,
      store,
      version,
      member: { name: member, trustDomain: `${member}.${collective}` },
      rootOwner: options.rootOwner,
      onFatal: options.onFatal,
      room,
      told,
      ...(generation === undefined ? {} : { generation }),
      onOperationFailure: ({ session, error }, message) => logger.error({ session, err: error }, message),
      data: async (engine) => {
        const events = await EventLog.load({
          clock,
          engine,
          onFailure: (error) => logger.error({ err: error }, 'event not stored'),
        });
        const keys = await AccessKeys.load({ disk, path: 'access-keys.json', clock, random });
        const nodes = await NodeTable.load({
          clock,
          engine,
          events: {
            diskLost: (node, lost, found) => {
              events.record('disk-lost', `Node ${node} came with another disk: what lay on the old one is lost there`, {
                node,
                lost,
                found,
              });
              // Whoever reads the event finds that its chunks are being counted.
              parts.background?.nodesChanged();
            },
            nodeCame: (node) => {
              logger.info({ node }, 'node ready');
              parts.background?.nodeCame(node);
            },
            nodeWentAway: (node) => {
              logger.warn({ node }, 'node link ended');
              parts.background?.nodeWentAway(node);
            },
          },
        });
        const data = new MemberData({
          clock,
          random,
          nodes,
          keys,
          makeStable: (node, chunks) => links.makeStable(node, chunks),
        });
        Object.assign(parts, { nodes, keys, events, data });
        return data;
      },
    });
    const { nodes, keys, data, events } = parts;
    if (nodes === undefined || keys === undefined || data === undefined || events === undefined)
      throw new CollectiveError('internal', 'Start the coordinator: its core did not ask for the nodes');
    const settler = new ReplicaSettler({
      engine: core.engine,
      askChunks: (node, chunks) => links.askChunks(node, chunks),
      onReverted: ({ inode, block, chunk }) => {
        events.record(
          'block-reverted',
          `Block ${block} of inode ${inode} got back its earlier content: chunk ${chunk} was lost before it was stable`,
          { inode: String(inode), block: String(block), chunk },
        );
        void core.recallFromAll(inode as InodeNumber, ATTRIBUTES | DATA);
      },
      onFailure: (node, error) => logger.warn({ node, err: error }, 'replicas of node not settled'),
    });
    const maintenance = await Maintenance.load(core.engine);
    const links = new NodeLinks({
      clock,
      epoch: core.engine.epoch,
      member,
      nodes,
      keys,
      onReport: (node, report) => {
        settler.reported(node, report);
        parts.background?.nodeReported(node, report);
        core.nodeReported();
      },
      scrubPeriodSeconds: () => maintenance.current.scrubPeriodSeconds,
      told,
      onNewerEpoch: (node, epoch) =>
        options.onFatal(
          new CollectiveError(
            'fenced',
            `Go on as coordinator: node ${node} has served epoch ${epoch.generation}.${epoch.start}, which is newer. This data folder is an older copy; start the newer one, or restore this one as a backup`,
          ),
        ),
      log: ({ node, error }, message) =>
        error === undefined ? logger.info({ node }, message) : logger.warn({ node, err: error }, message),
    });
    const orders = new LinkOrders({ links, data, epoch: core.engine.epoch, trustDomain: `${member}.${collective}` });
    const background = new Background({
      clock,
      random,
      engine: core.engine,
      orders,
      nodes,
      settings: () => maintenance.current,
      replaysOver: (signal) => core.replaysOver(signal),
      drawChunkId: () => core.drawChunkId(),
      ownsChunk: (chunk) => core.ownsChunk(chunk),
      onCrowded: (told) => core.onCrowded(told),
      recallData: (inode) => core.recallFromAll(inode, DATA),
      event: (kind, message, details) => events.record(kind, message, { ...details }),
      change: (caller, operation, options) => core.change(caller, operation, options),
      onFailure: (job, error) => logger.warn({ job, err: error }, 'background work failed'),
    });
    parts.background = background;
    maintenance.whenChanged(() => background.settingsChanged());
    const keyTimer = everyHour(clock, () =>
      keys.rotateWhenDue().catch((error) => logger.error({ err: error }, 'access keys not rotated')),
    );
    const timers = released.move();
    return {
      core,
      nodes,
      links,
      keys,
      data,
      events,
      maintenance,
      duties: new NodeDuties({
        clock,
        engine: core.engine,
        nodes,
        events,
        orders,
        isConnected: (node) => links.isConnected(node),
        onDuty: () => background.nodesChanged(),
        loadOf: (node) => background.loadOf(node),
        picture: () => nodes.picture(maintenance.current.repairAfterSeconds),
      }),
      orders,
      background,
      log,
      room,
      [Symbol.asyncDispose]: async () => {
        timers.dispose();
        keyTimer();
        await background[Symbol.asyncDispose]();
        await core.close();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

function everyHour(clock: Clock, work: () => void): () => void {
  let timer = clock.setTimer(KEY_LOOK_MS, again, { background: true });
  function again(): void {
    work();
    timer = clock.setTimer(KEY_LOOK_MS, again, { background: true });
  }
  return () => timer.cancel();
}
