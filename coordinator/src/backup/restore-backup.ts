/**
 * A backup becomes a coordinator's data folder again: rows, an empty log that goes on at the backup's position, and a new
 * generation (M2a), so that nothing that was given since the backup is ever given again. Garbage collection waits until a
 * person has looked (D9): nodes may hold chunks that are newer than what the backup knows.
 *
 * The folder appears as a whole, under its name, or not at all. Whoever starts a restore again after it was killed, or after nobody
 * heard that it had succeeded, gets there: a cluster does just that. An edge: files are made here.
 */
import { access, lstat, mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { type Clock, wallMs } from '@collective/base/clock';
import { type DiskLock, replaceWhole } from '@collective/base/disk';
import { FileDisk } from '@collective/base/disk/file-disk';
import { CollectiveError } from '@collective/base/errors';
import type { LogPosition } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import { syncFolder, writeSynced } from '@collective/protocol/tls/synced-files';
import { createEmptyLog } from '../log/log-recovery.ts';
import { type MemberFolder, memberFileContent, type RestoredFrom, readMemberFile } from '../member-folder.ts';
import { SqliteThread } from '../store/sqlite-thread.ts';
import type { StoredRow } from '../store/store.ts';
import { MAINTENANCE, RANGES } from '../tables/tables.ts';
import { BackupDecoder, type BackupFacts } from './backup-format.ts';
import { inspectBackup } from './inspect-backup.ts';

/** Numbers that may have been given since the backup are passed over: more than any member gives between two backups. */
export const NUMBERS_PASSED_OVER = 2 ** 32;
/** A file of an authority: `ca/ca.key`, `ca/generation.json`. */
const AUTHORITY_FILE = /^ca\/[a-z0-9][a-z0-9.-]{0,60}$/;

export interface RestoreOptions {
  readonly source: AsyncIterable<Buffer>;
  /** Must be empty, or not be there; or it was made from this very backup, and then it is left as it is. */
  readonly folder: string;
  /** Whose it must be. */
  readonly of?: { readonly member?: string; readonly collective?: string };
  readonly clock: Clock;
  readonly random: Random;
  onProgress?(bytes: number): void;
}

export interface Restored {
  readonly facts: BackupFacts;
  /** Of the coordinator that starts on it. */
  readonly generation: number;
  readonly rows: number;
  readonly hasAuthority: boolean;
  /** It was restored from this backup before; nothing was done. */
  readonly wasThere: boolean;
}

/** Throws `not_empty`, `exists`, `backup_damaged`, `version_too_new`, `wrong_member`, `no_space`. */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const folder = resolve(options.folder);
  const there = await whatIsThere(folder);
  if (there !== undefined) return await restoredBefore(there, folder, options);
  const work = `${folder}.restoring`;
  await mkdir(dirname(folder), { recursive: true });
  const lock = await takeWorkFolder(work, folder);
  try {
    const restored = await fill(work, options);
    await rmdir(folder).catch(() => undefined);
    await rename(work, folder);
    await syncFolder(dirname(folder));
    return restored;
  } catch (error) {
    // What was made here, and nothing else.
    await rm(work, { recursive: true, force: true });
    throw error;
  } finally {
    await lock.release();
  }
}

interface Occupied {
  readonly names: readonly string[];
  readonly restored: MemberFolder | undefined;
}

/** Undefined: nothing is in the way. */
async function whatIsThere(folder: string): Promise<Occupied | undefined> {
  const found = await lstat(folder).catch(() => undefined);
  if (found === undefined) return undefined;
  if (!found.isDirectory()) throw new CollectiveError('exists', `Restore into ${folder}: it is not a folder`);
  const names = await readdir(folder);
  if (names.length === 0) return undefined;
  const disk = await FileDisk.at(folder);
  return { names, restored: await readMemberFile(disk).catch(() => undefined) };
}

async function restoredBefore(
  { names, restored }: Occupied,
  folder: string,
  { source }: RestoreOptions,
): Promise<Restored> {
  if (restored?.restoredFrom !== undefined) {
    const { facts, rows, hasAuthority } = await inspectBackup(source);
    const { generation = facts.epoch.generation } = restored;
    if (isFrom(restored, facts)) return { facts, generation, rows, hasAuthority, wasThere: true };
  }
  throw new CollectiveError(
    'not_empty',
    `Restore into ${folder}: it holds ${names.slice(0, 3).join(', ')}. A backup is restored into an empty folder; move the old one aside`,
  );
}

function isFrom({ member, collective, restoredFrom }: MemberFolder, facts: BackupFacts): boolean {
  const isSameMoment = JSON.stringify(restoredFrom) === JSON.stringify(momentOf(facts));
  return isSameMoment && member === facts.member && collective === facts.collective;
}

function momentOf({ created, position, epoch: { generation, start } }: BackupFacts): RestoredFrom {
  return { created, position, epoch: { generation, start } };
}

/** What a restore that was killed left behind is nobody's: its lock is free. */
async function takeWorkFolder(work: string, folder: string): Promise<DiskLock> {
  await clearWorkFolder(work);
  try {
    await mkdir(work, { mode: 0o700 });
  } catch (cause) {
    throw new CollectiveError(
      'exists',
      `Restore into ${folder}: ${work} is there, from another restore that runs, or of something else. If none is running, remove it`,
      { cause },
    );
  }
  return await (await FileDisk.at(work)).lock('');
}

async function clearWorkFolder(work: string): Promise<void> {
  const isOurs = await access(join(work, 'lock')).then(
    () => true,
    () => false,
  );
  if (!isOurs) {
    // Killed before it had a lock.
    await rmdir(work).catch(() => undefined);
    return;
  }
  const lock = await (await FileDisk.at(work)).lock('').catch(() => undefined);
  if (lock === undefined) return;
  await rm(work, { recursive: true, force: true });
  await lock.release();
}

async function fill(work: string, { source, of, clock, random, onProgress }: RestoreOptions): Promise<Restored> {
  const decoder = new BackupDecoder();
  const database = new SqliteThread({ file: join(work, 'metadata.db'), role: 'writer' });
  let facts: BackupFacts | undefined;
  let rows = 0;
  let bytes = 0;
  let hasAuthority = false;
  let maintenance: Uint8Array | undefined;
  try {
    await database.ask({ kind: 'open' });
    const put = async (some: readonly StoredRow[]): Promise<void> => {
      await database.ask({ kind: 'fill', rows: some, applied: facts?.position ?? 0 });
    };
    for await (const piece of source) {
      for (const part of decoder.push(piece)) {
        if (part.kind === 'facts') facts = checkedOwner(part.facts, of);
        else if (part.kind === 'rows') {
          rows += part.rows.length;
          maintenance ??= part.rows.find(({ key }) => key === MAINTENANCE.key())?.value;
          await put(part.rows.map(passOverNumbers));
        } else if (part.kind === 'file') {
          await keepAuthorityFile(work, part.name, part.content);
          hasAuthority = true;
        }
      }
      bytes += piece.length;
      onProgress?.(bytes);
    }
    decoder.finish();
    if (facts === undefined) throw new CollectiveError('backup_damaged', 'Read a backup: it is empty');
    const before = MAINTENANCE.decode(maintenance ?? new Uint8Array(0));
    await put([{ key: MAINTENANCE.key(), value: MAINTENANCE.encode({ ...before, garbageWaits: true }) }]);
    await database.ask({ kind: 'checkpoint' });
  } finally {
    await database.end();
  }
  const disk = await FileDisk.at(work);
  await createEmptyLog(disk, 'log', (facts.position + 1) as LogPosition, random);
  const generation = Math.max(Math.floor(wallMs(clock) / 1000), facts.epoch.generation + 1);
  // Last: without it nothing is a member's folder.
  await replaceWhole(disk, 'member.json', memberFileContent({ ...facts, generation, restoredFrom: momentOf(facts) }));
  return { facts, generation, rows, hasAuthority, wasThere: false };
}

function checkedOwner(facts: BackupFacts, { member, collective }: NonNullable<RestoreOptions['of']> = {}): BackupFacts {
  if ((member ?? facts.member) !== facts.member || (collective ?? facts.collective) !== facts.collective)
    throw new CollectiveError(
      'wrong_member',
      `Restore a backup for ${member ?? facts.member}.${collective ?? facts.collective}: it is of ${facts.member}.${facts.collective}`,
    );
  return facts;
}

function passOverNumbers(row: StoredRow): StoredRow {
  if (!row.key.startsWith(RANGES.prefix)) return row;
  const { reservedTo } = RANGES.decode(row.value);
  // User ids are 31 bits: a range that is never as busy.
  const passed = row.key === RANGES.key('uid') ? 100_000 : NUMBERS_PASSED_OVER;
  return { key: row.key, value: RANGES.encode({ reservedTo: reservedTo + passed }) };
}

async function keepAuthorityFile(work: string, name: string, content: Buffer): Promise<void> {
  if (!AUTHORITY_FILE.test(name))
    throw new CollectiveError('backup_damaged', `Read a backup: it holds a file '${name}', which has no place in one`);
  await mkdir(join(work, 'ca'), { recursive: true, mode: 0o700 });
  await writeSynced(join(work, 'ca', basename(name)), content.toString('utf8'), 0o600);
}
