/**
 * `kubectl collective context import MEMBER`: a context for `collective`, with the certificate of a user of the member that lies in
 * a Secret, or with one that the member signs for an invitation.
 */
import { CollectiveError } from '@collective/base/errors';
import { type Command, Option } from 'commander';
import { readInvitation } from '../../enrolment-token.ts';
import { type Shell, say, writeOut } from '../../shell.ts';
import { openWay } from '../../way.ts';
import { type ContextOfMember, planImport, planInvited } from '../context-import.ts';
import { type KubeObject, RESOURCES } from '../kube-object.ts';
import { kubeNoun, kubeVerb } from '../kube-verb.ts';
import type { MemberObject } from '../member-object.ts';
import { type ClusterSession, memberOf, withCluster } from '../with-cluster.ts';

interface ImportOptions {
  readonly user?: string;
  readonly invitation?: string;
  readonly name?: string;
  readonly via?: 'external' | 'port-forward';
  readonly current?: boolean;
}

export function contextCommand(shell: Shell): Command {
  return kubeNoun(
    'context',
    "make contexts for 'collective' from members",
    [importVerb(shell)],
    [{ line: 'kubectl collective context import alice', says: "then 'collective ls' shows the files of alice" }],
  );
}

function importVerb(shell: Shell): Command {
  return kubeVerb('import', {
    summary: "make a context for 'collective' from a member and one of its users",
    description:
      "The user's certificate is copied from its Secret into a folder that only you can read, and renewed by 'collective' itself from then on.\nWith an invitation ('collective token create --invitation') no Secret is read: the key is made here, and the member signs it.\nA member with an address for the outside is dialled there. Any other is reached through the apiserver: 'collective' forwards a port to\nthe coordinator, and one to each node that it needs, for as long as a command runs. That takes the rights that kubectl port-forward takes.",
    examples: [
      { line: 'kubectl collective context import alice', says: 'when it has one user' },
      { line: 'kubectl collective context import alice --user anna --name home --current', says: 'one of several' },
      { line: 'kubectl collective context import alice --invitation ben.invitation', says: 'for whom it was made' },
      { line: 'kubectl collective context import alice --via port-forward', says: 'although it is exposed' },
    ],
  })
    .argument('<member>', 'the Member')
    .option('--user <name>', 'one of its spec.users; default: the only one')
    .option('--invitation <file>', "an invitation, or '-' to read it from standard input")
    .option('--name <context>', 'name of the context; default: that of the member')
    .addOption(viaOption())
    .option('--current', 'make it the current context')
    .action(async (name: string, options: ImportOptions, command: Command) => {
      await withCluster(shell, command, async (session) => {
        await importContext(shell, session, name, options);
      });
    });
}

function viaOption(): Option {
  return new Option(
    '--via <way>',
    'external or port-forward; default: external where the member has an address',
  ).choices(['external', 'port-forward']);
}

async function importContext(
  shell: Shell,
  session: ClusterSession,
  name: string,
  options: ImportOptions,
): Promise<void> {
  if (options.user !== undefined && options.invitation !== undefined)
    throw new CollectiveError('invalid_argument', 'Use --invitation: it says what --user would say');
  const member = await memberOf(session, name);
  const { ContextStore, contextLocation } = await import('@collective/client');
  const store = new ContextStore(contextLocation(shell.env));
  const contextName = options.name ?? name;
  const taken = (await store.list()).find((one) => one.name === contextName);
  if (taken !== undefined && taken.trustDomain !== member.status?.trustDomain) {
    throw new CollectiveError('exists', `Make context '${contextName}': there is one for ${taken.trustDomain}`, {
      todo: 'Choose another name by --name.',
    });
  }
  const credentials = store.credentialsOf(contextName);
  const { subject, settings } = await (options.invitation === undefined
    ? copyIdentity(session, member, options, credentials)
    : enrolWith(shell, session, { member, contextName, credentials, via: options.via, file: options.invitation }));
  const made = await store.set(contextName, { ...settings, credentials }, { use: options.current === true });
  await writeOut(shell.stdout, `${contextName}\n`);
  if (session.options.quiet) return;
  const way = made.via === undefined ? `at ${made.coordinator}` : 'by ports forwarded through the apiserver';
  await say(shell, `Context '${contextName}': ${subject}, ${way}.`);
  await say(shell, `Try: collective ${made.current ? '' : `--context ${contextName} `}ls -l /`);
}

/** What the folder of a context now holds, and what else the context says. */
interface Identity {
  readonly subject: string;
  readonly settings: ContextOfMember;
}

async function copyIdentity(
  session: ClusterSession,
  member: MemberObject,
  options: ImportOptions,
  credentials: string,
): Promise<Identity> {
  const { api, signal } = session;
  const { name, namespace: at = session.namespace } = member.metadata;
  const { context, kubeconfig } = api.cluster;
  const plan = planImport(member, { user: options.user, via: options.via, kubernetes: { context, kubeconfig } });
  const [secret, bundle] = await Promise.all([
    api.find(RESOURCES.secrets, at, plan.secretName, signal),
    api.find(RESOURCES.configMaps, at, plan.bundleName, signal),
  ]);
  const what = `Take the certificate of user ${plan.user} of ${name}`;
  const pems = {
    certificatePem: dataOf(secret, 'tls.crt', what, plan.secretName, name),
    keyPem: dataOf(secret, 'tls.key', what, plan.secretName, name),
    bundlePem: textOf(bundle, 'trust.pem', what, plan.bundleName, name),
  };
  const [{ writeTrustFiles }, { parseTrustSet }] = await Promise.all([
    import('@collective/protocol/tls/trust-files'),
    import('@collective/protocol/tls/trust-set'),
  ]);
  // What does not fit together is found here, not by the first command.
  const identity = parseTrustSet(pems, `Secret ${plan.secretName} and ConfigMap ${plan.bundleName}`);
  await writeTrustFiles(credentials, pems);
  return { subject: identity.id.uri, settings: plan.settings };
}

interface Invited {
  readonly member: MemberObject;
  readonly contextName: string;
  readonly credentials: string;
  readonly via: ImportOptions['via'];
  /** Of the invitation. */
  readonly file: string;
}

/** The key is made here (T3); the coordinator is asked on the way that the context takes from then on. */
async function enrolWith(
  shell: Shell,
  { api, signal }: ClusterSession,
  { member, contextName, credentials, via, file }: Invited,
): Promise<Identity> {
  const { context, kubeconfig } = api.cluster;
  const invitation = await readInvitation(shell, file);
  const settings = planInvited(member, invitation, { via, kubernetes: { context, kubeconfig } });
  const { enrol } = await import('@collective/client');
  await using way = await openWay(shell, { name: contextName, via: settings.via }, signal);
  const { trustDomain, role, name, token, bundlePem: caPem } = invitation;
  const coordinator = way.changes.coordinator ?? settings.coordinator;
  try {
    const { subject } = await enrol({ coordinator, trustDomain, caPem, token, role, name, credentials, signal });
    return { subject, settings };
  } catch (thrown) {
    throw way.explain(thrown);
  }
}

function dataOf(secret: KubeObject | undefined, key: string, what: string, secretName: string, member: string): string {
  const { data = {} } = (secret ?? {}) as { data?: Readonly<Record<string, string>> };
  const value = data[key];
  if (value !== undefined && value !== '') return Buffer.from(value, 'base64').toString('utf8');
  throw new CollectiveError(
    'busy',
    `${what}: Secret ${secretName} ${secret === undefined ? 'is not there yet' : `has no ${key}`}`,
    {
      todo: `'kubectl collective certs ${member} -o wide' says how far it is.`,
    },
  );
}

function textOf(object: KubeObject | undefined, key: string, what: string, name: string, member: string): string {
  const { data = {} } = (object ?? {}) as { data?: Readonly<Record<string, string>> };
  const value = data[key];
  if (value !== undefined && value !== '') return value;
  throw new CollectiveError(
    'busy',
    `${what}: ConfigMap ${name} ${object === undefined ? 'is not there yet' : `has no ${key}`}`,
    {
      todo: `'kubectl collective status ${member}' says how far it is.`,
    },
  );
}
