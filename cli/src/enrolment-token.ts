/**
 * One-time tokens as people pass them on: `user/anna:col1-...`. The member itself knows a token by its secret alone; the
 * name in front saves its receiver from having to say it again, in the same words, when the request is made.
 */
import { X509Certificate } from 'node:crypto';
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import type { Invitation, InvitedRole } from '@collective/protocol/tls/invitation';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import { readStandardInput, readTextFile } from './given-text.ts';
import type { Shell } from './shell.ts';

export interface NamedToken {
  readonly secret: string;
  readonly role?: InvitedRole;
  readonly name?: string;
}

const ROLES: readonly InvitedRole[] = ['user', 'client', 'node'];

export function formatNamedToken(role: InvitedRole, name: string, secret: string): string {
  return `${role}/${name}:${secret}`;
}

export function parseNamedToken(text: string): NamedToken {
  const match = /^([a-z]+)\/([^/:]+):(\S+)$/.exec(text.trim());
  if (match === null) return { secret: text.trim() };
  const [, role, name, secret = ''] = match;
  const known = ROLES.find((one) => one === role);
  if (known === undefined) {
    throw new CollectiveError('token_invalid', `Read the token: '${role}' is none of ${ROLES.join(', ')}`);
  }
  return { secret, role: known, name };
}

/** `file`: "-" is standard input. */
export async function readInvitation(shell: Shell, file: string): Promise<Invitation> {
  const { parseInvitation } = await import('@collective/protocol/tls/invitation');
  const text = file === '-' ? await readStandardInput(shell) : await readTextFile(shell, file, '--invitation');
  const invitation = parseInvitation(text, file);
  requireCertificate(invitation.bundlePem, `--invitation ${file}`);
  return invitation;
}

/** Throws `invalid_argument` naming the file, for whoever gave another one. */
export function requireCertificate(bundlePem: string, given: string): void {
  try {
    new X509Certificate(bundlePem);
  } catch (cause) {
    throw new CollectiveError('invalid_argument', `Read ${given}: it holds no certificate in PEM`, {
      cause,
      todo: "It is the member's trust.pem: 'collective token create' says where its owner finds it.",
    });
  }
}

/** The trust domain that an embedded authority writes into its own name (`O=alice.home`), if it is one. */
export function trustDomainOfBundle(bundlePem: string): TrustDomain | undefined {
  try {
    const organization = /(?:^|\n)O=([^\n]+)/.exec(new X509Certificate(bundlePem).subject)?.[1];
    return organization === undefined ? undefined : parseTrustDomain(organization);
  } catch (thrown) {
    // A bundle that cannot be read is reported by the part that needs it; here it only names nobody.
    if (thrown instanceof Error) return undefined;
    throw thrown;
  }
}
