/**
 * The PEM files in a Secret of type kubernetes.io/tls, and the certificates in them. An object of a cache is the same until it
 * changes, so what was read out of it is kept with it: a plan of many leaves costs no cryptography when nothing has changed.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { isIssuedBy } from '@collective/protocol/tls/trust-set';
import type { KubeObject } from '../kube/kube-object.ts';

/** More is not looked at: no chain of ours is that long. */
const PEM_BYTES_MAX = 256 * 1024;

export interface TlsPair {
  readonly certificate: X509Certificate;
  readonly keyFits: boolean;
}

const pairs = new WeakMap<KubeObject, TlsPair | undefined>();
const bundles = new WeakMap<KubeObject, readonly X509Certificate[]>();
const signers = new WeakMap<X509Certificate, Map<string, boolean>>();

/** Undefined when its tls.crt is no certificate. */
export function tlsPairOf(secret: KubeObject): TlsPair | undefined {
  if (pairs.has(secret)) return pairs.get(secret);
  const certificate = parseCertificate(secretText(secret, 'tls.crt'));
  const pair =
    certificate === undefined
      ? undefined
      : { certificate, keyFits: keyFits(certificate, secretText(secret, 'tls.key')) };
  pairs.set(secret, pair);
  return pair;
}

/** The roots in a ConfigMap's file. */
export function bundleIn(configMap: KubeObject | undefined, file: string): readonly X509Certificate[] {
  if (configMap === undefined) return [];
  const known = bundles.get(configMap);
  if (known !== undefined) return known;
  const text = ((configMap.data ?? {}) as Readonly<Record<string, unknown>>)[file];
  const roots = typeof text === 'string' ? certificatesIn(text) : [];
  bundles.set(configMap, roots);
  return roots;
}

/** `isIssuedBy`, asked once for each pair. */
export function isSignedBy(leaf: X509Certificate, root: X509Certificate): boolean {
  const known = signers.get(leaf) ?? new Map<string, boolean>();
  signers.set(leaf, known);
  const answer = known.get(root.fingerprint256) ?? isIssuedBy(leaf, root);
  known.set(root.fingerprint256, answer);
  return answer;
}

/** Empty when there is none. */
export function secretText(secret: KubeObject | undefined, key: string): string {
  const value = ((secret?.data ?? {}) as Readonly<Record<string, unknown>>)[key];
  return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : '';
}

/** All that can be read; what cannot is left out. */
export function certificatesIn(pem: string): X509Certificate[] {
  if (pem.length > PEM_BYTES_MAX) return [];
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.flatMap((block) => parseCertificate(block) ?? []);
}

export function parseCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    // Whoever asks says what is missing.
    return undefined;
  }
}

export function keyFits(certificate: X509Certificate, keyPem: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(keyPem));
  } catch {
    // What is no key does not fit.
    return false;
  }
}

/** SHA-256, hex: as it stands in a Member's status. */
export function fingerprintOf(certificate: X509Certificate): string {
  return bareFingerprint(certificate.fingerprint256);
}

export function bareFingerprint(fingerprint: string): string {
  return fingerprint.replaceAll(':', '').toLowerCase();
}
