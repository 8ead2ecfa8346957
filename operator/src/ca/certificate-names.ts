/** What the objects of a member's certificates are called. A leaf's Certificate and its Secret have one name. */
import type { Member } from '../api/member.ts';
import { labelsOf, namesOf } from '../member/names.ts';

export interface CertificateNames {
  readonly selfSigned: string;
  /** Certificate, Secret and Issuer of a generation. */
  authority(generation: number): string;
  readonly trust: string;
  /** Where spec.users says nothing else. */
  user(user: string): string;
}

export function certificateNames(member: string): CertificateNames {
  return {
    selfSigned: `${member}-self-signed`,
    authority: (generation) => `${member}-ca-g${generation}`,
    trust: namesOf(member).trust,
    user: (user) => `${member}-user-${user}`,
  };
}

/** Undefined for a name that is no generation's. */
export function generationOf(member: string, name: string): number | undefined {
  const digits = name.startsWith(`${member}-ca-g`) ? name.slice(member.length + 5) : '';
  return /^[1-9][0-9]{0,8}$/.test(digits) ? Number(digits) : undefined;
}

/** By these the operator finds what it made, Secrets that cert-manager writes for it included. */
export function certificateLabels({ metadata, spec }: Member): Record<string, string> {
  return labelsOf({ member: metadata.name, collective: spec.collectiveRef.name });
}
