/**
 * Trash for people (M8): looking into it, bringing back, emptying. An administrator acts for all, others for what they own.
 * What takes many steps is done some at a time: the answer carries a mark with which the client calls again, so that
 * nothing is kept here for anybody and a person may stop between any two.
 */
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { InodeNumber, RealmId } from '@collective/base/ids';
import type {
  EmptiedTrash,
  EmptyTrashRequest,
  ListTrashRequest,
  RestoredTrash,
  RestoreTrashRequest,
  TrashEntry,
  TrashPage,
} from '@collective/protocol/gen/admin';
import { InodeType } from '@collective/protocol/gen/session';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { Engine } from '../engine/engine.ts';
import type { OperationRun } from '../engine/operation-run.ts';
import type { Caller, OperationContext } from '../ops/context.ts';
import { allRealms, realmsWithTrash } from '../ops/realms.ts';
import { decodeLevels, encodeLevels, type Level, restoreBelow } from '../ops/trash-below.ts';
import { emptyStep } from '../ops/trash-empty.ts';
import {
  isAtOrBelow,
  mayTouch,
  newestTrash,
  pathsOfTrash,
  type Trashed,
  trashEntryOnWire,
} from '../ops/trash-listing.ts';
import { restore } from '../ops/trash-restore.ts';
import { splitPath } from '../ops/trash-search.ts';
import { callerOf, type SharedRights } from '../session/realm-rights.ts';
import { readBigEndian } from '../tables/table.ts';
import { nameBytes, SUBJECTS } from '../tables/tables.ts';

export interface TrashServiceParts {
  readonly engine: Engine;
  readonly shared: SharedRights;
  change<T>(caller: Caller, operation: (context: OperationContext) => T): Promise<T>;
}

const PAGE_ENTRIES_MAX = 500;
const PAGE_ENTRIES_DEFAULT = 200;
/** Pages that one call looks through when nothing in them is the caller's or under the path. */
const PAGES_LOOKED_AT_MAX = 10;
/** Steps of a restoration or of emptying in one call: well below the time that a client waits for an answer. */
const STEPS_PER_CALL = 16;

export class TrashService {
  readonly #parts: TrashServiceParts;

  constructor(parts: TrashServiceParts) {
    this.#parts = parts;
  }

  async list(request: ListTrashRequest, peer: PeerIdentity): Promise<TrashPage> {
    const { engine } = this.#parts;
    const caller = await this.#caller(peer);
    const path = request.path === '' ? undefined : plainPath(request.path);
    const limit = Math.min(request.limit || PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX);
    const realms = await engine.run((tx) => realmsWithTrash(tx).filter((realm) => caller.realmRight(realm) === 'rw'));
    // All that were given are smaller.
    let before = request.before || engine.drawNumber('inode');
    for (let pages = 0; pages < PAGES_LOOKED_AT_MAX; pages++) {
      const newest = await this.#newest(realms, before, limit);
      before = newest.length < limit ? 0 : (newest.at(-1)?.number ?? 0);
      const mine = newest.filter((trashed) => mayTouch(caller, trashed));
      const entries = await engine.run((tx) => shown(tx, mine, path));
      if (entries.length > 0 || before === 0) return { entries, next: before };
    }
    return { entries: [], next: before };
  }

  async restore(request: RestoreTrashRequest, peer: PeerIdentity): Promise<RestoredTrash> {
    const { change, engine } = this.#parts;
    const caller = await this.#caller(peer);
    if (request.id === 0 && splitPath(request.path).length === 0 && request.path !== '/')
      throw new CollectiveError('invalid_argument', 'Restore from the trash: name a path or the id of an entry');
    const answer = { path: '', files: 0, directories: 0, bytes: 0, skipped: 0, skippedPaths: [] as string[] };
    let levels: Level[];
    if (request.resume.length > 0) levels = decodeLevels(request.resume);
    else {
      const realms = await engine.run((tx) => allRealms(tx).map(({ realm }) => realm));
      const { path, row, directory } = await change(caller, (context) => restore(context, realms, request));
      answer.path = path;
      if (row !== undefined) answer[row.type === InodeType.DIRECTORY ? 'directories' : 'files'] += 1;
      if (row?.type === InodeType.FILE) answer.bytes += row.size;
      levels = directory === undefined ? [] : [newLevel(directory)];
    }
    for (let steps = 0; steps < STEPS_PER_CALL && levels.length > 0; steps++) {
      const from = levels;
      const done = await change(caller, (context) => {
        // A run may be stopped and begun again: it works on a way of its own.
        const way = from.map((level) => ({ ...level }));
        return { way, step: restoreBelow(context, way, request.at) };
      });
      levels = done.way;
      answer.files += done.step.files;
      answer.directories += done.step.directories;
      answer.bytes += done.step.bytes;
      answer.skipped += done.step.skipped;
      answer.skippedPaths.push(...done.step.skippedPaths);
    }
    return { ...answer, resume: encodeLevels(levels) };
  }

  async empty(request: EmptyTrashRequest, peer: PeerIdentity): Promise<EmptiedTrash> {
    const { change, engine } = this.#parts;
    const caller = await this.#caller(peer);
    const path = request.path === '' ? undefined : plainPath(request.path);
    const before = secondsBefore(engine.freshDraws().now, request.olderThanSeconds);
    const realms = await engine.run((tx) => realmsWithTrash(tx).filter((realm) => caller.realmRight(realm) === 'rw'));
    const answer = { files: 0, directories: 0, bytes: 0 };
    let mark: EmptyMark | undefined = decodeMark(request.resume) ?? { realm: 0 as RealmId, from: 0 };
    for (let steps = 0; steps < STEPS_PER_CALL; steps++) {
      mark = nextRealm(realms, mark);
      if (mark === undefined) return { ...answer, resume: Buffer.alloc(0) };
      const { realm, from } = mark;
      const accept = (trashed: Trashed): boolean => mayTouch(caller, trashed);
      const step = await change(caller, (context) => emptyStep(context, { realm, from, before, path, accept }));
      answer.files += step.files;
      answer.directories += step.directories;
      answer.bytes += step.bytes;
      mark = step.next === undefined ? { realm: (realm + 1) as RealmId, from: 0 } : { realm, from: step.next };
    }
    return { ...answer, resume: encodeMark(mark) };
  }

  /** Numbers are one over all realms, so the newest of all are the newest of each put together. */
  async #newest(realms: readonly RealmId[], before: number, limit: number): Promise<Trashed[]> {
    let newest: Trashed[] = [];
    for (const realm of realms) {
      const from = newest.length < limit ? 0 : (newest.at(-1)?.number ?? 0);
      const some = await this.#parts.engine.run((tx) => newestTrash(tx, realm, { before, from, limit }));
      newest = [...newest, ...some].sort((a, b) => b.number - a.number).slice(0, limit);
    }
    return newest;
  }

  async #caller(peer: PeerIdentity): Promise<Caller> {
    const row = await this.#parts.engine.run((tx) => tx.get(SUBJECTS, peer.uri));
    if (row === undefined)
      throw new CollectiveError(
        'permission_denied',
        `Use the trash as ${peer.uri}: this member does not know that identity; enrol it with a token`,
      );
    return callerOf(row, this.#parts.shared);
  }
}

function shown(tx: OperationRun, found: readonly Trashed[], path: string | undefined): TrashEntry[] {
  const paths = pathsOfTrash(tx, found);
  return found.flatMap((trashed, i) =>
    path === undefined || isAtOrBelow(paths[i], path) ? [trashEntryOnWire(tx, trashed, paths[i])] : [],
  );
}

function plainPath(path: string): string {
  return `/${splitPath(path)
    .map((name) => nameBytes(name).toString('utf8'))
    .join('/')}`;
}

function newLevel(directory: InodeNumber): Level {
  return { directory, afterName: '', afterCookie: 0 };
}

function secondsBefore(now: Timestamp, seconds: number): Timestamp {
  return { seconds: now.seconds - seconds, nanos: now.nanos };
}

/** The realm that is being emptied, and from which number on. */
interface EmptyMark {
  readonly realm: RealmId;
  readonly from: number;
}

function nextRealm(realms: readonly RealmId[], mark: EmptyMark): EmptyMark | undefined {
  const realm = realms.find((each) => each >= mark.realm);
  return realm === undefined ? undefined : { realm, from: realm === mark.realm ? mark.from : 0 };
}

function encodeMark({ realm, from }: EmptyMark): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUIntBE(realm, 0, 6);
  bytes.writeUIntBE(from, 6, 6);
  return bytes;
}

function decodeMark(bytes: Buffer): EmptyMark | undefined {
  if (bytes.length === 0) return undefined;
  if (bytes.length !== 12)
    throw new CollectiveError('invalid_argument', 'Go on emptying the trash: the mark of the place is damaged');
  const key = bytes.toString('latin1');
  return { realm: readBigEndian(key, 0, 6) as RealmId, from: readBigEndian(key, 6, 6) };
}
