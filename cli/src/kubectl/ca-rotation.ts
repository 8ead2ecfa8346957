/** What the order to rotate an authority means for a Member, and how far it is (T6). Pure. */
import { CollectiveError } from '@collective/base/errors';
import { counted } from '../output/counted.ts';
import { ANNOTATIONS, conditionOf, leavesOf, type MemberObject } from './member-object.ts';

/** Throws when a rotation cannot begin now. */
export function rotationOrder(member: MemberObject, value: string): Readonly<Record<string, string>> {
  const { metadata, spec, status } = member;
  const what = `Rotate the authority of ${metadata.name}`;
  const look = `'kubectl collective status ${metadata.name}' shows it.`;
  if (spec?.external !== undefined) {
    throw new CollectiveError('unsupported', `${what}: it lives outside this cluster, as does its authority`, {
      todo: 'Rotate it where it runs.',
    });
  }
  const { ca } = status ?? {};
  if (ca?.generation === undefined) throw new CollectiveError('busy', `${what}: it has none yet`, { todo: look });
  if (ca.phase !== undefined && ca.phase !== 'Stable') {
    throw new CollectiveError('busy', `${what}: generation ${ca.generation} is under way already (${ca.phase})`, {
      todo: `Wait for its end: ${look}`,
    });
  }
  const waiting = metadata.annotations?.[ANNOTATIONS.rotateCa];
  if (waiting !== undefined && waiting !== ca.handledTrigger) {
    throw new CollectiveError('busy', `${what}: an earlier order (${waiting}) has not been begun yet`, {
      todo: spec?.maintenance?.paused ? 'The member is paused: set spec.maintenance.paused to false.' : look,
    });
  }
  return { [ANNOTATIONS.rotateCa]: value };
}

/** Everybody who is connected has a certificate of the new authority. The old root may be trusted for days, for those who are away. */
export function isRotated({ status }: MemberObject, value: string): boolean {
  const { handledTrigger, phase } = status?.ca ?? {};
  return handledTrigger === value && (phase === 'Retiring' || phase === 'Stable');
}

export function rotatedText({ metadata, status }: MemberObject): string {
  const { generation = 0, phase, oldRootsUntil } = status?.ca ?? {};
  const done = `All certificates of ${metadata.name} are of generation ${generation}`;
  if (phase === 'Stable') return `${done}, which alone is trusted.`;
  const until = oldRootsUntil === undefined ? 'for a while' : `until ${oldRootsUntil}`;
  return `${done}. The earlier authority is trusted ${until} for those who are away; then the operator removes it.`;
}

const STEPS: Readonly<Record<string, string>> = {
  Creating: 'the new authority is being made',
  Distributing: 'everybody learns to trust the new authority',
  Reissuing: 'certificates are issued anew',
  Retiring: 'the old authority is trusted until nobody needs it',
};

export function rotationStep(member: MemberObject, value: string): string {
  const { ca } = member.status ?? {};
  const stalled = conditionOf(member, 'Stalled');
  if (stalled?.status === 'True') return `STALLED: ${stalled.message ?? stalled.reason}`;
  if (member.spec?.maintenance?.paused) return 'Waiting: the member is paused (spec.maintenance.paused)';
  const { phase = 'Stable', generation = 0 } = ca ?? {};
  if (ca?.handledTrigger !== value && phase === 'Stable') return 'Waiting for the operator';
  const left = leavesOf(member).filter((one) => (one.generation ?? 0) < generation).length;
  const count = phase === 'Reissuing' ? `, ${counted(left, 'certificate')} left` : '';
  const holdup = conditionOf(member, 'CertificatesReady');
  const why = holdup?.status === 'False' && holdup.message ? ` (${holdup.message})` : '';
  return `Generation ${generation}, ${phase}: ${STEPS[phase] ?? 'the operator works on it'}${count}${why}`;
}
