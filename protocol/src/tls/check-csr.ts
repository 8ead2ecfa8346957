/**
 * Checks a certificate request as a whole (T5): it must be signed with the Ed25519 key that it holds, name exactly the URI
 * that its sender was allowed and, for servers, the one DNS name of T2, and ask for nothing else. What the signer would
 * ignore is refused as well: a request that asks for more than it may was not made by our programs.
 */
import 'reflect-metadata';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { Pkcs10CertificateRequest, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { type SpiffeId, serverDnsName } from './spiffe-id.ts';

const CSR_BYTES_MAX = 4_096;
const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17';
const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
/** How a request that is signed with Ed25519 ends: the algorithm, the head of a bit string, then 64 bytes. */
const SIGNATURE_HEAD = Buffer.from('300506032b6570034100', 'hex');
const SIGNATURE_BYTES = 64;
/** SubjectPublicKeyInfo of an Ed25519 key: this, then 32 bytes. */
const ED25519_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

export interface CheckedRequest {
  /** The one name that the leaf will carry; a server's DNS name follows from it (T2). */
  readonly id: SpiffeId;
  /** SubjectPublicKeyInfo, DER, Ed25519. */
  readonly publicKey: Buffer;
  /** The request itself, PKCS#10, DER. */
  readonly csr: Buffer;
}

/** Throws `csr_refused` naming the offending part. */
export async function checkCsr(csr: Uint8Array, allowed: SpiffeId): Promise<CheckedRequest> {
  const refuse = (why: string, cause?: unknown): never => {
    throw new CollectiveError('csr_refused', `Sign a certificate for ${allowed.uri}: ${why}`, { cause });
  };
  if (csr.length === 0 || csr.length > CSR_BYTES_MAX)
    refuse(`the request has ${csr.length} bytes; 1 to ${CSR_BYTES_MAX} are possible`);
  if (outerLength(csr) !== csr.length) refuse('the request has a wrong length in its head');
  const request = parse(csr, allowed);
  const publicKey = Buffer.from(request.publicKey.rawData);
  if (
    publicKey.length !== ED25519_PREFIX.length + 32 ||
    !publicKey.subarray(0, ED25519_PREFIX.length).equals(ED25519_PREFIX)
  )
    refuse('its key is not Ed25519');
  if (!signatureHead(csr).equals(SIGNATURE_HEAD)) refuse('its signature is not Ed25519');
  if (!(await hasItsKey(request))) refuse('it is not signed with its own key');
  if (/(^|,)\s*(CN|2\.5\.4\.3)\s*=/i.test(request.subject))
    refuse(`its subject '${request.subject}' has a common name`);
  const [attribute, ...otherAttributes] = request.attributes;
  if (attribute?.type !== EXTENSION_REQUEST || otherAttributes.length > 0)
    refuse('it must have one attribute, the request for extensions');
  const [extension, ...otherExtensions] = request.extensions;
  if (extension?.type !== SUBJECT_ALTERNATIVE_NAME || otherExtensions.length > 0)
    refuse(
      `it asks for the extensions ${request.extensions.map(({ type }) => type).join(', ')}; only the subject's names (${SUBJECT_ALTERNATIVE_NAME}) may be asked for`,
    );
  checkNames(extension instanceof SubjectAlternativeNameExtension ? extension.names.items : [], allowed, refuse);
  return { id: allowed, publicKey, csr: Buffer.from(csr) };
}

function checkNames(
  names: readonly { type: string; value: string }[],
  allowed: SpiffeId,
  refuse: (why: string) => never,
): void {
  const wanted = [`url:${allowed.uri}`];
  const dnsName = serverDnsName(allowed);
  if (dnsName !== undefined) wanted.push(`dns:${dnsName}`);
  const asked = names.map(({ type, value }) => `${type}:${value}`);
  const foreign = asked.filter((name) => !wanted.includes(name));
  if (foreign.length > 0) refuse(`it asks for the name ${foreign[0]}; it may have ${wanted.join(' and ')}`);
  if (asked.length !== wanted.length || new Set(asked).size !== wanted.length)
    refuse(`it must ask for ${wanted.join(' and ')}, each once, and asks for ${asked.join(', ')}`);
}

function parse(csr: Uint8Array, allowed: SpiffeId): Pkcs10CertificateRequest {
  try {
    return new Pkcs10CertificateRequest(Buffer.from(csr));
  } catch (thrown) {
    throw new CollectiveError('csr_refused', `Sign a certificate for ${allowed.uri}: the request cannot be read`, {
      cause: toCollectiveError(thrown, 'Read a PKCS#10 request'),
    });
  }
}

/** Of the DER SEQUENCE that all of a request is. No signature covers it, and the library reads on past a wrong one. */
function outerLength(der: Uint8Array): number {
  const [tag = 0, first = 0, second = 0, third = 0] = der;
  if (tag !== 0x30) return 0;
  if (first < 0x80) return 2 + first;
  if (first === 0x81) return 3 + second;
  return first === 0x82 ? 4 + second * 256 + third : 0;
}

function signatureHead(csr: Uint8Array): Buffer {
  return Buffer.from(csr.subarray(-SIGNATURE_BYTES - SIGNATURE_HEAD.length, -SIGNATURE_BYTES));
}

async function hasItsKey(request: Pkcs10CertificateRequest): Promise<boolean> {
  try {
    return await request.verify();
  } catch {
    // A signature algorithm that does not fit the key is a wrong signature.
    return false;
  }
}
