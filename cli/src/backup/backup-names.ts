/**
 * What backups in one folder are called, and which of them are too many. Only files of that very form are ever removed, and
 * only those of one member: others may share the folder.
 */

/** `alice-20261126T034500Z.backup`: names order as times do. */
export function backupFileName(member: string, unixSeconds: number): string {
  const time = new Date(unixSeconds * 1000).toISOString().replace(/[-:]|\.[0-9]+/g, '');
  return `${member}-${time}.backup`;
}

export interface NamedBackup {
  readonly name: string;
  readonly member: string;
  /** ISO 8601 */
  readonly created: string;
}

/** Those of all members, or of one; newest first. */
export function backupsAmong(names: readonly string[], member?: string): NamedBackup[] {
  const found = names.flatMap((name): NamedBackup[] => {
    const { of, time } = NAME.exec(name)?.groups ?? {};
    if (of === undefined || time === undefined || (member !== undefined && of !== member)) return [];
    const created = time.replace(/(....)(..)(..)T(..)(..)(..)Z/, '$1-$2-$3T$4:$5:$6Z');
    return [{ name, member: of, created }];
  });
  return found.sort((a, b) => compare(b.created, a.created) || compare(a.name, b.name));
}

/** Beyond the newest `keep`. */
export function olderBackups(names: readonly string[], member: string, keep: number): string[] {
  return backupsAmong(names, member)
    .slice(keep)
    .map(({ name }) => name);
}

const NAME = /^(?<of>[a-z0-9-]+)-(?<time>[0-9]{8}T[0-9]{6}Z)\.backup$/;

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
