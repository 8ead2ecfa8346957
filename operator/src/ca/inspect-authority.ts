/**
 * The Secret of one generation of an authority: whether it holds what a member may trust. Nobody is trusted for having written
 * it; it must be an Ed25519 authority, made by itself, held to the member's domain, with the key that belongs to it.
 */
import type { X509Certificate } from 'node:crypto';
import { isHeldTo } from '@collective/protocol/tls/name-constraints';
import type { KubeObject } from '../kube/kube-object.ts';
import { fingerprintOf, isSignedBy, tlsPairOf } from './secret-data.ts';

export type AuthoritySeen =
  | { readonly state: 'absent' }
  /** cert-manager puts right by itself what is incomplete. */
  | { readonly state: 'incomplete'; readonly why: string }
  | { readonly state: 'unfit'; readonly why: string }
  | {
      readonly state: 'fit';
      readonly fingerprint: string;
      readonly certificate: X509Certificate;
      readonly notBeforeMs: number;
      readonly notAfterMs: number;
    };

export function inspectAuthority(secret: KubeObject | undefined, trustDomain: string): AuthoritySeen {
  if (secret === undefined) return { state: 'absent' };
  const pair = tlsPairOf(secret);
  if (pair === undefined) return { state: 'incomplete', why: 'its tls.crt is not a certificate' };
  const { certificate } = pair;
  if (!pair.keyFits) return { state: 'incomplete', why: 'its tls.key does not belong to its tls.crt' };
  const why = unfitBecause(certificate, trustDomain);
  if (why !== undefined) return { state: 'unfit', why };
  return {
    state: 'fit',
    fingerprint: fingerprintOf(certificate),
    certificate,
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs: certificate.validToDate.getTime(),
  };
}

function unfitBecause(certificate: X509Certificate, trustDomain: string): string | undefined {
  if (!certificate.ca) return 'it is not an authority';
  if (certificate.publicKey.asymmetricKeyType !== 'ed25519') return 'its key is not Ed25519';
  if (!isSignedBy(certificate, certificate)) return 'it was not made by itself';
  if (!isHeldTo(certificate, trustDomain))
    return `it has no critical name constraints for ${trustDomain} and nothing else (cert-manager makes them with its feature gate NameConstraints, which is on by default)`;
  return undefined;
}
