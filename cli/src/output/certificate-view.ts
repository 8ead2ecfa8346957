/**
 * What `auth info` and `config show-context` say about the certificate in a folder. An expired or strange set is shown,
 * not refused: this is where people look when something is wrong.
 */
import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError, errorChain } from '@collective/base/errors';
import type { RowsView } from './table.ts';
import { isoTime } from './time.ts';

const DAY_MS = 86_400_000;
const EXPIRY_WARNING_MS = 30 * DAY_MS;
/** Certificates of a month would warn from their first day: they do when the time for their renewal has passed. */
const WARNING_SHARE = 1 / 3;

export type CertificateState = 'valid' | 'expires soon' | 'expired' | 'not yet valid';

export interface CertificateFacts {
  readonly file: string;
  readonly subject: string;
  /** The URI SAN: who this is. */
  readonly uri: string;
  readonly dnsNames: readonly string[];
  readonly issuer: string;
  readonly serial: string;
  readonly fingerprint256: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly leftMs: number;
  readonly state: CertificateState;
  /** 'verified', or what is wrong with chain and key; unset where only a certificate was given. */
  readonly chain?: string;
}

/** `path`: a folder with the three files of an identity, or one certificate in PEM. */
export async function readCertificateFacts(path: string, nowMs: number): Promise<CertificateFacts> {
  const isFolder = (await stat(path).catch((cause: unknown) => missing(path, cause))).isDirectory();
  const file = isFolder ? join(path, 'tls.crt') : path;
  const pem = await readFile(file, 'utf8').catch((cause: unknown) => missing(file, cause));
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(pem);
  } catch (cause) {
    throw new CollectiveError('invalid_argument', `Read ${file} as a certificate in PEM`, { cause });
  }
  const names = (leaf.subjectAltName ?? '').split(', ');
  const ofKind = (prefix: string): string[] =>
    names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  const notBeforeMs = leaf.validFromDate.getTime();
  const notAfterMs = leaf.validToDate.getTime();
  return {
    file,
    subject: leaf.subject?.replaceAll('\n', ', ') || '<empty>',
    uri: ofKind('URI:').join(', ') || '<none>',
    dnsNames: ofKind('DNS:'),
    issuer: leaf.issuer?.replaceAll('\n', ', ') || '<empty>',
    serial: leaf.serialNumber,
    fingerprint256: leaf.fingerprint256,
    notBefore: isoTime({ seconds: notBeforeMs / 1000, nanos: 0 }),
    notAfter: isoTime({ seconds: notAfterMs / 1000, nanos: 0 }),
    leftMs: notAfterMs - nowMs,
    state: stateOf(notBeforeMs, notAfterMs, nowMs),
    chain: isFolder ? await chainOf(path) : undefined,
  };
}

async function chainOf(folder: string): Promise<string> {
  const [{ readTrustPems }, { parseTrustSet }] = await Promise.all([
    import('@collective/protocol/tls/trust-files'),
    import('@collective/protocol/tls/trust-set'),
  ]);
  try {
    const set = parseTrustSet(await readTrustPems(folder), folder);
    const count = set.roots.length;
    return `verified: signed by ${count === 1 ? 'the root' : `one of the ${count} roots`} in trust.pem, key fits`;
  } catch (thrown) {
    return `NOT VALID: ${errorChain(thrown).join(': ')}`;
  }
}

function stateOf(notBeforeMs: number, notAfterMs: number, nowMs: number): CertificateState {
  if (nowMs < notBeforeMs) return 'not yet valid';
  if (nowMs >= notAfterMs) return 'expired';
  const warningMs = Math.min(EXPIRY_WARNING_MS, (notAfterMs - notBeforeMs) * WARNING_SHARE);
  return notAfterMs - nowMs <= warningMs ? 'expires soon' : 'valid';
}

function missing(path: string, cause: unknown): never {
  throw new CollectiveError('not_found', `Read the certificate in ${path}`, {
    cause,
    todo: "'collective init' makes one with a token; 'config set-context --credentials' names another folder.",
  });
}

export function validityText({ state, leftMs, notBefore, notAfter }: CertificateFacts): string {
  switch (state) {
    case 'expired':
      return `EXPIRED ${formatDurationMs(-leftMs)} ago, on ${notAfter}`;
    case 'not yet valid':
      return `NOT YET VALID: begins on ${notBefore}; is the clock of this machine right?`;
    case 'expires soon':
      return `${notBefore} to ${notAfter} (WARNING: ${formatDurationMs(leftMs)} left)`;
    default:
      return `${notBefore} to ${notAfter} (${formatDurationMs(leftMs)} left)`;
  }
}

export const CERTIFICATE_VIEW: RowsView<CertificateFacts> = {
  columns: [
    { header: 'File', cell: ({ file }) => file },
    { header: 'Subject', cell: ({ subject }) => subject },
    { header: 'URI', cell: ({ uri }) => uri },
    { header: 'DNS names', cell: ({ dnsNames }) => dnsNames.join(', ') || '<none>', wide: true },
    { header: 'Issuer', cell: ({ issuer }) => issuer },
    { header: 'Serial', cell: ({ serial }) => serial, wide: true },
    { header: 'Fingerprint', cell: ({ fingerprint256 }) => `SHA-256 ${fingerprint256}` },
    { header: 'Validity', cell: validityText },
    { header: 'Chain', cell: ({ chain }) => chain ?? '<not checked: one certificate alone>' },
  ],
  name: ({ uri }) => uri,
};
