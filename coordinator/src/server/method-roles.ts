/**
 * Which role may call what (T3): a node may not do what a client does, nor a client what a node does. Rights within a role
 * (administrator or not, which realms) are looked up in the subject's row by those who serve the call.
 */
import { CollectiveError } from '@collective/base/errors';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { PeerRole } from '@collective/protocol/tls/spiffe-id';

const PEOPLE: readonly PeerRole[] = ['user', 'client', 'operator'];

/** `Enrolment/Enrol` is missing here: it is the one method without a peer. */
export const METHOD_ROLES = {
  'Files/Session': ['user', 'client'],
  'Membership/Link': ['node'],
  'Admin/GetStatus': PEOPLE,
  'Admin/WhoAmI': ['user', 'client', 'operator', 'node'],
  'Admin/CreateToken': PEOPLE,
  'Admin/ListSubjects': PEOPLE,
  'Admin/PutSubject': PEOPLE,
  'Admin/RemoveSubject': PEOPLE,
  'Admin/CreateRealm': PEOPLE,
  'Admin/SetRealm': PEOPLE,
  'Admin/DeleteRealm': PEOPLE,
  'Admin/ListJobs': PEOPLE,
  'Admin/ListRealms': PEOPLE,
  'Admin/SetNodeDuty': PEOPLE,
  'Admin/GetNodeHolding': PEOPLE,
  'Admin/RemoveNode': PEOPLE,
  'Admin/ScrubNode': PEOPLE,
  'Admin/RebalanceNodes': PEOPLE,
  'Admin/GetRebalance': PEOPLE,
  'Admin/ListEvents': PEOPLE,
  'Admin/SettleLosses': PEOPLE,
  'Admin/GetMaintenance': PEOPLE,
  'Admin/SetMaintenance': PEOPLE,
  'Admin/CreateBackup': PEOPLE,
  'Admin/ReportBackup': PEOPLE,
  // Names and contents of files: the operator administers without access to them (T3a).
  'Admin/ListTrash': ['user', 'client'],
  'Admin/RestoreTrash': ['user', 'client'],
  'Admin/EmptyTrash': ['user', 'client'],
  'Admin/GetGarbage': PEOPLE,
  'Admin/ListGarbage': PEOPLE,
  'Admin/CollectGarbage': PEOPLE,
  'Admin/ListOrphans': PEOPLE,
  // What it signs with is not here, so it is asked to (T5).
  'Admin/ListCertificateRequests': ['operator'],
  'Admin/AnswerCertificateRequest': ['operator'],
  'Admin/RenewCertificate': ['user', 'client', 'operator', 'node'],
} as const satisfies Record<string, readonly PeerRole[]>;

export type Method = keyof typeof METHOD_ROLES;

export function checkRole(method: Method, peer: PeerIdentity): void {
  const allowed: readonly PeerRole[] = METHOD_ROLES[method];
  if (!allowed.includes(peer.role))
    throw new CollectiveError(
      'permission_denied',
      `Call ${method} as ${peer.uri}: it is for the roles ${allowed.join(', ')}`,
    );
}
