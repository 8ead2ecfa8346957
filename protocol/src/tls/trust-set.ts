/**
 * The three files of a peer as one checked value (T4): its leaf, the key that belongs to it, and the roots of its member.
 * A set that does not fit together is never built, so whoever holds one can use it without looking again.
 */
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { CollectiveError } from '@collective/base/errors';
import { parseSpiffeId, type SpiffeId } from './spiffe-id.ts';
import { subjectUriOf } from './subject-names.ts';

/** Roots in one bundle: the current authority, the one before, the one to come, and some room. */
const ROOTS_MAX = 16;
const PEM_BYTES_MAX = 256 * 1024;

export interface TrustPems {
  /** Leaf first. */
  readonly certificatePem: string;
  /** PKCS#8. */
  readonly keyPem: string;
  /** 1..n roots of the member. */
  readonly bundlePem: string;
}

export interface TrustSet extends TrustPems {
  readonly id: SpiffeId;
  readonly leaf: X509Certificate;
  readonly roots: readonly X509Certificate[];
  /** Of the root that the leaf chains to (T6). */
  readonly rootFingerprint256: string;
  /** Of the roots, whatever their order (T6): hex of SHA-256. */
  readonly bundleHash: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export function parseTrustSet(pems: TrustPems, where: string): TrustSet {
  const roots = parseBundle(pems.bundlePem, where);
  const leaf = parseCertificate(pems.certificatePem, `${where}: tls.crt`);
  let keyFits: boolean;
  try {
    keyFits = leaf.checkPrivateKey(createPrivateKey(pems.keyPem));
  } catch (cause) {
    throw new CollectiveError('unauthenticated', `Read ${where}: tls.key as a private key`, { cause });
  }
  if (!keyFits) throw new CollectiveError('unauthenticated', `Read ${where}: tls.key does not belong to tls.crt`);
  const root = roots.find((candidate) => isIssuedBy(leaf, candidate));
  if (root === undefined)
    throw new CollectiveError('unauthenticated', `Read ${where}: tls.crt was not signed by any root of trust.pem`);
  return {
    ...pems,
    id: parseSpiffeId(subjectUriOf(leaf)),
    leaf,
    roots,
    rootFingerprint256: root.fingerprint256,
    bundleHash: bundleHash(roots),
    notBeforeMs: leaf.validFromDate.getTime(),
    notAfterMs: leaf.validToDate.getTime(),
  };
}

export function isSameSet(a: TrustPems, b: TrustPems): boolean {
  return a.certificatePem === b.certificatePem && a.keyPem === b.keyPem && a.bundlePem === b.bundlePem;
}

export function parseBundle(bundlePem: string, where: string): X509Certificate[] {
  const blocks =
    bundlePem.length > PEM_BYTES_MAX
      ? []
      : (bundlePem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []);
  if (blocks.length === 0 || blocks.length > ROOTS_MAX) {
    throw new CollectiveError(
      'unauthenticated',
      `Read ${where}: trust.pem holds ${blocks.length} roots; 1 to ${ROOTS_MAX} are allowed`,
    );
  }
  return blocks.map((pem) => {
    const root = parseCertificate(pem, `${where}: trust.pem`);
    if (!root.ca)
      throw new CollectiveError(
        'unauthenticated',
        `Read ${where}: trust.pem holds '${root.subject}', which is not an authority`,
      );
    return root;
  });
}

export function bundleHash(roots: readonly X509Certificate[]): string {
  const prints = roots.map((root) => root.fingerprint256).sort();
  return createHash('sha256').update(prints.join('\n')).digest('hex');
}

/** Names alone prove nothing: the signature is verified, too. */
export function isIssuedBy(leaf: X509Certificate, root: X509Certificate): boolean {
  return leaf.checkIssued(root) && leaf.verify(root.publicKey);
}

function parseCertificate(pem: string, where: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new CollectiveError('unauthenticated', `Read ${where} as a certificate`, { cause });
  }
}
