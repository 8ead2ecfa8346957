/**
 * A directory tree with a million files becomes a realm, and a part of the realm around it again. Each file has a chunk, which
 * follows it; each tenth has a second name beside the first, so that names are counted; some were removed and lie in the trash.
 */
import { type InodeNumber, ROOT_INODE, ROOT_REALM } from '@collective/base/ids';
import type { OperationRun } from '@collective/coordinator/engine/operation-run';
import { RealmMover } from '@collective/coordinator/jobs/realm-moves';
import { NO_ONE_ELSE, OperationContext } from '@collective/coordinator/ops/context';
import { addEntry } from '@collective/coordinator/ops/entries';
import { directoryRow } from '@collective/coordinator/ops/realms';
import { moveToTrash } from '@collective/coordinator/ops/trash';
import { THE_MEMBER } from '@collective/coordinator/session/realm-rights';
import type { InodeRow } from '@collective/coordinator/tables/gen/tables';
import { INODES, JOB_LINKS, JOB_VISITS, nameKey } from '@collective/coordinator/tables/tables';
import { CreateRealmRequest } from '@collective/protocol/gen/admin';
import { InodeType } from '@collective/protocol/gen/session';
import type { Figures } from '../figures.ts';
import { JobMeter } from './job-meter.ts';
import { JobScene, LENGTH, putBlock, putChunk, round } from './job-scene.ts';

const FILES_PER_DIRECTORY = 1_000;
const WITH_TWO_NAMES = 10;
/** Of a hundred files. */
const REMOVED = 5;

export async function realmJobs(figures: Figures, count: number): Promise<void> {
  await using scene = await JobScene.open();
  const { core, engine } = scene;
  const inodes = count + (await fillTree(scene, count));
  const meter = JobMeter.ofEngine(figures, count, engine);
  const refusals: string[] = [];
  const mover = new RealmMover({
    engine,
    change: (caller, operation, options) => core.change(caller, operation, options),
    event: (kind, message) => {
      if (kind === 'realm-refused') refusals.push(message);
    },
  });
  const { realm } = await core.createRealm(CreateRealmRequest.fromPartial({ path: '/team' }));
  await meter.measure('make a realm of a directory', () => mover.work(round));
  await requireRealm(scene, realm, inodes, refusals);
  await core.dissolveRealm('/team');
  await meter.measure('dissolve the realm', () => mover.work(round));
  await requireRealm(scene, realm, 0, refusals);
}

async function requireRealm({ engine }: JobScene, realm: number, inodes: number, refusals: string[]): Promise<void> {
  const moved = engine.usageOf(realm as never).inodes;
  if (moved !== inodes || refusals.length > 0)
    throw new Error(`Move ${inodes} inodes into realm ${realm}: ${moved} are there; ${refusals.join('; ')}`);
  for (const { name, prefix } of [JOB_VISITS, JOB_LINKS]) {
    const left = await engine.run((tx) => tx.scan(JOB_VISITS, prefix, `${prefix}\xff`, 1));
    if (left.length > 0) throw new Error(`Look for rows of ${name}: some are left`);
  }
}

/** /team/d-1/f-1 and so on; answers how many directories there are. */
async function fillTree(scene: JobScene, count: number): Promise<number> {
  const { engine } = scene;
  const team = await engine.run((tx) => makeDirectory(tx, ROOT_INODE, 'team'));
  const directories: InodeNumber[] = [];
  for (let from = 1; from <= count; from += FILES_PER_DIRECTORY)
    directories.push(await engine.run((tx) => makeDirectory(tx, team, `d-${directories.length + 1}`)));
  await scene.fill(count, (tx, number) => {
    const parent = directories[Math.floor((number - 1) / FILES_PER_DIRECTORY)] ?? team;
    if (number % 100 < REMOVED) removedFile(tx, parent, number);
    else makeFile(tx, parent, number);
  });
  return directories.length + 1;
}

function makeDirectory(tx: OperationRun, parent: InodeNumber, name: string): InodeNumber {
  const inode = tx.newInode();
  const from = { realm: ROOT_REALM, mode: 0o755, uid: 0, gid: 0, parent, name: Buffer.from(name) };
  tx.put(INODES, directoryRow(tx, from), inode);
  tx.addUsage(ROOT_REALM, { inodes: 1, directories: 1 });
  enter(tx, parent, name, { inode, type: InodeType.DIRECTORY });
  return inode;
}

function makeFile(tx: OperationRun, parent: InodeNumber, number: number): void {
  const { inode, row } = newFile(tx, parent, number);
  const names = number % WITH_TWO_NAMES === 0 ? [`f-${number}`, `g-${number}`] : [`f-${number}`];
  tx.put(INODES, { ...row, links: names.length, parent: names.length > 1 ? 0 : parent }, inode);
  for (const name of names) enter(tx, parent, name, { inode, type: InodeType.FILE });
}

function removedFile(tx: OperationRun, parent: InodeNumber, number: number): void {
  const { inode, row } = newFile(tx, parent, number);
  const context = new OperationContext(tx, THE_MEMBER, NO_ONE_ELSE);
  moveToTrash(context, inode, { ...row, links: 0 }, { parent, name: nameKey(Buffer.from(`f-${number}`)) });
}

function newFile(tx: OperationRun, parent: InodeNumber, number: number): { inode: InodeNumber; row: InodeRow } {
  const inode = tx.newInode();
  const from = { realm: ROOT_REALM, mode: 0o644, uid: 0, gid: 0, parent, name: Buffer.alloc(0) };
  const content = { size: LENGTH, storedBytes: LENGTH, version: 2, data: inode };
  putChunk(tx, number);
  putBlock(tx, inode, number);
  tx.addUsage(ROOT_REALM, { inodes: 1, bytes: LENGTH });
  return { inode, row: { ...directoryRow(tx, from), type: InodeType.FILE, nextCookie: 0, ...content } };
}

function enter(tx: OperationRun, parent: InodeNumber, name: string, child: { inode: InodeNumber; type: number }): void {
  const row = tx.get(INODES, parent);
  if (row === undefined) throw new Error(`Enter ${name} into directory ${parent}: it has no row`);
  const context = new OperationContext(tx, THE_MEMBER, NO_ONE_ELSE);
  tx.put(INODES, addEntry(context, { inode: parent, row }, nameKey(Buffer.from(name)), child), parent);
}
