/**
 * For tests only: an authority that signs whatever it is asked to, also what no real signer would (two URIs, an address,
 * dates in the past, another member's name), and requests for the same, so that tests can show who refuses them.
 */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import type { TrustDomain } from '@collective/base/ids';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  type PublicKey,
  SubjectAlternativeNameExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { keyPemOf, makeKeys } from './make-csr.ts';
import { nameConstraintsDer } from './name-constraints.ts';
import { type PeerRole, serverDnsName, spiffeId } from './spiffe-id.ts';
import { parseTrustSet, type TrustPems, type TrustSet } from './trust-set.ts';

const DAY_MS = 86_400_000;

export interface ScratchName {
  readonly type: 'url' | 'dns' | 'ip' | 'email';
  readonly value: string;
}

export interface ScratchLeaf {
  readonly names: readonly ScratchName[];
  readonly subject?: string;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly serverAuth?: boolean;
}

export interface ScratchAuthorityOptions {
  /** Without name constraints. */
  readonly unconstrained?: boolean;
  readonly generation?: number;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

export class ScratchAuthority {
  readonly trustDomain: TrustDomain;
  /** PKCS#8. */
  readonly keyPem: string;
  readonly #signingKey: webcrypto.CryptoKey;
  readonly #certificate: X509Certificate;

  /** Name constraints hold the trust domain, as T1 demands; `unconstrained` leaves them out. */
  static async create(
    trustDomain: TrustDomain,
    { unconstrained = false, generation = 1, notBefore, notAfter }: ScratchAuthorityOptions = {},
  ): Promise<ScratchAuthority> {
    const keys = await makeKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned({
      name: `CN=scratch ${trustDomain} g${generation}, O=${trustDomain}`,
      keys,
      signingAlgorithm: { name: 'Ed25519' },
      notBefore: notBefore ?? new Date(Date.now() - 40 * DAY_MS),
      notAfter: notAfter ?? new Date(Date.now() + 400 * DAY_MS),
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        ...(unconstrained ? [] : [new Extension('2.5.29.30', true, nameConstraintsDer(trustDomain))]),
      ],
    });
    return new ScratchAuthority(trustDomain, await keyPemOf(keys.privateKey), keys.privateKey, certificate);
  }

  /** An authority that exists already: what its key can be abused for once it is stolen. */
  static async load(
    trustDomain: TrustDomain,
    { certificatePem, keyPem }: { certificatePem: string; keyPem: string },
  ): Promise<ScratchAuthority> {
    const der = Buffer.from(keyPem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
    const key = await webcrypto.subtle.importKey('pkcs8', der, 'Ed25519', false, ['sign']);
    return new ScratchAuthority(trustDomain, keyPem, key, new X509Certificate(certificatePem));
  }

  private constructor(
    trustDomain: TrustDomain,
    keyPem: string,
    signingKey: webcrypto.CryptoKey,
    certificate: X509Certificate,
  ) {
    this.trustDomain = trustDomain;
    this.keyPem = keyPem;
    this.#signingKey = signingKey;
    this.#certificate = certificate;
  }

  get bundlePem(): string {
    return `${this.#certificate.toString('pem')}\n`;
  }

  /** A leaf as a real signer would make it. */
  async peer(role: PeerRole, name = '', dates: Pick<ScratchLeaf, 'notBefore' | 'notAfter'> = {}): Promise<TrustSet> {
    const id = spiffeId(this.trustDomain, role, name);
    const dnsName = serverDnsName(id);
    const pems = await this.leaf({
      ...dates,
      names: [
        { type: 'url', value: id.uri },
        ...(dnsName === undefined ? [] : [{ type: 'dns' as const, value: dnsName }]),
      ],
      serverAuth: dnsName !== undefined,
    });
    return parseTrustSet(pems, 'a scratch peer');
  }

  async leaf(leaf: ScratchLeaf): Promise<TrustPems> {
    const keys = await makeKeys();
    return {
      certificatePem: await this.#certify(leaf, keys.publicKey),
      keyPem: await keyPemOf(keys.privateKey),
      bundlePem: this.bundlePem,
    };
  }

  /** What a request asks for, for the key that it holds. */
  async sign(csr: Uint8Array, { serverAuth = false }: Pick<ScratchLeaf, 'serverAuth'> = {}): Promise<string> {
    const request = new Pkcs10CertificateRequest(Buffer.from(csr));
    const asked = request.extensions.find((extension) => extension instanceof SubjectAlternativeNameExtension);
    const names = (asked?.names.items ?? []) as readonly ScratchName[];
    return await this.#certify({ names, serverAuth }, request.publicKey);
  }

  async #certify(
    { names, subject = `O=${this.trustDomain}`, notBefore, notAfter, serverAuth = true }: ScratchLeaf,
    publicKey: webcrypto.CryptoKey | PublicKey,
  ): Promise<string> {
    const certificate = await X509CertificateGenerator.create({
      subject,
      issuer: this.#certificate.subject,
      publicKey,
      signingKey: this.#signingKey,
      signingAlgorithm: { name: 'Ed25519' },
      notBefore: notBefore ?? new Date(Date.now() - DAY_MS),
      notAfter: notAfter ?? new Date(Date.now() + 30 * DAY_MS),
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(
          serverAuth ? [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth] : [ExtendedKeyUsage.clientAuth],
        ),
        new SubjectAlternativeNameExtension([...names]),
      ],
    });
    return `${certificate.toString('pem')}\n`;
  }
}

/** A request for any names at all, in DER; `curve` takes a key that is not Ed25519. */
export async function scratchCsr({
  names,
  subject,
  curve,
}: {
  readonly names: readonly ScratchName[];
  readonly subject?: string;
  readonly curve?: 'P-256';
}): Promise<Buffer> {
  const ecdsa = { name: 'ECDSA', namedCurve: curve ?? 'P-256', hash: 'SHA-256' };
  const keys =
    curve === undefined ? await makeKeys() : await webcrypto.subtle.generateKey(ecdsa, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: curve === undefined ? { name: 'Ed25519' } : ecdsa,
    ...(subject === undefined ? {} : { name: subject }),
    extensions: names.length === 0 ? [] : [new SubjectAlternativeNameExtension([...names])],
  });
  return Buffer.from(request.rawData);
}
