/**
 * What backups in one folder are called, and which of them are too many. Only files of that very form are ever removed, and
 * only those of one member: others may share the folder.
 */

/** `alice-20261126T034500Z.backup`: names order as times do. */
export function backupFileName(member: string, unixSeconds: number): string {
  const time = new Date(unixSeconds * 1000).toISOString().replace(/[-:]|\.[0-9]+/g, '');
  return `${member}-${time}.backup`;
}

/** Beyond the newest `keep`. */
export function olderBackups(names: readonly string[], member: string, keep: number): string[] {
  const own = names.filter((name) => name.startsWith(`${member}-`) && TIME.test(name.slice(member.length + 1)));
  return own.sort().reverse().slice(keep);
}

const TIME = /^[0-9]{8}T[0-9]{6}Z\.backup$/;
