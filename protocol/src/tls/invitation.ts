/**
 * An invitation: all that somebody needs to enrol with a member, as one text that can be piped, pasted or laid into a folder:
 * whose member it is, for which name, the one-time token and the roots to trust. Whoever has it first may use it once (T3).
 *
 *     collective-invitation: 1
 *     member: alice.home
 *     coordinator: alice.example:7420          (where the inviter knows it)
 *     for: user/anna
 *     token: col1-...
 *     -----BEGIN CERTIFICATE-----
 */
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import { parseTrustDomain } from './spiffe-id.ts';

export type InvitedRole = 'user' | 'client' | 'node';

export interface Invitation {
  readonly trustDomain: TrustDomain;
  /** `host:port`, as the invited one reaches it. */
  readonly coordinator?: string;
  readonly role: InvitedRole;
  readonly name: string;
  readonly token: string;
  readonly bundlePem: string;
}

const FORMAT = 1;
const ROLES: readonly InvitedRole[] = ['user', 'client', 'node'];
/** A bundle holds a few roots. */
export const INVITATION_CHARACTERS_MAX = 256 * 1024;

export function formatInvitation({ trustDomain, coordinator, role, name, token, bundlePem }: Invitation): string {
  return [
    `collective-invitation: ${FORMAT}`,
    `member: ${trustDomain}`,
    ...(coordinator === undefined ? [] : [`coordinator: ${coordinator}`]),
    `for: ${role}/${name}`,
    `token: ${token}`,
    `${bundlePem.trim()}\n`,
  ].join('\n');
}

/** Throws `token_invalid` naming `source`, and never what the text says: it may be secret. */
export function parseInvitation(text: string, source: string): Invitation {
  const malformed = (why: string): CollectiveError =>
    new CollectiveError('token_invalid', `Read the invitation ${source}: ${why}`);
  if (text.length > INVITATION_CHARACTERS_MAX)
    throw malformed(`it has more than ${INVITATION_CHARACTERS_MAX} characters`);
  const begins = text.indexOf('-----BEGIN CERTIFICATE-----');
  const head = new Map<string, string>();
  for (const line of text.slice(0, Math.max(0, begins)).split('\n')) {
    const [, key, value] = /^([a-z-]+): (\S+)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) head.set(key, value);
  }
  const format = head.get('collective-invitation');
  if (format === undefined)
    throw malformed("it is none (its first line is 'collective-invitation: 1', below stand certificates)");
  if (format !== String(FORMAT))
    throw new CollectiveError(
      'version_too_new',
      `Read the invitation ${source}: its format is not ${FORMAT}; a newer program wrote it`,
    );
  const needed = (key: string): string => {
    const value = head.get(key);
    if (value === undefined) throw malformed(`its line '${key}: ...' is missing`);
    return value;
  };
  const [role, name, ...rest] = needed('for').split('/');
  const known = ROLES.find((one) => one === role);
  if (known === undefined || name === undefined || name === '' || rest.length > 0)
    throw malformed(`it is for none of ${ROLES.map((one) => `${one}/NAME`).join(', ')}`);
  const coordinator = head.get('coordinator');
  return {
    trustDomain: parseTrustDomain(needed('member')),
    ...(coordinator === undefined ? {} : { coordinator }),
    role: known,
    name,
    token: needed('token'),
    bundlePem: `${text.slice(begins).trim()}\n`,
  };
}
