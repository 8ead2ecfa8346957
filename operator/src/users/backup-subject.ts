/** The subject of the backup job: an administrator, while the Member asks for backups (T3a). */
import { BACKUP_USER } from '../member/plan-leaves.ts';
import type { SubjectOrder, SubjectSeen, SubjectsPlan } from './plan-subjects.ts';

const SUBJECT: SubjectOrder = {
  role: 'user',
  name: BACKUP_USER,
  admin: true,
  trusted: false,
  realms: [{ path: '/', readOnly: true }],
};

export function backupSubjects(
  isWanted: boolean,
  subjects: readonly SubjectSeen[] | undefined,
): Pick<SubjectsPlan, 'puts' | 'removals'> {
  if (subjects === undefined) return { puts: [], removals: [] };
  const isThere = subjects.some(({ role, name }) => role === SUBJECT.role && name === BACKUP_USER);
  return {
    puts: isWanted && !isThere ? [SUBJECT] : [],
    removals: !isWanted && isThere ? [BACKUP_USER] : [],
  };
}
