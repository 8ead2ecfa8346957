/**
 * A removed tree of a million files, as `rm -r` leaves it: each file and directory is an entry of the trash. It goes when its time
 * is over, early where nodes run out of room, and when a person empties the trash; a person also brings all of it back.
 */
import { type InodeNumber, ROOT_INODE, ROOT_REALM } from '@collective/base/ids';
import type { OperationRun } from '@collective/coordinator/engine/operation-run';
import { BlockRelease } from '@collective/coordinator/jobs/release-blocks';
import { TrashCollector } from '@collective/coordinator/jobs/trash';
import { NO_ONE_ELSE, OperationContext } from '@collective/coordinator/ops/context';
import { directoryRow } from '@collective/coordinator/ops/realms';
import { moveToTrash } from '@collective/coordinator/ops/trash';
import { TrashService } from '@collective/coordinator/server/trash-service';
import { THE_MEMBER } from '@collective/coordinator/session/realm-rights';
import type { InodeRow } from '@collective/coordinator/tables/gen/tables';
import { nameKey, REALMS, SUBJECTS } from '@collective/coordinator/tables/tables';
import { InodeType } from '@collective/protocol/gen/session';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { Figures } from '../figures.ts';
import { JobMeter } from './job-meter.ts';
import { DAY_SECONDS, JobScene, LateClock, LENGTH, round } from './job-scene.ts';

const FILES_PER_DIRECTORY = 1_000;
const ROOM = 2 ** 50;
const ADMINISTRATOR = { uri: 'spiffe://bench.home/user/root', role: 'user', name: 'root' } as PeerIdentity;

export async function trashJobs(figures: Figures, count: number): Promise<void> {
  await using scene = await JobScene.open();
  const { core, engine } = scene;
  const meter = JobMeter.ofEngine(figures, count, engine);
  const clock = new LateClock();
  const room = { capacityBytes: ROOM, freeBytes: ROOM, deadBytes: 0 };
  const garbage = { walkedAt: clock.now(), storedBytes: 0, collectedBytes: 0 };
  const collector = new TrashCollector({
    clock,
    engine,
    change: (caller, operation) => core.change(caller, operation),
    room: () => room,
    garbage: () => garbage,
    onYielded: () => undefined,
  });
  await removeTree(scene, count);
  await collector.work(round);
  requireTrash(scene, count + directoriesOf(count));
  clock.aheadSeconds = 8 * DAY_SECONDS;
  await meter.measure('expire what lies in the trash', () => collector.work(round));
  requireTrash(scene, 0);

  clock.aheadSeconds = 0;
  // Blocks that nobody has let go of would count as room that comes back.
  await new BlockRelease(engine).work(round);
  await removeTree(scene, count);
  await engine.run((tx) => {
    const row = tx.get(REALMS, ROOT_REALM);
    if (row !== undefined) tx.put(REALMS, { ...row, trashYields: true }, ROOT_REALM);
  });
  room.freeBytes = 0;
  await meter.measure('let trash go early for want of room', () => collector.work(round));
  requireTrash(scene, 0);

  const service = new TrashService({
    engine,
    shared: core.shared,
    change: (caller, operation) => core.change(caller, operation),
  });
  const rights = { admin: true, trusted: true, uid: 0, gid: 0, realms: [{ realm: ROOT_REALM, readOnly: false }] };
  await engine.run((tx) => tx.put(SUBJECTS, { ...rights, uri: ADMINISTRATOR.uri, created: tx.now }, ADMINISTRATOR.uri));
  await removeTree(scene, count);
  await meter.measure('empty the trash by order', () =>
    callAll((resume) => service.empty({ path: '', olderThanSeconds: 0, resume }, ADMINISTRATOR)),
  );
  requireTrash(scene, 0);
  await removeTree(scene, count);
  const request = { id: 0, path: '/tree', to: '', at: undefined };
  await meter.measure('bring a tree back from the trash', () =>
    callAll((resume) => service.restore({ ...request, resume }, ADMINISTRATOR)),
  );
  requireTrash(scene, 0);
}

/** The calls of a person's command: each answers the mark with which the next goes on. */
async function callAll(call: (resume: Buffer) => Promise<{ readonly resume: Uint8Array }>): Promise<void> {
  let resume = Buffer.alloc(0);
  do resume = Buffer.from((await call(resume)).resume);
  while (resume.length > 0);
}

function requireTrash({ engine }: JobScene, entries: number): void {
  const { trashInodes } = engine.usageOf(ROOT_REALM);
  if (trashInodes !== entries) throw new Error(`Look into the trash: ${trashInodes} entries instead of ${entries}`);
}

function directoriesOf(count: number): number {
  return Math.ceil(count / FILES_PER_DIRECTORY) + 1;
}

/** /tree/d-1/f-1 and so on, the deepest first. */
async function removeTree(scene: JobScene, count: number): Promise<void> {
  const directories = await scene.engine.run((tx) => Array.from({ length: directoriesOf(count) }, () => tx.newInode()));
  const [tree, ...below] = directories as [InodeNumber, ...InodeNumber[]];
  await scene.fill(count, (tx, number) => {
    const inode = tx.newInode();
    const parent = below[Math.floor((number - 1) / FILES_PER_DIRECTORY)] ?? tree;
    remove(tx, inode, fileRow(tx, inode, parent), parent, `f-${number}`);
  });
  await scene.fill(below.length, (tx, number) =>
    remove(tx, below[number - 1] ?? tree, goneDirectory(tx, tree, `d-${number}`), tree, `d-${number}`),
  );
  await scene.engine.run((tx) => remove(tx, tree, goneDirectory(tx, ROOT_INODE, 'tree'), ROOT_INODE, 'tree'));
}

function remove(tx: OperationRun, inode: InodeNumber, row: InodeRow, parent: InodeNumber, name: string): void {
  const directories = row.type === InodeType.DIRECTORY ? 1 : 0;
  tx.addUsage(ROOT_REALM, { inodes: 1, directories, bytes: row.storedBytes });
  const context = new OperationContext(tx, THE_MEMBER, NO_ONE_ELSE);
  moveToTrash(context, inode, row, { parent, name: nameKey(Buffer.from(name)) });
}

function fileRow(tx: OperationRun, inode: InodeNumber, parent: InodeNumber): InodeRow {
  const like = directoryRow(tx, { realm: ROOT_REALM, mode: 0o644, uid: 0, gid: 0, parent, name: Buffer.alloc(0) });
  const content = { size: LENGTH, storedBytes: LENGTH, version: 2, data: inode };
  return { ...like, type: InodeType.FILE, links: 0, nextCookie: 0, ...content };
}

function goneDirectory(tx: OperationRun, parent: InodeNumber, name: string): InodeRow {
  const from = { realm: ROOT_REALM, mode: 0o755, uid: 0, gid: 0, parent, name: Buffer.from(name) };
  return { ...directoryRow(tx, from), links: 0 };
}
