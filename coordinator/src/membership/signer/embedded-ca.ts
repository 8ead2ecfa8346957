/**
 * The member's own authority (T1, T4): an Ed25519 key in the data folder that signs leaves in process. Its certificate
 * carries critical name constraints, so that even its thief cannot speak for another member. The folder appears as a whole
 * or not at all; the key never leaves it.
 */
import 'reflect-metadata';
import { X509Certificate as NodeCertificate, webcrypto } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Clock, wallMs } from '@collective/base/clock';
import { fileError } from '@collective/base/disk/file-error';
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import type { CheckedRequest } from '@collective/protocol/tls/check-csr';
import { keyPemOf, makeKeys } from '@collective/protocol/tls/make-csr';
import { serverDnsName } from '@collective/protocol/tls/spiffe-id';
import { syncFolder, writeSynced } from '@collective/protocol/tls/synced-files';
import { AsnConvert } from '@peculiar/asn1-schema';
import {
  GeneralName,
  GeneralSubtree,
  GeneralSubtrees,
  id_ce_nameConstraints,
  NameConstraints,
} from '@peculiar/asn1-x509';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import type { IssuedLeaf, Signer } from './signer.ts';

const DAY_MS = 86_400_000;
const CA_VALIDITY_MS = 3_650 * DAY_MS;
const SERVER_VALIDITY_MS = 90 * DAY_MS;
const USER_VALIDITY_MS = 30 * DAY_MS;
/** Clocks of peers may lag behind ours by so much. */
const BACKDATED_MS = 300_000;
const CERTIFICATE = 'ca.crt';
const KEY = 'ca.key';
const ABOUT = 'generation.json';
const FORMAT = 1;
const ALGORITHM = { name: 'Ed25519' };

export interface EmbeddedCaOptions {
  /** `<data>/ca`. */
  readonly folder: string;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly random: Random;
}

export class EmbeddedCa implements Signer {
  readonly #options: EmbeddedCaOptions;
  readonly #certificate: X509Certificate;
  readonly #key: webcrypto.CryptoKey;

  /** Opens the authority, or makes it. Throws `wrong_member` when the folder holds another member's. */
  static async open(options: EmbeddedCaOptions): Promise<EmbeddedCa> {
    const { folder, trustDomain } = options;
    try {
      const found = (await readAuthority(folder)) ?? (await makeAuthority(options));
      if (found.trustDomain !== trustDomain)
        throw new CollectiveError(
          'wrong_member',
          `Open the authority in ${folder} for ${trustDomain}: it is that of ${found.trustDomain}`,
        );
      const key = await reading(folder, KEY, () =>
        webcrypto.subtle.importKey('pkcs8', pemToDer(found.keyPem), ALGORITHM, false, ['sign']),
      );
      const certificate = await reading(folder, CERTIFICATE, async () => new X509Certificate(found.certificatePem));
      return new EmbeddedCa(options, certificate, key);
    } catch (thrown) {
      if (thrown instanceof CollectiveError) throw thrown;
      throw fileError(`Make the authority in ${folder}`, thrown);
    }
  }

  private constructor(options: EmbeddedCaOptions, certificate: X509Certificate, key: webcrypto.CryptoKey) {
    this.#options = options;
    this.#certificate = certificate;
    this.#key = key;
  }

  bundlePem(): string {
    return `${this.#certificate.toString('pem')}\n`;
  }

  get notBeforeMs(): number {
    return this.#certificate.notBefore.getTime();
  }

  get notAfterMs(): number {
    return this.#certificate.notAfter.getTime();
  }

  get subject(): string {
    return this.#certificate.subject;
  }

  async sign({ id, publicKey }: CheckedRequest): Promise<IssuedLeaf> {
    const { clock, random, trustDomain } = this.#options;
    const nowMs = wallMs(clock);
    const dnsName = serverDnsName(id);
    const serves = dnsName !== undefined;
    const notAfterMs = Math.min(nowMs + (serves ? SERVER_VALIDITY_MS : USER_VALIDITY_MS), this.notAfterMs);
    const key = new PublicKey(publicKey);
    const leaf = await X509CertificateGenerator.create({
      serialNumber: serialNumber(random),
      subject: `O=${trustDomain}`,
      issuer: this.#certificate.subject,
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(notAfterMs),
      publicKey: key,
      signingKey: this.#key,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(
          serves ? [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth] : [ExtendedKeyUsage.clientAuth],
        ),
        new SubjectAlternativeNameExtension([
          { type: 'url', value: id.uri },
          ...(serves ? [{ type: 'dns' as const, value: dnsName }] : []),
        ]),
        await SubjectKeyIdentifierExtension.create(key),
        await AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
      ],
    });
    const certificatePem = `${leaf.toString('pem')}\n`;
    return { certificatePem, notAfterMs: new NodeCertificate(certificatePem).validToDate.getTime() };
  }
}

interface StoredAuthority {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly trustDomain: string;
}

async function readAuthority(folder: string): Promise<StoredAuthority | undefined> {
  let about: string;
  try {
    about = await readFile(join(folder, ABOUT), 'utf8');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw fileError(`Read ${join(folder, ABOUT)}`, thrown);
    // The folder comes as a whole, by one rename: without this file it has lost it.
    const left = await readdir(folder).catch(() => []);
    if (left.length > 0) throw new CollectiveError('store_damaged', `Read ${join(folder, ABOUT)}: it is missing`);
    return undefined;
  }
  const { format, trustDomain } = await reading(
    folder,
    ABOUT,
    async () => JSON.parse(about) as { format?: unknown; trustDomain?: unknown },
  );
  if (typeof format !== 'number' || typeof trustDomain !== 'string')
    throw new CollectiveError('store_damaged', `Read ${join(folder, ABOUT)}: it has no format or trust domain`);
  if (format > FORMAT)
    throw new CollectiveError(
      'version_too_new',
      `Read ${folder}: its format is ${format}, this program knows ${FORMAT}`,
    );
  const read = (name: string): Promise<string> => reading(folder, name, () => readFile(join(folder, name), 'utf8'));
  const [certificatePem, keyPem] = await Promise.all([read(CERTIFICATE), read(KEY)]);
  return { certificatePem, keyPem, trustDomain };
}

/** A file that is not there, or holds something else, is damage; one that may not be read is a matter of rights. */
async function reading<T>(folder: string, name: string, act: () => Promise<T>): Promise<T> {
  const what = `Read ${join(folder, name)}`;
  try {
    return await act();
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    const ofFiles = typeof code === 'string' && /^E[A-Z]+$/.test(code) && code !== 'ENOENT';
    throw ofFiles ? fileError(what, thrown) : new CollectiveError('store_damaged', what, { cause: thrown });
  }
}

async function makeAuthority({ folder, trustDomain, clock, random }: EmbeddedCaOptions): Promise<StoredAuthority> {
  const keys = await makeKeys();
  const nowMs = wallMs(clock);
  const generation = 1;
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(random),
    // A new generation must have another name: peers look issuers up by it.
    name: `O=${trustDomain}, CN=Collective CA ${trustDomain} g${generation}`,
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + CA_VALIDITY_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      new Extension(id_ce_nameConstraints, true, nameConstraints(trustDomain)),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const stored = {
    certificatePem: `${certificate.toString('pem')}\n`,
    keyPem: await keyPemOf(keys.privateKey),
    trustDomain,
  };
  const aside = `${folder}.new`;
  await rm(aside, { recursive: true, force: true });
  await mkdir(aside, { recursive: true, mode: 0o700 });
  await writeSynced(join(aside, CERTIFICATE), stored.certificatePem, 0o644);
  await writeSynced(join(aside, KEY), stored.keyPem, 0o600);
  await writeSynced(join(aside, ABOUT), `${JSON.stringify({ format: FORMAT, generation, trustDomain })}\n`, 0o644);
  await syncFolder(aside);
  await rename(aside, folder);
  await syncFolder(dirname(folder));
  return stored;
}

/** URI hosts must equal the domain; DNS names lie in or below it (RFC 5280, 4.2.1.10). */
function nameConstraints(domain: string): ArrayBuffer {
  const permitted = [new GeneralName({ dNSName: domain }), new GeneralName({ uniformResourceIdentifier: domain })];
  return AsnConvert.serialize(
    new NameConstraints({
      permittedSubtrees: new GeneralSubtrees(permitted.map((base) => new GeneralSubtree({ base }))),
    }),
  );
}

/** 127 random bits: positive, and never zero in its first byte. */
function serialNumber(random: Random): string {
  const bytes = random.bytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

function pemToDer(pem: string): Buffer {
  return Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
}
