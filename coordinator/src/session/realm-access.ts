/** The realms that a session may use, as it is told at attach and when they change. */
import type { RealmAccess } from '@collective/protocol/gen/session';
import type { OperationRun } from '../engine/operation-run.ts';
import { replicaRule } from '../ops/chunks.ts';
import { allRealms } from '../ops/realms.ts';
import type { Session } from './session.ts';

export function realmAccesses(tx: OperationRun, session: Session): RealmAccess[] {
  return allRealms(tx).flatMap(({ realm, row }) => {
    const right = session.realmRight(realm);
    if (right === undefined) return [];
    const { wanted, needed } = replicaRule(row);
    return [
      {
        realm,
        root: row.root,
        path: row.path,
        readOnly: right === 'ro',
        replicas: wanted,
        minReplicas: needed,
        compression: !row.compressionOff,
        within: false,
      },
    ];
  });
}
