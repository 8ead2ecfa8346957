/**
 * `collective token create`: a one-time secret that lets one named peer in (T3, T3a). The token alone goes to stdout, so
 * that it can be piped; everything said about it goes to stderr.
 */

import { join } from 'node:path';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import { formatHostPort } from '@collective/base/host-port';
import type { ResolvedContext, SubjectRole, TokenRequest } from '@collective/client';
import { parseTrustDomain } from '@collective/protocol/tls/spiffe-id';
import type { Command } from 'commander';
import { formatNamedToken } from '../enrolment-token.ts';
import { withAdmin } from '../member-session.ts';
import { printOne } from '../output/table.ts';
import { isoTime } from '../output/time.ts';
import { remotePath } from '../remote-path.ts';
import { type HostPort, hostPort } from '../settings/settings.ts';
import { type Shell, say, writeOut } from '../shell.ts';
import { duration, flag, noun, verb, wholeNumber } from '../verb.ts';
import { tokenBootstrap } from './token-bootstrap.ts';

interface TokenOptions {
  readonly for: { readonly role: SubjectRole; readonly name: string };
  readonly ttl: number;
  readonly admin?: boolean;
  readonly trusted?: boolean;
  readonly realm?: { readonly path: string; readonly readOnly: boolean }[];
  readonly uid?: number;
  readonly invitation?: boolean;
  readonly advertise?: HostPort;
}

const TTL_DEFAULT_MS = 3_600_000;
const TTL_MIN_MS = 1_000;
const TTL_MAX_MS = 30 * 86_400_000;
const UID_MAX = 2 ** 32 - 2;
const ROLES: readonly SubjectRole[] = ['user', 'client', 'node'];

export function tokenCommand(shell: Shell): Command {
  const create = verb('create', {
    summary: 'create a one-time token for a user, client or node',
    description:
      'Whoever has the token may enrol once under that name until it expires. Without --admin, --trusted or --uid a user\nworks with a uid of its own. In a cluster the operator has signed what the token lets in within seconds.',
    examples: [
      { line: 'collective token create --for user/anna --ttl 1h', says: 'let anna in' },
      { line: 'collective token create --for node/attic', says: 'let a storage node in' },
      { line: 'collective token create --for user/ben --realm /photos:ro', says: 'one realm only, for reading' },
      {
        line: 'collective token create --for user/anna --invitation > anna.invitation',
        says: 'with all that anna needs',
      },
    ],
  })
    .requiredOption('--for <role/name>', 'user/NAME, client/NAME or node/NAME', flag(parseSubject))
    .addOption(duration('--ttl <duration>', 'how long it can be used', TTL_DEFAULT_MS))
    .option('--admin', 'may administer the member')
    .option('--trusted', 'its uids and gids are believed (for mounts)')
    .option('--realm <path[:ro]>', 'may use this realm only; can be repeated', collectRealm)
    .option('--uid <n>', 'all that it does is done as this uid', flag(wholeNumber('--uid', 0, UID_MAX)))
    .option('--invitation', 'print it together with address, name and roots, for --invitation of init and node')
    .option(
      '--advertise <host:port>',
      'where the invited one reaches the coordinator (default: where you do)',
      flag((text) => hostPort(text, '--advertise')),
    )
    .action(async (options: TokenOptions, command: Command) => {
      if (options.ttl < TTL_MIN_MS || options.ttl > TTL_MAX_MS) {
        throw new CollectiveError(
          'invalid_argument',
          `Read '${formatDurationMs(options.ttl)}' as --ttl: it lies between ${formatDurationMs(TTL_MIN_MS)} and ${formatDurationMs(TTL_MAX_MS)}`,
        );
      }
      await withAdmin(shell, command, async ({ admin, context, globals, signal }) => {
        const request: TokenRequest = {
          role: options.for.role,
          name: options.for.name,
          ttlSeconds: Math.round(options.ttl / 1000),
          admin: options.admin === true,
          trusted: options.trusted === true,
          realms: options.realm ?? [],
          uid: options.uid,
        };
        const issued = await admin.createToken(request, { signal });
        if (options.invitation) {
          const coordinator = options.advertise ? formatHostPort(options.advertise) : reachableCoordinator(context);
          await writeOut(shell.stdout, await invitationOf(context, { ...request, token: issued.token, coordinator }));
          if (!globals.quiet)
            await say(shell, `Good once for ${issued.subject}: for '--invitation' on the other side.`);
          return;
        }
        const created = { ...issued, token: formatNamedToken(options.for.role, options.for.name, issued.token) };
        if (globals.output === 'json' || globals.output === 'yaml') {
          await printOne(shell, globals.output, created, {
            columns: [],
            name: ({ subject }) => subject,
            object: ({ token, subject, expires }) => ({ token, subject, expires: expires && isoTime(expires) }),
          });
          return;
        }
        await printOne(shell, 'name', created, { columns: [], name: ({ token }) => token });
        if (globals.quiet) return;
        const until = created.expires === undefined ? '' : ` until ${isoTime(created.expires)}`;
        await say(shell, `Good once for ${created.subject}${until}. On the other side:`);
        // What leads through a cluster's apiserver is no address for others.
        const address = context.via === undefined ? context.coordinator : 'HOST:PORT';
        const where = `--coordinator ${address} --ca-cert trust.pem --token TOKEN`;
        const hint =
          options.for.role === 'node'
            ? `collective node ${where} --capacity 500GB --data DIR`
            : `collective init ${where}`;
        await say(shell, `  ${hint}`);
        if (context.via !== undefined)
          await say(
            shell,
            "HOST:PORT is where the member is reached from there: spec.exposure of the Member says where. Who may forward ports there needs none: '--invitation' makes what 'kubectl collective context import' takes.",
          );
        await say(shell, `trust.pem is ${join(context.credentials, 'trust.pem')} on this machine; it is no secret.`);
      });
    });
  return noun(
    'token',
    'create one-time tokens that let users and nodes in',
    [create, tokenBootstrap(shell)],
    [
      { line: 'collective token create --for user/anna', says: 'let anna in' },
      { line: 'collective token create --for node/attic', says: 'let a storage node in' },
    ],
  );
}

/** One that is reached by forwarded ports has an address of this moment on this machine only. */
function reachableCoordinator({ coordinator, via }: ResolvedContext): string | undefined {
  return via === undefined ? coordinator : undefined;
}

async function invitationOf(
  { credentials, trustDomain }: ResolvedContext,
  {
    role,
    name,
    token,
    coordinator,
  }: TokenRequest & { readonly token: string; readonly coordinator?: string | undefined },
): Promise<string> {
  const { readTrustPems } = await import('@collective/protocol/tls/trust-files');
  const { formatInvitation } = await import('@collective/protocol/tls/invitation');
  const { bundlePem } = await readTrustPems(credentials);
  const where = coordinator === undefined ? {} : { coordinator };
  return formatInvitation({ trustDomain: parseTrustDomain(trustDomain), role, name, token, bundlePem, ...where });
}

function parseSubject(text: string): TokenOptions['for'] {
  const [role, name, ...rest] = text.split('/');
  const known = ROLES.find((one) => one === role);
  if (known === undefined || name === undefined || name === '' || rest.length > 0) {
    throw new CollectiveError('invalid_argument', `Read '${text}' as --for: it is user/NAME, client/NAME or node/NAME`);
  }
  return { role: known, name };
}

function collectRealm(text: string, before: TokenOptions['realm'] = []): TokenOptions['realm'] {
  const readOnly = text.endsWith(':ro');
  const path = readOnly ? text.slice(0, -':ro'.length) : text.endsWith(':rw') ? text.slice(0, -':rw'.length) : text;
  return [...before, { path: remotePath(path), readOnly }];
}
