/** Operations that need more than the view: block maps with tickets (D7), locks that wake waiters, space and chunk ids ahead (M10), fsync, the exclusive promise. */
import { assertNever } from '@collective/base/assert';
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, LogPosition, RealmId, SessionId } from '@collective/base/ids';
import {
  type Attributes,
  type BlockPage,
  type FileSystem,
  InodeType,
  type Operation,
  type Replenish,
  type Replenished,
} from '@collective/protocol/gen/session';
import type { Engine } from '../engine/engine.ts';
import { realmRow, replicaRule } from '../ops/chunks.ts';
import { ATTRIBUTES, DATA, type OperationContext, WRITE } from '../ops/context.ts';
import { attributesOf, loadInode, MAY_WRITE, requireAccess, requireWritableRealm } from '../ops/inode.ts';
import { setLock } from '../ops/locks.ts';
import type { Result, SessionOperationName } from '../ops/operations.ts';
import { readBlocks } from '../ops/read-blocks.ts';
import { quotaOf } from '../ops/realm-border.ts';
import { realmPath } from '../ops/realm-path.ts';
import { presentRealm } from '../ops/realms.ts';
import { requireStableFile } from '../ops/stable-content.ts';
import { yieldTrash } from '../ops/trash.ts';
import type { RealmRow } from '../tables/gen/tables.ts';
import { SESSIONS } from '../tables/tables.ts';
import { CHUNKS_PER_GRANT_MAX, type ChunkIds } from './chunk-ids.ts';
import type { DataAccess } from './data-access.ts';
import type { PromiseTable } from './promises.ts';
import type { Session } from './session.ts';
import type { Room, SpaceGrants } from './space-grants.ts';

export interface SessionOperationParts {
  readonly clock: Clock;
  readonly engine: Engine;
  readonly data: DataAccess;
  readonly space: SpaceGrants;
  readonly promises: PromiseTable;
  readonly chunkIds: ChunkIds;
  cancel(session: SessionId, number: number, step: number): void;
}

type Case = NonNullable<Operation['op']>;
type SessionCase = Extract<Case, { $case: SessionOperationName }>;

const PLACEMENTS_PER_GRANT = 8;
/** Room in a quota that the trash makes for one grant; what is asked for ahead is often more than will be used. */
const YIELD_FOR_BYTES_MAX = 64 * 1024 * 1024;
/** Without a quota a realm is as large as its nodes. */
const NO_QUOTA = Number.MAX_SAFE_INTEGER;

export class SessionOperations {
  readonly #parts: SessionOperationParts;

  constructor(parts: SessionOperationParts) {
    this.#parts = parts;
  }

  run(context: OperationContext, session: Session, op: Case, fence: number): Result {
    const request = op as SessionCase;
    switch (request.$case) {
      case 'readBlocks':
        return { $case: 'blocks', value: this.#blocks(context, session, request.value) };
      case 'setLock':
        return { $case: 'lock', value: setLock(context, request.value, fence) };
      case 'sync':
        this.#sync(context, request.value.inode);
        return { $case: 'empty', value: {} };
      case 'statFileSystem':
        return { $case: 'fileSystem', value: this.#fileSystem(context, request.value.inode) };
      case 'wantWrite':
        return { $case: 'attributes', value: this.#wantWrite(context, request.value.inode) };
      case 'replenish':
        return { $case: 'replenished', value: this.#replenish(context, session, request.value) };
      case 'cancel':
        this.#parts.cancel(session.id, request.value.number, request.value.step);
        return { $case: 'empty', value: {} };
      case 'forget':
        for (const inode of request.value.inodes) this.#parts.promises.drop(session.id, inode as InodeNumber, ~0);
        return { $case: 'empty', value: {} };
      default:
        return assertNever(request, 'session operation');
    }
  }

  /**
   * What an operation waits for besides its own batch, which lies at `position`: fsync for all that was answered before, ids of a
   * new block for the row that says whose they are.
   */
  async beforeAnswer(op: Case, position: LogPosition): Promise<void> {
    const { engine } = this.#parts;
    if (op.$case === 'sync') await engine.stableThrough(engine.lastPosition);
    if (op.$case === 'replenish') await engine.stableThrough(position);
  }

  /** A token for the session's own chunk ids; made at attach, renewed early. */
  access(session: Session): NonNullable<Replenished['access']> {
    const { chunkIds } = this.#parts;
    const block = chunkIds.begin(session.chunkIds);
    const write = session.rights.realms.some(({ readOnly }) => !readOnly);
    const access = this.#parts.data.issueAccess({
      subject: session.subject,
      session: session.id,
      write,
      epoch: chunkIds.epoch,
      firstChunk: block.first,
      lastChunk: block.last,
    });
    session.accessExpiresSeconds = access.expires?.seconds ?? 0;
    return access;
  }

  #blocks(context: OperationContext, session: Session, request: Parameters<typeof readBlocks>[1]): BlockPage {
    const { data } = this.#parts;
    const { page, chunks } = readBlocks(context, request);
    return {
      ...page,
      chunks: chunks.map(({ id, row }) => ({
        chunk: Buffer.from(id, 'hex'),
        length: row.length,
        replicas: data.readable(row.replicas).flatMap(({ node }) => data.ticket(node, id, session.id) ?? []),
      })),
    };
  }

  #replenish(context: OperationContext, session: Session, request: Replenish): Replenished {
    const realm = presentRealm(context.tx, request.realm as RealmId);
    const right = context.caller.realmRight(realm);
    if (right === undefined)
      throw new CollectiveError(
        'permission_denied',
        `Reserve space in realm ${realm}: it was not given to this session`,
      );
    if (right === 'ro')
      throw new CollectiveError('read_only', `Reserve space in realm ${realm}: it was given for reading only`);
    const row = realmRow(context, realm);
    // Else what is stored now could not be committed afterwards.
    context.growth.require(`Reserve space in realm ${realmPath(context.tx, row)}`);
    const rule = replicaRule(row);
    const room = this.#room(context, realm, row, request.bytes);
    const placements = this.#parts.data.place(rule.wanted, PLACEMENTS_PER_GRANT);
    if (placements.length === 0)
      throw new CollectiveError(
        'no_space',
        `Place chunks of realm ${realmPath(context.tx, row)}: no storage node is there that has room above its reserve`,
      );
    const bytes = this.#parts.space.grant(session, realm, request.bytes, room);
    const chunks = Math.min(request.chunks, CHUNKS_PER_GRANT_MAX);
    const { first: firstChunk, isNew } = this.#parts.chunkIds.draw(session.chunkIds, chunks);
    if (isNew) context.tx.put(SESSIONS, session.row(context.tx.now), session.id);
    const stale = isNew || session.accessExpiresSeconds - this.#parts.clock.now().seconds < 150;
    return {
      bytes,
      epoch: this.#parts.chunkIds.epoch,
      firstChunk,
      chunks,
      placements,
      access: stale ? this.access(session) : undefined,
      wanted: rule.wanted,
      needed: rule.needed,
      nodes: this.#parts.data.routes(session.listener),
    };
  }

  /** What it holds is stable on its nodes (D3); the log follows in `beforeAnswer`. */
  #sync(context: OperationContext, value: number): void {
    const { inode, row } = loadInode(context, value);
    requireStableFile(context, inode, row);
  }

  /** What may be granted at most. A quota that runs out takes back what the trash holds, where the realm says so. */
  #room(context: OperationContext, realm: RealmId, row: RealmRow, wantedBytes: number): Room {
    const { tx } = context;
    const { freeBytes } = this.#parts.data.freeBytes();
    const { limits, realms } = quotaOf(tx, realm);
    const grantedBeside = realms.reduce(
      (sum, each) => sum + (each === realm ? 0 : this.#parts.space.outstanding(each)),
      0,
    );
    const quotaLeft = (): number =>
      limits.quotaBytes === 0 ? NO_QUOTA : limits.quotaBytes - quotaOf(tx, realm).used.bytes - grantedBeside;
    const missing = Math.min(wantedBytes, YIELD_FOR_BYTES_MAX) - (quotaLeft() - this.#parts.space.outstanding(realm));
    if (missing > 0) yieldTrash(context, realm, { bytes: missing, inodes: 0 });
    return {
      quotaLeft: quotaLeft(),
      nodesLeft: Math.floor(freeBytes / replicaRule(row).wanted),
      trashBytes: tx.usageOf(realm).trashBytes,
      realms,
      wasAsked: context.roomWasAsked,
      path: () => realmPath(tx, row),
    };
  }

  #fileSystem(context: OperationContext, value: number): FileSystem {
    const { row } = loadInode(context, value);
    const realm = realmRow(context, row.realm);
    const { wanted } = replicaRule(realm);
    const { limits, used } = quotaOf(context.tx, row.realm);
    const nodes = this.#parts.data.freeBytes();
    const free = Math.floor(nodes.freeBytes / wanted);
    const totalBytes = limits.quotaBytes === 0 ? Math.floor(nodes.capacityBytes / wanted) : limits.quotaBytes;
    const freeBytes = Math.max(0, limits.quotaBytes === 0 ? free : Math.min(free, limits.quotaBytes - used.bytes));
    const totalInodes = limits.quotaInodes === 0 ? 2 ** 32 : limits.quotaInodes;
    return {
      totalBytes: Math.max(totalBytes, used.bytes),
      freeBytes,
      totalInodes,
      freeInodes: Math.max(0, totalInodes - used.inodes),
      trashBytes: Math.max(0, used.trashBytes),
      trashInodes: Math.max(0, used.trashInodes),
    };
  }

  #wantWrite(context: OperationContext, value: number): Attributes {
    const { inode, row } = loadInode(context, value);
    if (row.type !== InodeType.FILE)
      throw new CollectiveError('invalid_argument', `Write inode ${inode}, which is not a file`);
    requireWritableRealm(context, row);
    requireAccess(context, row, MAY_WRITE, `Write inode ${inode}`);
    context.coherent(inode);
    context.show(inode, ATTRIBUTES | DATA | WRITE);
    return attributesOf(inode, row);
  }
}
