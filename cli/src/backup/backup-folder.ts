/** A folder of backups on this machine: what is in it, and which is the newest. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CollectiveError } from '@collective/base/errors';
import { backupsAmong, type NamedBackup } from './backup-names.ts';

export interface BackupFile extends NamedBackup {
  readonly bytes: number;
}

export async function listBackups(folder: string, member?: string): Promise<BackupFile[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new CollectiveError('not_found', `Read the folder ${folder}`, { cause });
  });
  return await Promise.all(
    backupsAmong(names, member).map(async (named) => ({
      ...named,
      bytes: (await stat(join(folder, named.name))).size,
    })),
  );
}

/** Its path. Of one member, which must be named where the folder holds those of several. */
export async function newestBackup(folder: string, member: string | undefined): Promise<string> {
  const found = await listBackups(folder, member);
  const members = [...new Set(found.map((each) => each.member))];
  const [newest] = found;
  if (newest === undefined)
    throw new CollectiveError(
      'not_found',
      `Restore from ${folder}: it holds no backup${member === undefined ? '' : ` of ${member}`} (MEMBER-TIME.backup)`,
    );
  if (members.length > 1)
    throw new CollectiveError(
      'invalid_argument',
      `Restore from ${folder}: it holds backups of ${members.join(', ')}; --member says whose`,
    );
  return join(folder, newest.name);
}
