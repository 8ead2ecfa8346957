/**
 * The name constraints of a member's authority (T1; RFC 5280, 4.2.1.10): it may speak for its own trust domain and nothing else.
 * Written here byte by byte, so that whoever made a certificate, it can be told whether it is held to its domain.
 */
import type { X509Certificate } from 'node:crypto';

/** Extension 2.5.29.30, then BOOLEAN true: critical. */
const CRITICAL_NAME_CONSTRAINTS = Buffer.from('0603551d1e0101ff', 'hex');

/** NameConstraints { permittedSubtrees [0] { dNSName [2], uniformResourceIdentifier [6] } }. */
export function nameConstraintsDer(domain: string): Buffer {
  const subtree = (tag: number): Buffer => der(0x30, der(tag, Buffer.from(domain, 'ascii')));
  return der(0x30, der(0xa0, Buffer.concat([subtree(0x82), subtree(0x86)])));
}

/** Whether this authority is held, critically, to just this domain. */
export function isHeldTo(authority: X509Certificate, domain: string): boolean {
  return authority.raw.includes(Buffer.concat([CRITICAL_NAME_CONSTRAINTS, der(0x04, nameConstraintsDer(domain))]));
}

function der(tag: number, content: Buffer): Buffer {
  const length = content.length < 128 ? [content.length] : [0x81, content.length];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}
