/** `--member alice --collective home`, or both at once as `--member alice.home` (T1). */
import { parseMemberName, type TrustDomain, trustDomainOf } from '@collective/base/ids';

export const COLLECTIVE_DEFAULT = 'home';

export function trustDomainFlag(member: string, collective: string | undefined): TrustDomain {
  const dot = member.indexOf('.');
  if (dot >= 0 && collective === undefined) {
    return trustDomainOf(parseMemberName(member.slice(0, dot)), member.slice(dot + 1));
  }
  return trustDomainOf(parseMemberName(member), collective ?? COLLECTIVE_DEFAULT);
}
