/**
 * One member as a program uses it, put together from ports: `connect.ts` gives the real ones, the simulator its own. Here
 * is the one place where what the session tells (routes, rights, a new epoch) reaches those who need it.
 */
import type { Clock } from '@collective/base/clock';
import { compareEpochs, type Epoch } from '@collective/base/ids';
import { BLOCK_BYTES } from '@collective/base/limits';
import type { Random } from '@collective/base/random';
import { ChunkBuffers } from '@collective/protocol/bulk/chunk-buffers';
import type { BulkConnector } from '@collective/protocol/bulk/connection';
import type { Admin, Member, SessionFacts } from './api.ts';
import type { FileContext } from './files/file-context.ts';
import { MemberFiles } from './files/files.ts';
import { OpenFiles } from './files/open-files.ts';
import { PathResolver } from './files/path-resolver.ts';
import { Session } from './session/session.ts';
import type { SessionConnector } from './session/session-connector.ts';
import type { SessionEvent, SessionOptions } from './session/session-options.ts';
import { AccessTokens } from './transfer/access-tokens.ts';
import { BulkPool } from './transfer/bulk-pool.ts';
import { ByteBudget } from './transfer/byte-budget.ts';
import { ChunkStock } from './transfer/chunk-stock.ts';
import { ChunkWriter } from './transfer/chunk-writer.ts';
import { ReplicaReader } from './transfer/replica-reader.ts';

export const UPLOAD_BYTES_MAX = 32 * 1024 * 1024;
export const DOWNLOAD_BYTES_MAX = 32 * 1024 * 1024;

export interface MemberPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly connector: SessionConnector;
  readonly bulk: BulkConnector;
  readonly admin: Admin;
}

export interface MemberSettings
  extends Pick<
    SessionOptions,
    | 'program'
    | 'listener'
    | 'caches'
    | 'credential'
    | 'bundleHash'
    | 'connectWithinMs'
    | 'reconnectWithinMs'
    | 'onEvent'
  > {
  readonly uploadBytesMax?: number;
  readonly downloadBytesMax?: number;
  /** Called last, when the member is closed. */
  readonly onClosed?: () => Promise<void>;
}

export class ConnectedMember implements Member {
  readonly files: MemberFiles;
  readonly admin: Admin;
  readonly #session: Session;
  readonly #pool: BulkPool;
  readonly #onClosed: (() => Promise<void>) | undefined;
  #closing: Promise<void> | undefined;

  static async open(ports: MemberPorts, settings: MemberSettings, signal?: AbortSignal): Promise<ConnectedMember> {
    const { clock, random } = ports;
    const tokens = new AccessTokens(clock);
    const pool = new BulkPool({ clock, connector: ports.bulk, program: settings.program });
    const open = new OpenFiles();
    const stocks = new Map<number, ChunkStock>();
    const onEvent = (event: SessionEvent): void => {
      if (event.kind === 'routes') pool.setRoutes(event.nodes);
      if (event.kind === 'access') tokens.add(event.access);
      if (event.kind === 'attached') {
        const key = { session: event.attached.session, epoch: event.attached.epoch ?? NO_EPOCH };
        // Ids and rights belong to one session and one start of the coordinator.
        if (key.session !== current.session || compareEpochs(key.epoch, current.epoch) !== 0) {
          for (const stock of stocks.values()) stock.clear({ keepSpace: key.session === current.session });
          tokens.clear();
          current = key;
        }
        open.holdAll();
      }
      settings.onEvent?.(event);
    };
    const uploadBytesMax = settings.uploadBytesMax ?? UPLOAD_BYTES_MAX;
    const inFlight = new ByteBudget(uploadBytesMax);
    const kept = new ByteBudget(uploadBytesMax);
    let current = { session: 0, epoch: NO_EPOCH };
    const session = await Session.attach(
      {
        ...settings,
        clock,
        random,
        connector: ports.connector,
        onEvent,
        openInodes: () => open.inodes(),
        space: () =>
          [...stocks.values()].map(({ realm, spaceBytes }) => ({
            realm,
            bytes: spaceBytes + inFlight.usedBytes + kept.usedBytes,
          })),
        onSpaceRecall: (realm) => stocks.get(realm)?.giveSpaceBack() ?? 0,
        onRecall: async (recall) => open.answerRecall(recall),
      },
      signal,
    ).catch((error: unknown) => {
      pool[Symbol.dispose]();
      throw error;
    });
    const stockOf = (realm: number): ChunkStock => {
      let stock = stocks.get(realm);
      if (stock === undefined) {
        stock = new ChunkStock({ session, tokens, realm, onRoutes: (nodes) => pool.setRoutes(nodes) });
        stocks.set(realm, stock);
      }
      return stock;
    };
    const realmOf = (realm: number) => session.attached.realms.find((one) => one.realm === realm);
    const context: FileContext = {
      clock,
      random,
      session,
      open,
      paths: new PathResolver(session),
      upload: {
        session,
        chunks: new ChunkWriter({ clock, session, pool, tokens, stockOf }),
        inFlight,
        kept,
        buffers: new ChunkBuffers(Math.ceil((2 * uploadBytesMax) / BLOCK_BYTES)),
      },
      download: {
        clock,
        session,
        reader: new ReplicaReader({ clock, session, pool, tokens }),
        ahead: new ByteBudget(settings.downloadBytesMax ?? DOWNLOAD_BYTES_MAX),
      },
      compresses: (realm) => realmOf(realm)?.compression ?? true,
      replicasOf: (realm) => realmOf(realm)?.replicas ?? 1,
    };
    return new ConnectedMember(context, pool, ports.admin, settings.onClosed);
  }

  private constructor(context: FileContext, pool: BulkPool, admin: Admin, onClosed: (() => Promise<void>) | undefined) {
    this.files = new MemberFiles(context);
    this.admin = admin;
    this.#session = context.session;
    this.#pool = pool;
    this.#onClosed = onClosed;
  }

  get session(): SessionFacts {
    const { attached, state } = this.#session;
    return {
      session: attached.session,
      incarnation: attached.incarnation,
      member: attached.member,
      trustDomain: attached.trustDomain,
      version: attached.version,
      features: attached.features,
      realms: attached.realms,
      trusted: attached.trusted,
      uid: attached.uid,
      gid: attached.uidOwnerGid,
      state: state === 'detached' ? 'reconnecting' : state,
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      await this.#session.close();
    } finally {
      this.#pool[Symbol.dispose]();
      await this.#onClosed?.();
    }
  }
}

const NO_EPOCH: Epoch = { generation: 0, start: 0 };
