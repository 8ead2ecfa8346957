/** The certificates of `spec.users` (T3a): each in a Secret of its own, for clients only. */
import type { Member } from '../api/member.ts';
import { certificateNames } from '../ca/certificate-names.ts';
import type { LeafWish } from '../ca/certificate-picture.ts';

export function userLeaves({ metadata, spec }: Member, trustDomain: string): readonly LeafWish[] {
  return (spec.users ?? []).map(({ name, secretName }) => ({
    name: secretName ?? certificateNames(metadata.name).user(name),
    uri: `spiffe://${trustDomain}/user/${name}`,
    usages: 'client',
  }));
}
