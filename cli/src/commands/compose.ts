/** `collective compose`: members as containers on one machine, for people without Kubernetes. */
import { type Command, Option } from 'commander';
import type { ComposeFlags } from '../compose/compose-plan.ts';
import { names } from '../settings/settings.ts';
import { type Shell, writeOut } from '../shell.ts';
import { COLLECTIVE_DEFAULT } from '../trust-domain-flag.ts';
import { PORT_BASE_DEFAULT } from '../up/layout.ts';
import { CAPACITY_DEFAULT, HOST_DEFAULT, NODES_DEFAULT } from '../up/up-plan.ts';
import { flag, IDLE_WITHOUT_DATA, noun, verb, wholeNumber } from '../verb.ts';
import { VERSION } from '../version.ts';

const MEMBERS_DEFAULT = 1;
const NUMBER_MAX = 1_000;

export function composeCommand(shell: Shell): Command {
  const generate = verb('generate', {
    summary: 'print a compose file of members and their nodes',
    description: `The file goes to standard output. Each member has an authority, a coordinator, nodes, volumes and a network of its own; ports
are published on this machine alone unless --host says otherwise. Nothing secret stands in it: nodes enrol by
themselves, and 'collective token bootstrap' in the coordinator's container prints what its first user needs.`,
    examples: [
      { line: 'collective compose generate > compose.yaml', says: 'one member, alice, with two nodes' },
      { line: 'collective compose generate --members 3 --nodes 4 --capacity 500GB', says: 'alice, bob and carol' },
      { line: 'collective compose generate --members home,office', says: 'with names of your own' },
      {
        line: 'collective compose generate --host 0.0.0.0 --advertise nas.example',
        says: 'reached from other machines',
      },
    ],
    idle: IDLE_WITHOUT_DATA,
  })
    .option('--members <n|names>', `how many, or their names (default: ${MEMBERS_DEFAULT})`, flag(membersOf))
    .option(
      '--nodes <n>',
      `storage nodes of each (default: ${NODES_DEFAULT})`,
      flag(wholeNumber('--nodes', 1, NUMBER_MAX)),
    )
    .option('--capacity <size>', `room that each node gives (default: ${CAPACITY_DEFAULT})`)
    .option('--collective <name>', `the collective they belong to (default: ${COLLECTIVE_DEFAULT})`)
    .option('--image <image>', `default: collective:${VERSION}`)
    .option(
      '--port-base <port>',
      `the first coordinator here, its nodes above, other members a hundred further each (default: ${PORT_BASE_DEFAULT})`,
      flag(wholeNumber('--port-base', 1, 65_000)),
    )
    .addOption(
      new Option('--base-port <port>', 'the same').hideHelp().argParser(flag(wholeNumber('--base-port', 1, 65_000))),
    )
    .addOption(
      new Option('--host <address>', 'publish ports on this address; 0.0.0.0 for all').default(
        HOST_DEFAULT,
        HOST_DEFAULT,
      ),
    )
    .option('--advertise <host>', 'name or address under which others reach this machine')
    .action(async (given: Partial<ComposeFlags> & { readonly basePort?: number }) => {
      const flags: ComposeFlags = {
        members: given.members ?? MEMBERS_DEFAULT,
        nodes: given.nodes ?? NODES_DEFAULT,
        capacity: given.capacity ?? CAPACITY_DEFAULT,
        collective: given.collective ?? COLLECTIVE_DEFAULT,
        image: given.image ?? `collective:${VERSION}`,
        portBase: given.portBase ?? given.basePort ?? PORT_BASE_DEFAULT,
        host: given.host ?? HOST_DEFAULT,
        ...(given.advertise === undefined ? {} : { advertise: given.advertise }),
      };
      const [{ planCompose }, { composeFile }] = await Promise.all([
        import('../compose/compose-plan.ts'),
        import('../compose/compose-file.ts'),
      ]);
      await writeOut(shell.stdout, composeFile(planCompose(flags)));
    });
  return noun(
    'compose',
    'make compose files, to run members as containers',
    [generate],
    [{ line: 'collective compose generate --members 3 > compose.yaml', says: 'three members with two nodes each' }],
    IDLE_WITHOUT_DATA,
  );
}

function membersOf(text: string): ComposeFlags['members'] {
  if (/^[0-9]+$/.test(text)) return wholeNumber('--members', 1, NUMBER_MAX)(text);
  return names(text, '--members');
}
