/** `collective auth`: what the certificate says, what the coordinator says, and a new certificate. */

import { wallMs } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { Command } from 'commander';
import { chosenContext, withAdmin } from '../member-session.ts';
import {
  CERTIFICATE_VIEW,
  type CertificateFacts,
  readCertificateFacts,
  validityText,
} from '../output/certificate-view.ts';
import { printOne } from '../output/table.ts';
import { type Shell, say } from '../shell.ts';
import { globalOptions, noun, verb } from '../verb.ts';

export function authCommand(shell: Shell): Command {
  return noun(
    'auth',
    'look at, test and renew certificates',
    [infoVerb(shell), whoamiVerb(shell), renewVerb(shell)],
    [
      { line: 'collective auth info', says: 'what your certificate says, without dialling' },
      { line: 'collective auth whoami', says: 'what the coordinator says of you' },
      { line: 'collective auth renew', says: 'a new certificate' },
    ],
  );
}

function infoVerb(shell: Shell): Command {
  return verb('info', {
    summary: 'show a certificate: subject, URI, issuer, fingerprint, validity',
    description:
      'Nothing is dialled. Warns at 30 days (at a third of its life, for one of less than 90 days); an expired one ends with exit code 4.',
    examples: [
      { line: 'collective auth info', says: 'of the current context' },
      { line: 'collective auth info --context bob', says: 'of another one' },
      { line: 'collective auth info ./node-1/tls', says: 'in a folder, or a PEM file' },
    ],
  })
    .argument('[path]', 'a folder with tls.crt, or a certificate; default: that of the context')
    .action(async (path: string | undefined, _options: unknown, command: Command) => {
      const globals = globalOptions(command);
      const folder = path ?? (await chosenContext(shell, globals)).credentials;
      const facts = await readCertificateFacts(folder, wallMs(shell.clock));
      await printOne(shell, globals.output, facts, CERTIFICATE_VIEW);
      await judge(shell, facts, path === undefined);
    });
}

/** A warning for what ends soon; an error for what cannot be used. */
export async function judge(shell: Shell, facts: CertificateFacts, ofContext: boolean): Promise<void> {
  if (facts.state === 'expires soon') {
    const renewal = ofContext ? "'collective auth renew' makes a new one." : 'Who runs with it renews it by itself.';
    await say(shell, `Warning: the certificate of ${facts.uri} ends soon. ${renewal}`);
  }
  if (facts.state === 'expired' || facts.state === 'not yet valid') {
    throw new CollectiveError('unauthenticated', `Use the certificate of ${facts.uri}: ${validityText(facts)}`, {
      todo:
        facts.state === 'expired'
          ? "Ask the member for a token ('collective token create') and enrol again ('collective init --force')."
          : 'Set the clock of this machine (NTP).',
    });
  }
  if (facts.chain?.startsWith('NOT VALID')) {
    throw new CollectiveError('unauthenticated', `Use the certificate of ${facts.uri}: ${facts.chain}`);
  }
}

function whoamiVerb(shell: Shell): Command {
  return verb('whoami', {
    summary: 'ask the coordinator who you are to it and what you may do',
    examples: [{ line: 'collective auth whoami', says: 'subject, role, rights' }],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, globals, signal }) => {
      await printOne(shell, globals.output, await admin.whoAmI({ signal }), {
        columns: [
          { header: 'Subject', cell: ({ subject }) => subject },
          { header: 'Member', cell: ({ member, trustDomain }) => `${member} (${trustDomain})` },
          { header: 'Role', cell: ({ role, admin: isAdmin }) => (isAdmin ? `${role}, administrator` : role) },
          {
            header: 'Works as',
            cell: ({ trusted, uid, gid }) => (trusted ? 'the uid and gid it says (trusted)' : `uid ${uid}, gid ${gid}`),
          },
          {
            header: 'Realms',
            cell: ({ realms }) =>
              realms.map(({ path, readOnly }) => `${path} (${readOnly ? 'read only' : 'read, write'})`).join(', ') ||
              '<none>',
          },
        ],
        name: ({ subject }) => subject,
      });
    });
  });
}

function renewVerb(shell: Shell): Command {
  return verb('renew', {
    summary: 'replace the certificate by a new one, with a new key',
    description: 'Works while the old certificate is valid; after that, enrol again with a token (collective init).',
    examples: [{ line: 'collective auth renew', says: 'of the current context' }],
  }).action(async (_options: unknown, command: Command) => {
    await withAdmin(shell, command, async ({ admin, context, globals, signal }) => {
      const [{ renewCertificate }, { TrustFiles }] = await Promise.all([
        import('@collective/client'),
        import('@collective/protocol/tls/trust-files'),
      ]);
      using trust = await TrustFiles.load(context.credentials, { clock: shell.clock });
      await renewCertificate({ trust, admin, signal });
      const facts = await readCertificateFacts(context.credentials, wallMs(shell.clock));
      await printOne(shell, globals.output, facts, CERTIFICATE_VIEW);
    });
  });
}
