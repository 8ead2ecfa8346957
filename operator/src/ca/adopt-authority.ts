/**
 * Where a Member's status says nothing of an authority: it begins with generation 1, or, created again after it was deleted
 * with the policy Retain, finds what was kept (K3). Only what carries this member's labels and is held to its trust domain counts.
 */
import { ANNOTATIONS } from '../api/group.ts';
import type { CaGeneration, CaState } from '../api/member.ts';
import type { PlannedEvent } from '../member/plan-types.ts';
import { generationOf } from './certificate-names.ts';
import type { CertificatePicture } from './certificate-picture.ts';
import type { AuthoritySeen } from './inspect-authority.ts';
import { handled } from './plan-generations.ts';

export interface Adopted {
  readonly ca: CaState;
  readonly events: readonly PlannedEvent[];
}

export function adoptAuthority(picture: CertificatePicture, authorities: ReadonlyMap<number, AuthoritySeen>): Adopted {
  const { member, nowMs, certificates } = picture;
  const since = new Date(nowMs).toISOString();
  const generations = [...authorities]
    .sort(([a], [b]) => b - a)
    .flatMap(([generation, seen]) => (seen.state === 'fit' ? [keptGeneration(picture, generation, seen)] : []));
  const begun = [...certificates.keys()].map((name) => generationOf(member.metadata.name, name) ?? 0);
  const newest = Math.max(1, ...authorities.keys(), ...begun);
  if (generations.length === 0)
    return { ca: { generation: newest, phase: 'Creating', since, ...handled(picture), generations }, events: [] };
  // What was being made when the Member went is gone on with.
  const isMade = generations[0]?.generation === newest;
  const phase = isMade ? (generations.length === 1 ? 'Stable' : 'Distributing') : 'Creating';
  const kept = generations.map(({ generation }) => `g${generation}`).join(', ');
  return {
    ca: { generation: newest, phase, since, ...handled(picture), generations },
    events: [{ type: 'Normal', reason: 'AuthorityFound', message: `The kept authority is in use again: ${kept}` }],
  };
}

function keptGeneration(
  { member, certificates }: CertificatePicture,
  generation: number,
  { fingerprint, notBeforeMs, notAfterMs }: Extract<AuthoritySeen, { state: 'fit' }>,
): CaGeneration {
  const certificate = [...certificates].find(([name]) => generationOf(member.metadata.name, name) === generation)?.[1];
  const specHash = certificate?.metadata.annotations?.[ANNOTATIONS.caSettings];
  return {
    generation,
    fingerprint,
    notAfter: new Date(notAfterMs).toISOString(),
    created: new Date(notBeforeMs).toISOString(),
    ...(specHash === undefined ? {} : { specHash }),
  };
}
