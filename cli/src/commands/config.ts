/** `collective config`: the contexts of this person, with kubectl's verbs. */

import { resolve } from 'node:path';
import { wallMs } from '@collective/base/clock';
import { CollectiveError, errorChain } from '@collective/base/errors';
import type { ContextStore, ContextVia, ResolvedContext } from '@collective/client';
import { type Command, Option } from 'commander';
import { connectTo, withDeadline } from '../member-session.ts';
import { type CertificateFacts, readCertificateFacts, validityText } from '../output/certificate-view.ts';
import { printOne, printRows, type RowsView } from '../output/table.ts';
import { type Shell, say, writeOut } from '../shell.ts';
import { trustDomainFlag } from '../trust-domain-flag.ts';
import { globalOptions, IDLE_WITHOUT_DATA, IDLE_WITHOUT_MEMBER, noun, ownCoordinatorFlag, verb } from '../verb.ts';
import { openWay } from '../way.ts';

const CONTEXT_VIEW: RowsView<ResolvedContext> = {
  columns: [
    {
      header: 'CURRENT',
      cell: ({ current }) => (current ? '*' : ''),
      alone: ({ current }) => (current ? 'yes' : 'no'),
    },
    { header: 'NAME', cell: ({ name }) => name },
    { header: 'MEMBER', cell: ({ trustDomain }) => trustDomain },
    { header: 'COORDINATOR', cell: ({ coordinator }) => coordinator },
    { header: 'VIA', cell: ({ via }) => viaText(via), wide: true },
    { header: 'LISTENER', cell: ({ listener }) => listener ?? 'external', wide: true },
    { header: 'CERTIFICATES', cell: ({ credentials }) => credentials, wide: true },
  ],
  name: ({ name }) => name,
};

function viaText(via: ContextVia | undefined): string {
  if (via === undefined) return '-';
  const { context, namespace, member } = via.settings;
  return via.kind === 'kubernetes' ? `${via.kind}: ${member} in ${namespace} of ${context}` : via.kind;
}

/** Who tests wants to know how it is now; a coordinator that restarts is not waited for as long as by other commands. */
const TEST_WITHIN_MS = 3_000;

export function configCommand(shell: Shell): Command {
  const verbs = [getContexts, currentContext, useContext, showContext, setContext, renameContext, deleteContext];
  return noun(
    'config',
    'list, choose and change contexts',
    verbs.map((make) => make(shell)),
    [
      { line: 'collective config get-contexts', says: 'which there are' },
      { line: 'collective config use-context alice', says: 'commands go to alice from now on' },
      { line: 'collective config show-context', says: 'chain and connection of the current one' },
    ],
    IDLE_WITHOUT_MEMBER,
  );
}

async function storeOf(shell: Shell): Promise<ContextStore> {
  const { ContextStore, contextLocation } = await import('@collective/client');
  return new ContextStore(contextLocation(shell.env));
}

function getContexts(shell: Shell): Command {
  return verb('get-contexts', {
    summary: 'list the contexts',
    examples: [
      { line: 'collective config get-contexts', says: "the current one has a '*'" },
      { line: 'collective config get-contexts -o name', says: 'their names' },
    ],
    idle: IDLE_WITHOUT_MEMBER,
  })
    .argument('[name...]', 'only these')
    .action(async (names: string[], _options: unknown, command: Command) => {
      const { output } = globalOptions(command);
      const store = await storeOf(shell);
      const contexts = names.length === 0 ? await store.list() : await Promise.all(names.map((one) => store.get(one)));
      await printRows(shell, output, contexts, CONTEXT_VIEW);
    });
}

function currentContext(shell: Shell): Command {
  return verb('current-context', {
    summary: 'print the name of the current context',
    examples: [{ line: 'collective config current-context', says: 'its name; exit code 3 if there is none' }],
    idle: IDLE_WITHOUT_DATA,
  }).action(async () => {
    const name = await (await storeOf(shell)).currentName();
    if (name === undefined) {
      throw new CollectiveError('not_found', 'Print the current context: none is set', {
        todo: "'collective config get-contexts' lists those that exist, 'collective config use-context' sets one.",
      });
    }
    await writeOut(shell.stdout, `${name}\n`);
  });
}

function useContext(shell: Shell): Command {
  return verb('use-context', {
    summary: 'make a context the current one',
    examples: [{ line: 'collective config use-context alice', says: 'commands go to alice from now on' }],
    idle: IDLE_WITHOUT_DATA,
  })
    .argument('<name>', 'the context')
    .action(async (name: string, _options: unknown, command: Command) => {
      await (await storeOf(shell)).use(name);
      if (!globalOptions(command).quiet) await say(shell, `Switched to context '${name}'.`);
    });
}

function setContext(shell: Shell): Command {
  const command = verb('set-context', {
    summary: 'make a context, or change what is given of one',
    examples: [
      { line: 'collective config set-context alice --coordinator alice.example:7420', says: 'a new address' },
      { line: 'collective config set-context --current --listener internal', says: 'change the current one' },
      {
        line: 'collective config set-context bob --coordinator bob:7420 --member bob --credentials ./bob',
        says: 'a new context',
      },
    ],
    idle: IDLE_WITHOUT_MEMBER,
  });
  return ownCoordinatorFlag(command, 'address of its coordinator')
    .argument('[name]', 'the context; with --current it may be left out')
    .option('--member <name>', 'member, or MEMBER.COLLECTIVE')
    .addOption(new Option('--member-id <name>', 'the same').hideHelp())
    .option('--collective <name>', 'the collective of the member')
    .option('--credentials <folder>', 'folder with tls.crt, tls.key and trust.pem')
    .option('--listener <name>', 'which address of the nodes to use: external, internal')
    .option('--current', 'make it the current one; without a name: change the current one')
    .action(async (given: string | undefined, options: SetContextOptions, command: Command) => {
      const globals = globalOptions(command);
      const store = await storeOf(shell);
      const name = given ?? (options.current ? (await store.get()).name : undefined);
      if (name === undefined) {
        throw new CollectiveError('invalid_argument', 'Set a context: name it, or change the current one by --current');
      }
      const member = options.member ?? options.memberId;
      const { parseCoordinatorAddress } = await import('@collective/client');
      const isNew = !(await store.list()).some((one) => one.name === name);
      if (isNew) requireAllOf(name, globals.coordinator, member);
      const context = await store.set(
        name,
        {
          coordinator: globals.coordinator && parseCoordinatorAddress(globals.coordinator),
          trustDomain: member === undefined ? undefined : trustDomainFlag(member, options.collective),
          credentials: options.credentials && resolve(shell.cwd, options.credentials),
          listener: options.listener,
        },
        { use: options.current === true },
      );
      await printOne(shell, globals.output, context, CONTEXT_VIEW);
      if (!globals.quiet) await say(shell, `Context '${name}' is ${isNew ? 'made' : 'changed'}.`);
    });
}

function renameContext(shell: Shell): Command {
  return verb('rename-context', {
    summary: 'give a context another name',
    examples: [{ line: 'collective config rename-context alice home', says: 'alice is now called home' }],
    idle: IDLE_WITHOUT_DATA,
  })
    .argument('<name>', 'the context')
    .argument('<new-name>', 'its new name')
    .action(async (from: string, to: string, _options: unknown, command: Command) => {
      await (await storeOf(shell)).rename(from, to);
      if (!globalOptions(command).quiet) await say(shell, `Context '${from}' is now called '${to}'.`);
    });
}

function deleteContext(shell: Shell): Command {
  return verb('delete-context', {
    summary: 'remove a context and its certificates',
    description: 'Files of the member are not touched. Certificates outside our own folder stay.',
    examples: [{ line: 'collective config delete-context bob', says: 'forget bob' }],
    idle: IDLE_WITHOUT_DATA,
  })
    .argument('<name>', 'the context')
    .action(async (name: string, _options: unknown, command: Command) => {
      await (await storeOf(shell)).delete(name);
      if (!globalOptions(command).quiet) await say(shell, `Context '${name}' is removed.`);
    });
}

interface SetContextOptions {
  readonly member?: string;
  readonly memberId?: string;
  readonly collective?: string;
  readonly credentials?: string;
  readonly listener?: string;
  readonly current?: boolean;
}

function requireAllOf(name: string, coordinator: string | undefined, member: string | undefined): void {
  const missing = [
    ...(coordinator === undefined ? ['--coordinator HOST:PORT'] : []),
    ...(member === undefined ? ['--member NAME'] : []),
  ];
  if (missing.length === 0) return;
  throw new CollectiveError(
    'invalid_argument',
    `Make context '${name}': ${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing`,
    {
      todo: "'collective config get-contexts' lists those that exist.",
    },
  );
}

interface ContextTest {
  readonly context: ResolvedContext;
  readonly certificate: CertificateFacts | { readonly error: string };
  readonly connection: { readonly ok: boolean; readonly text: string; readonly tookMs?: number };
}

const TEST_VIEW: RowsView<ContextTest> = {
  columns: [
    { header: 'Context', cell: ({ context }) => `${context.name}${context.current ? ' (current)' : ''}` },
    { header: 'Member', cell: ({ context }) => context.trustDomain },
    { header: 'Coordinator', cell: ({ context }) => context.coordinator },
    { header: 'Certificates', cell: ({ context }) => context.credentials },
    { header: 'Identity', cell: ({ certificate }) => ('error' in certificate ? '<unreadable>' : certificate.uri) },
    {
      header: 'Validity',
      cell: ({ certificate }) => ('error' in certificate ? certificate.error : validityText(certificate)),
    },
    {
      header: 'Chain',
      cell: ({ certificate }) => ('error' in certificate ? '<not checked>' : (certificate.chain ?? '')),
    },
    { header: 'Connection', cell: ({ connection }) => connection.text },
  ],
  name: ({ context }) => context.name,
};

function showContext(shell: Shell): Command {
  return verb('show-context', {
    summary: 'show a context, verify its certificate chain and test the connection',
    examples: [
      { line: 'collective config show-context', says: 'the current one' },
      { line: 'collective config show-context bob --offline', says: 'nothing is dialled' },
    ],
  })
    .argument('[name]', 'the context; default: the current one')
    .option('--offline', 'do not test the connection')
    .action(async (name: string | undefined, options: { offline?: boolean }, command: Command) => {
      const globals = globalOptions(command);
      const found = await (await storeOf(shell)).get(name ?? globals.context);
      const context =
        globals.coordinator === undefined ? found : { ...found, coordinator: globals.coordinator, via: undefined };
      let failure: unknown;
      const certificate = await readCertificateFacts(context.credentials, wallMs(shell.clock)).catch(
        (thrown: unknown) => {
          failure = thrown;
          return { error: errorChain(thrown).join(': ') };
        },
      );
      if (!('error' in certificate) && certificate.chain?.startsWith('NOT VALID')) {
        failure = new CollectiveError(
          'unauthenticated',
          `Verify the certificate chain of context '${context.name}': ${certificate.chain}`,
        );
      }
      let connection: ContextTest['connection'] = { ok: false, text: '<not tested>' };
      if (!options.offline) {
        try {
          connection = await withDeadline(shell, globals, (signal) => testConnection(shell, context, signal));
        } catch (thrown) {
          failure ??= thrown;
          connection = { ok: false, text: `FAILED: ${errorChain(thrown).join(': ')}` };
        }
      }
      await printOne(shell, globals.output, { context, certificate, connection }, TEST_VIEW);
      if (failure !== undefined) throw failure;
    });
}

async function testConnection(
  shell: Shell,
  context: ResolvedContext,
  signal: AbortSignal,
): Promise<ContextTest['connection']> {
  const startedMs = shell.clock.bootMs();
  await using way = await openWay(shell, context, signal);
  await using member = await connectTo(context, signal, { connectWithinMs: TEST_WITHIN_MS, ...way.changes });
  const tookMs = Math.round(shell.clock.bootMs() - startedMs);
  return {
    ok: true,
    text: `ok: coordinator of ${member.session.trustDomain}, version ${member.session.version}, ${tookMs} ms`,
    tookMs,
  };
}
