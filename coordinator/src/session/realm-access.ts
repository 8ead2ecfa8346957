/** The realms that a session may use, as it is told at attach and when they change. */
import type { RealmAccess } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import { replicaRule } from '../ops/chunks.ts';
import { realmPaths } from '../ops/realm-path.ts';
import { allRealms } from '../ops/realms.ts';
import type { Session } from './session.ts';

export function realmAccesses(tx: OperationRun, session: Session): RealmAccess[] {
  const realms = allRealms(tx).filter(({ realm }) => session.realmRight(realm) !== undefined);
  const paths = realmPaths(
    tx,
    realms.map(({ row }) => row),
  );
  return realms.flatMap(({ realm, row }) => {
    const right = session.realmRight(realm);
    if (right === undefined) return [];
    const { wanted, needed } = replicaRule(row);
    return [
      {
        realm,
        root: row.root,
        path: paths.get(row.root) ?? row.path,
        readOnly: right === 'ro',
        replicas: wanted,
        minReplicas: needed,
        compression: !row.compressionOff,
        // Paths lead to it through the realm whose rights it shares.
        within: row.rightsOf !== 0 && !session.rights.realms.some((each) => each.realm === realm),
      },
    ];
  });
}
