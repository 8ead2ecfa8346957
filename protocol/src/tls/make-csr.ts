/**
 * A new key and the certificate request for it (T5): one URI, for servers the DNS name of T2, no common name. Keys are
 * Ed25519 and made anew for every request, so a renewal also replaces the key. Loading this file costs a tenth of a
 * second (the X.509 library), so programs import it when they need it.
 */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { type SpiffeId, serverDnsName } from './spiffe-id.ts';

export interface CertificateRequest {
  /** PKCS#10, DER. */
  readonly csr: Buffer;
  /** PKCS#8, PEM: never leaves this machine. */
  readonly keyPem: string;
}

export async function makeCsr(id: SpiffeId): Promise<CertificateRequest> {
  const keys = await makeKeys();
  const dnsName = serverDnsName(id);
  const names = [
    { type: 'url' as const, value: id.uri },
    ...(dnsName === undefined ? [] : [{ type: 'dns' as const, value: dnsName }]),
  ];
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: { name: 'Ed25519' },
    extensions: [new SubjectAlternativeNameExtension(names)],
  });
  return { csr: Buffer.from(request.rawData), keyPem: await keyPemOf(keys.privateKey) };
}

export async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
}

export async function keyPemOf(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n`;
}
