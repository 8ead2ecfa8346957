/**
 * The roots that a member trusts: those whose fingerprints stand in its status, and no others. Their certificates are
 * collected wherever they lie (the Secret of the authority, the published bundle, beside each leaf), so that a lost Secret or
 * ConfigMap takes no root away, and a foreign root that somebody put there does not come in.
 */
import type { X509Certificate } from 'node:crypto';
import type { CaGeneration } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import { certificateNames } from './certificate-names.ts';
import type { CertificatePicture } from './certificate-picture.ts';
import { TRUST_FILE } from './manifests/trust-config-map.ts';
import { bundleIn, certificatesIn, fingerprintOf, secretText, tlsPairOf } from './secret-data.ts';

export interface Root {
  readonly generation: number;
  readonly fingerprint: string;
  readonly certificate: X509Certificate;
  readonly notAfterMs: number;
}

/** All certificates of authorities that lie about, by fingerprint. They are found, not trusted. */
export function collectRoots({ member, secrets, configMaps }: CertificatePicture): Map<string, X509Certificate> {
  const found = new Map<string, X509Certificate>();
  const seenPems = new Set<string>();
  const keep = (certificate: X509Certificate): void => {
    if (certificate.ca) found.set(fingerprintOf(certificate), certificate);
  };
  publishedRoots(configMaps.get(certificateNames(member.metadata.name).trust)).forEach(keep);
  for (const secret of secrets.values()) {
    const beside = secretText(secret, 'ca.crt');
    if (!seenPems.has(beside)) certificatesIn(beside).forEach(keep);
    seenPems.add(beside);
    const own = tlsPairOf(secret)?.certificate;
    if (own !== undefined) keep(own);
  }
  return found;
}

/** What a trust ConfigMap says; nobody believes it for that. */
export function publishedRoots(configMap: KubeObject | undefined): readonly X509Certificate[] {
  return bundleIn(configMap, TRUST_FILE);
}

/** Newest first. A generation whose certificate lies nowhere any more is left out. */
export function rootsOf(
  generations: readonly CaGeneration[],
  found: ReadonlyMap<string, X509Certificate>,
): readonly Root[] {
  return generations.flatMap(({ generation, fingerprint }) => {
    const certificate = found.get(fingerprint);
    if (certificate === undefined) return [];
    return [{ generation, fingerprint, certificate, notAfterMs: certificate.validToDate.getTime() }];
  });
}
