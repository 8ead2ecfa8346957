/**
 * `collective init`: a context, with a certificate that was made elsewhere, or better one that the member issues for a
 * key made here against a one-time token: nobody copies keys about (T3).
 */
import { userInfo } from 'node:os';
import { wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import type { ContextStore, ResolvedContext } from '@collective/client';
import type { Invitation, InvitedRole } from '@collective/protocol/tls/invitation';
import type { Command } from 'commander';
import {
  type NamedToken,
  parseNamedToken,
  readInvitation,
  requireCertificate,
  trustDomainOfBundle,
} from '../enrolment-token.ts';
import { readStandardInput, readTextFile } from '../given-text.ts';
import { connectTo, withDeadline } from '../member-session.ts';
import { CERTIFICATE_VIEW, readCertificateFacts } from '../output/certificate-view.ts';
import { printOne } from '../output/table.ts';
import { flagOf } from '../settings/settings.ts';
import { type Shell, say } from '../shell.ts';
import { trustDomainFlag } from '../trust-domain-flag.ts';
import { globalOptions, ownCoordinatorFlag, verb } from '../verb.ts';

interface InitOptions {
  readonly name?: string;
  readonly member?: string;
  readonly memberId?: string;
  readonly collective?: string;
  readonly caCert?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly token?: string;
  readonly invitation?: string;
  readonly user?: string;
  readonly current?: boolean;
  readonly force?: boolean;
  readonly offline?: boolean;
}

interface Wanted {
  readonly name: string;
  readonly coordinator: string;
  readonly invitation?: Invitation;
  readonly trustDomain: TrustDomain;
  readonly bundlePem: string;
  readonly credentials: string;
}

export function initCommand(shell: Shell): Command {
  const command = verb('init', {
    summary: 'make a context: how to reach a member, and a certificate for it',
    description: `With --token a key is made here and the member signs it, in a cluster its operator, which takes a few seconds; the token
is good once. An invitation is such a token together with address, name and roots ('collective token create --invitation' and
'token bootstrap' print one). With --cert and --key files that exist are copied. Certificates lie in a folder per context that
only you can read.`,
    examples: [
      {
        line: 'collective init alice --coordinator alice.example:7420 --ca-cert alice.pem --token T',
        says: 'with a one-time token',
      },
      { line: 'collective token create --for user/anna', says: "makes the token, on the member's side" },
      {
        line: 'collective init --invitation anna.invitation',
        says: 'with an invitation, which says all of it',
      },
      {
        line: 'collective init --coordinator :7420 --member bob --ca-cert ca.pem --cert c.pem --key k.pem',
        says: 'with a certificate that exists',
      },
    ],
    idle: ['context'],
  });
  return ownCoordinatorFlag(command, 'address of its coordinator')
    .argument('[name]', 'name of the context; default: the member')
    .option('--name <name>', 'the same')
    .option('--member <name>', 'member, or MEMBER.COLLECTIVE')
    .option('--member-id <name>', 'the same')
    .option('--collective <name>', 'the collective of the member (default: home)')
    .option('--ca-cert <file>', "the member's trust bundle (trust.pem), got from its owner")
    .option('--cert <file>', 'a certificate that exists')
    .option('--key <file>', 'its private key')
    .option('--token <token>', "a one-time token, or '-' to read it from standard input  [COLLECTIVE_TOKEN]")
    .option('--invitation <file>', "an invitation, or '-' to read it from standard input")
    .option('--user <name>', 'the name that the token was made for, where the token does not say it')
    .option('--current', 'make it the current context')
    .option('--force', 'replace a context of this name')
    .option('--offline', 'do not test the connection afterwards')
    .action(async (argument: string | undefined, options: InitOptions, command: Command) => {
      const globals = globalOptions(command);
      const { ContextStore, contextLocation } = await import('@collective/client');
      const store = new ContextStore(contextLocation(shell.env));
      const wanted = await readWanted(shell, store, argument, options, globals.coordinator);
      await withDeadline(shell, globals, async (signal) => {
        if (options.cert !== undefined || options.key !== undefined) await copyIdentity(shell, wanted, options);
        else
          await enrolWith(
            wanted,
            wanted.invitation ?? parseNamedToken(await readToken(shell, options)),
            options,
            signal,
          );
        const context = await store.set(
          wanted.name,
          { coordinator: wanted.coordinator, trustDomain: wanted.trustDomain, credentials: wanted.credentials },
          { use: options.current === true },
        );
        const facts = await readCertificateFacts(context.credentials, wallMs(shell.clock));
        await printOne(shell, globals.output, facts, CERTIFICATE_VIEW);
        if (!globals.quiet) await sayResult(shell, context);
        if (!options.offline) await tryConnection(shell, context, signal);
      });
    });
}

async function readWanted(
  shell: Shell,
  store: ContextStore,
  argument: string | undefined,
  options: InitOptions,
  coordinator: string | undefined,
): Promise<Wanted> {
  const need = (flag: string): never => {
    throw new CollectiveError('invalid_argument', `Make a context: ${flag} is missing`);
  };
  if (options.invitation !== undefined) return await invited(shell, store, argument, options, coordinator);
  if (coordinator === undefined) return need('--coordinator HOST:PORT');
  if (options.caCert === undefined) return need('--ca-cert FILE');
  if ((options.cert === undefined) !== (options.key === undefined))
    return need(options.cert ? '--key FILE' : '--cert FILE');
  const bundlePem = await readTextFile(shell, options.caCert, '--ca-cert');
  requireCertificate(bundlePem, `--ca-cert ${options.caCert}`);
  const member = options.member ?? options.memberId;
  const trustDomain =
    member === undefined ? trustDomainOfBundle(bundlePem) : trustDomainFlag(member, options.collective);
  if (trustDomain === undefined) return need('--member NAME');
  const name = await freeName(store, argument, options, trustDomain);
  return { name, coordinator, trustDomain, bundlePem, credentials: store.credentialsOf(name) };
}

/** Flags that say the same in other words would leave open which of them counts. */
async function invited(
  shell: Shell,
  store: ContextStore,
  argument: string | undefined,
  options: InitOptions,
  given: string | undefined,
): Promise<Wanted> {
  const { invitation: file = '', caCert, cert, key, token, user, member, memberId } = options;
  const twice = Object.entries({ caCert, cert, key, token, user, member: member ?? memberId }).find(
    ([, value]) => value,
  );
  if (twice !== undefined)
    throw new CollectiveError('invalid_argument', `Use --invitation: it says what ${flagOf(twice[0])} would say`);
  const invitation = await readInvitation(shell, file);
  const { trustDomain, bundlePem } = invitation;
  const coordinator = given ?? invitation.coordinator;
  if (coordinator === undefined)
    throw new CollectiveError(
      'invalid_argument',
      'Make a context: the invitation does not say where the coordinator is; --coordinator HOST:PORT does',
      {
        todo: "To a member in a cluster that has no address outside, 'kubectl collective context import MEMBER --invitation FILE' forwards ports.",
      },
    );
  const name = await freeName(store, argument, options, trustDomain);
  return { name, coordinator, invitation, trustDomain, bundlePem, credentials: store.credentialsOf(name) };
}

async function freeName(
  store: ContextStore,
  argument: string | undefined,
  options: InitOptions,
  trustDomain: TrustDomain,
): Promise<string> {
  const name = argument ?? options.name ?? trustDomain.slice(0, trustDomain.indexOf('.'));
  const exists = (await store.list()).some((one) => one.name === name);
  if (exists && !options.force) {
    throw new CollectiveError('exists', `Make context '${name}': there is one of this name; --force replaces it`);
  }
  return name;
}

async function copyIdentity(shell: Shell, wanted: Wanted, options: InitOptions): Promise<void> {
  const [{ writeTrustFiles }, { parseTrustSet }] = await Promise.all([
    import('@collective/protocol/tls/trust-files'),
    import('@collective/protocol/tls/trust-set'),
  ]);
  const pems = {
    certificatePem: await readTextFile(shell, options.cert ?? '', '--cert'),
    keyPem: await readTextFile(shell, options.key ?? '', '--key'),
    bundlePem: wanted.bundlePem,
  };
  const set = parseTrustSet(pems, '--cert, --key and --ca-cert');
  if (set.id.trustDomain !== wanted.trustDomain) {
    throw new CollectiveError(
      'wrong_member',
      `Make context '${wanted.name}' for ${wanted.trustDomain}: the certificate is ${set.id.uri}`,
    );
  }
  await writeTrustFiles(wanted.credentials, pems);
}

async function enrolWith(
  wanted: Wanted,
  token: Invitation | NamedToken,
  options: InitOptions,
  signal: AbortSignal,
): Promise<void> {
  const { enrol } = await import('@collective/client');
  const { role, name } = token;
  const secret = 'secret' in token ? token.secret : token.token;
  await enrol({
    coordinator: wanted.coordinator,
    trustDomain: wanted.trustDomain,
    caPem: wanted.bundlePem,
    token: secret,
    role: role ?? ('user' satisfies InvitedRole),
    name: options.user ?? name ?? userInfo().username,
    credentials: wanted.credentials,
    signal,
  });
}

async function readToken(shell: Shell, options: InitOptions): Promise<string> {
  const token = options.token ?? shell.env.COLLECTIVE_TOKEN;
  if (token === undefined || token === '') {
    throw new CollectiveError(
      'invalid_argument',
      "Make a context: give --token (made by 'collective token create --for user/NAME' on the member's side), or --cert and --key",
    );
  }
  if (token !== '-') return token;
  return (await readStandardInput(shell)).trim();
}

async function sayResult(shell: Shell, context: ResolvedContext): Promise<void> {
  await say(shell, `Context '${context.name}' is ready${context.current ? ' and the current one' : ''}.`);
  if (!context.current) await say(shell, `  collective config use-context ${context.name}`);
}

/** The context is there either way: who is offline now may be online later. */
async function tryConnection(shell: Shell, context: ResolvedContext, signal: AbortSignal): Promise<void> {
  await using member = await connectTo(context, signal);
  await say(shell, `Reached the coordinator of ${member.session.trustDomain}, version ${member.session.version}.`);
}
