/**
 * What rows must say of realms when no job is at work on them (M9): each counts what lies in it, everything lies in the realm of its
 * directory, and no two names of a file are in different ones.
 */
import type { InodeNumber, RealmId } from '@collective/base/ids';
import type { InodeRow, RealmRow, UsageRow } from '@collective/coordinator/tables/gen/tables';

export interface RealmRows {
  readonly realms: ReadonlyMap<RealmId, { readonly row: RealmRow; readonly usage: UsageRow }>;
  readonly inodes: ReadonlyMap<InodeNumber, InodeRow>;
  readonly names: readonly { readonly parent: InodeNumber; readonly inode: InodeNumber }[];
}

/** Each thing that is not as it must be; none: all is well. */
export function wrongRealms(rows: RealmRows): string[] {
  return [...openMoves(rows), ...wrongSums(rows), ...wrongPlaces(rows)];
}

function openMoves({ realms }: RealmRows): string[] {
  return [...realms.values()].flatMap(({ row }) =>
    row.move === undefined ? [] : [`a job is at work in realm ${row.path}`],
  );
}

function wrongSums({ realms, inodes }: RealmRows): string[] {
  const wrong: string[] = [];
  for (const [realm, { row, usage }] of realms) {
    const mine = [...inodes.values()].filter((each) => each.realm === realm);
    const bytes = mine.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    const { path } = row;
    if (bytes !== usage.bytes) wrong.push(`files in realm ${path} use ${bytes} bytes, ${usage.bytes} are counted`);
    if (mine.length !== usage.inodes)
      wrong.push(`there are ${mine.length} inodes in realm ${path}, ${usage.inodes} are counted`);
    if (usage.trashBytes !== 0)
      wrong.push(`the trash of realm ${path} is empty, ${usage.trashBytes} bytes are counted`);
    if (row.mergedInto !== 0 && mine.length > 0)
      wrong.push(`${mine.length} inodes lie in realm ${path}, which is gone`);
  }
  return wrong;
}

function wrongPlaces({ realms, inodes, names }: RealmRows): string[] {
  const roots = new Set([...realms.values()].filter(({ row }) => row.mergedInto === 0).map(({ row }) => row.root));
  return names.flatMap(({ parent, inode }) => {
    const [directory, named] = [inodes.get(parent)?.realm, inodes.get(inode)?.realm];
    if (directory === named) return [];
    const begins = roots.has(inode) && realms.get(named as RealmId)?.row.root === inode;
    return begins ? [] : [`inode ${inode} lies in realm ${named}, its directory ${parent} in realm ${directory}`];
  });
}
