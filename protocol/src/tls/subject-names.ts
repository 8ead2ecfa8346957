/**
 * The names in a leaf, read strictly: one URI, at most one DNS name, nothing else (T1, T2). Whatever does not match as a
 * whole is refused, so that no odd spelling of a second name slips through between two parsers.
 */
import type { X509Certificate } from 'node:crypto';
import { CollectiveError } from '@collective/base/errors';

export interface SubjectNames {
  readonly uri: string;
  readonly dnsName: string | undefined;
}

// Node quotes values with unusual characters; those match neither form.
const URI_PART = /^URI:(spiffe:\/\/[a-z0-9.-]+\/[a-z0-9/._-]+)$/;
const DNS_PART = /^DNS:([a-z0-9.-]+)$/;

export function subjectNamesOf(leaf: X509Certificate): SubjectNames {
  const text = leaf.subjectAltName ?? '';
  const uris: string[] = [];
  const dnsNames: string[] = [];
  for (const part of text.split(', ')) {
    const uri = URI_PART.exec(part)?.[1];
    const dnsName = DNS_PART.exec(part)?.[1];
    if (uri !== undefined) uris.push(uri);
    else if (dnsName !== undefined) dnsNames.push(dnsName);
    else
      throw new CollectiveError(
        'unauthenticated',
        `Read the names of a certificate: '${part}' is neither a SPIFFE URI nor a DNS name`,
      );
  }
  const [uri] = uris;
  if (uri === undefined || uris.length > 1) {
    throw new CollectiveError(
      'unauthenticated',
      `Read the names of a certificate: it has ${uris.length} URIs instead of one (${text})`,
    );
  }
  if (dnsNames.length > 1) {
    throw new CollectiveError(
      'unauthenticated',
      `Read the names of a certificate: it has ${dnsNames.length} DNS names (${text})`,
    );
  }
  return { uri, dnsName: dnsNames[0] };
}

export function subjectUriOf(leaf: X509Certificate): string {
  return subjectNamesOf(leaf).uri;
}
