/**
 * What comes back for a kept request is looked at before anybody gets it (T5): it must be a leaf of this member for just the
 * key and the names that were asked for, with the usages of its role, that peers accept now.
 */
import { X509Certificate } from 'node:crypto';
import type { Clock } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { CheckedRequest } from '@collective/protocol/tls/check-csr';
import { identifyPeer } from '@collective/protocol/tls/peer-identity';
import { serverDnsName } from '@collective/protocol/tls/spiffe-id';
import { subjectNamesOf } from '@collective/protocol/tls/subject-names';
import type { IssuedLeaf } from './signer.ts';

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const PEM_CHARACTERS_MAX = 64 * 1024;

/** Throws `invalid_argument` naming what is wrong. */
export function checkSignedLeaf(
  certificatePem: string,
  { id, publicKey }: Pick<CheckedRequest, 'id' | 'publicKey'>,
  { roots, clock }: { readonly roots: readonly X509Certificate[]; readonly clock: Clock },
): IssuedLeaf {
  const refuse = (why: string, cause?: unknown): never => {
    throw new CollectiveError('invalid_argument', `Take the certificate that was signed for ${id.uri}: ${why}`, {
      cause,
    });
  };
  const leaf = parse(certificatePem) ?? refuse('it cannot be read');
  if (!leaf.publicKey.export({ type: 'spki', format: 'der' }).equals(publicKey)) refuse('its key is another');
  const dnsName = serverDnsName(id);
  try {
    const names = subjectNamesOf(leaf);
    if (names.uri !== id.uri || names.dnsName !== dnsName) refuse(`its names are ${leaf.subjectAltName}`);
    identifyPeer(leaf, { trustDomain: id.trustDomain, roots }, clock);
  } catch (thrown) {
    const { code, message } = toCollectiveError(thrown, 'Look at its names');
    if (code === 'invalid_argument') throw thrown;
    refuse(message, thrown);
  }
  const usages = [...(leaf.keyUsage ?? [])].sort();
  const wanted = dnsName === undefined ? [CLIENT_AUTH] : [SERVER_AUTH, CLIENT_AUTH];
  if (usages.join() !== wanted.toSorted().join()) refuse(`it is for the usages ${usages.join(', ') || 'of anything'}`);
  // What may follow the leaf is not looked at, so it is not handed on.
  return { certificatePem: leaf.toString(), notAfterMs: leaf.validToDate.getTime() };
}

function parse(certificatePem: string): X509Certificate | undefined {
  try {
    return certificatePem.length > PEM_CHARACTERS_MAX ? undefined : new X509Certificate(certificatePem);
  } catch {
    return undefined;
  }
}
