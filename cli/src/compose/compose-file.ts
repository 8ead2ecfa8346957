/**
 * A compose file from a plan. Each part runs as the image's user without any right, on a read-only root, with bounds on memory,
 * processes and logs, as pods of the operator do. A member's parts see each other on a network of their own, and nobody else's;
 * nodes enrol with invitations that their coordinator lays into a volume that they may only read. No secret stands in the file.
 *
 * It is read by Compose v2 and by docker-compose from 1.29 on; what only one of them knows is not used.
 */
import { formatHostPort } from '@collective/base/host-port';
import { type Alias, Document, isMap, isScalar, type YAMLMap } from 'yaml';
import { environmentOf } from '../settings/settings.ts';
import { type ComposeMember, type ComposeNode, type ComposePlan, outside } from './compose-plan.ts';

const COORDINATOR_PORT = 7420;
const NODE_PORT = 7431;
const HEALTH_PORT = 9420;
const DATA_FOLDER = '/var/lib/collective';
const INVITATIONS_FOLDER = '/run/collective';
/** As the operator gives them. */
const COORDINATOR_MEMORY_MIB = 1024;
const NODE_MEMORY_MIB = 768;
const HEAP_SHARE = 0.6;
const LINE_WIDTH = 160;

const ROOMS = ['services', 'networks', 'volumes'];

/** No shell and no curl are in the image; Node is. */
const ASK_HEALTH = `require('http').get('http://127.0.0.1:${HEALTH_PORT}/readyz',a=>process.exit(a.statusCode===200?0:1)).on('error',()=>process.exit(1))`;

/** What every part has in common. */
function part(image: string): object {
  return {
    // Another version for all parts: a line in the file .env beside this one.
    image: `\${COLLECTIVE_IMAGE:-${image}}`,
    user: '65532:65532',
    read_only: true,
    cap_drop: ['ALL'],
    security_opt: ['no-new-privileges:true'],
    tmpfs: ['/tmp:size=64m,mode=1777'],
    pids_limit: 256,
    restart: 'unless-stopped',
    stop_grace_period: '20s',
    logging: { driver: 'json-file', options: { 'max-size': '10m', 'max-file': '3' } },
    healthcheck: {
      test: ['CMD', 'node', '-e', ASK_HEALTH],
      interval: '30s',
      timeout: '10s',
      retries: 3,
      start_period: '60s',
    },
  };
}

export function composeFile(plan: ComposePlan): string {
  const services = Object.fromEntries(
    plan.members.flatMap((member) => [
      [member.coordinator.service, coordinatorService(plan, member)],
      ...member.nodes.map((node) => [node.service, nodeService(plan, member, node)]),
    ]),
  );
  const document = new Document(
    {
      'x-part': part(plan.image),
      services,
      networks: Object.fromEntries(plan.members.map(({ name }) => [name, {}])),
      volumes: Object.fromEntries(plan.members.flatMap(volumesOf).map((name) => [name, {}])),
    },
    // docker-compose reads as YAML 1.1 does, in which a member may not be called `on` without quotes.
    { version: '1.1' },
  );
  shareThePart(document);
  for (const room of ROOMS) spaceBefore(document, room);
  document.commentBefore = head(plan);
  return document.toString({ lineWidth: LINE_WIDTH, indentSeq: false });
}

function coordinatorService({ collective, ...plan }: ComposePlan, { name, coordinator, nodes }: ComposeMember): object {
  return {
    command: ['coordinator'],
    environment: settings(COORDINATOR_MEMORY_MIB, {
      member: name,
      collective,
      data: `${DATA_FOLDER}/coordinator`,
      listen: anywhere(COORDINATOR_PORT),
      healthListen: anywhere(HEALTH_PORT),
      advertise: outside(plan, coordinator.hostPort),
      autoTls: 'true',
      rootMode: '1777',
      inviteNodes: nodes.map((node) => node.name).join(),
      invitations: INVITATIONS_FOLDER,
    }),
    mem_limit: `${COORDINATOR_MEMORY_MIB}m`,
    volumes: [`${coordinator.service}:${DATA_FOLDER}`, `${invitationsOf(name)}:${INVITATIONS_FOLDER}`],
    networks: [name],
    ports: [published(plan.host, coordinator.hostPort, COORDINATOR_PORT)],
  };
}

function nodeService(plan: ComposePlan, member: ComposeMember, { name, service, hostPort }: ComposeNode): object {
  return {
    command: ['node'],
    depends_on: [member.coordinator.service],
    environment: settings(NODE_MEMORY_MIB, {
      coordinator: formatHostPort({ host: member.coordinator.service, port: COORDINATOR_PORT }),
      data: `${DATA_FOLDER}/node`,
      capacity: plan.capacity,
      listen: anywhere(NODE_PORT),
      healthListen: anywhere(HEALTH_PORT),
      // D10: other nodes come over the member's network, people over the port of the host.
      advertise: `internal=${service}:${NODE_PORT},external=${outside(plan, hostPort)}`,
      invitation: `${INVITATIONS_FOLDER}/${name}.invitation`,
    }),
    mem_limit: `${NODE_MEMORY_MIB}m`,
    volumes: [`${service}:${DATA_FOLDER}`, `${invitationsOf(member.name)}:${INVITATIONS_FOLDER}:ro`],
    networks: [member.name],
    ports: [published(plan.host, hostPort, NODE_PORT)],
  };
}

/** By environment, as `--help` of each part names them. */
function settings(memoryMiB: number, values: Readonly<Record<string, string>>): Record<string, string> {
  return {
    ...Object.fromEntries(Object.entries(values).map(([key, value]) => [environmentOf(key), value])),
    HOME: '/tmp',
    // Node gives half of a small limit to its heap by itself, and the rest to nobody.
    NODE_OPTIONS: `--max-old-space-size=${Math.floor(memoryMiB * HEAP_SHARE)}`,
  };
}

/** Of the container: its networks are IPv4 unless somebody says otherwise. */
function anywhere(port: number): string {
  return formatHostPort({ host: '0.0.0.0', port });
}

function published(host: string, hostPort: number, port: number): string {
  return `${formatHostPort({ host, port: hostPort })}:${port}`;
}

function invitationsOf(member: string): string {
  return `${member}-invitations`;
}

function volumesOf({ name, coordinator, nodes }: ComposeMember): string[] {
  return [coordinator.service, invitationsOf(name), ...nodes.map(({ service }) => service)];
}

/** `<<: *part` at the head of each service. */
function shareThePart(document: Document): void {
  const shared = document.get('x-part', true) as YAMLMap;
  const services = document.get('services', true);
  if (!isMap(services)) return;
  for (const { value } of services.items) {
    const alias: Alias = document.createAlias(shared, 'part');
    (value as YAMLMap).items.unshift(document.createPair('<<', alias));
  }
}

function spaceBefore(document: Document, key: string): void {
  const { contents } = document;
  const found = isMap(contents)
    ? contents.items.find((pair) => isScalar(pair.key) && pair.key.value === key)
    : undefined;
  if (found !== undefined && isScalar(found.key)) found.key.spaceBefore = true;
}

function head({ members }: ComposePlan): string {
  const [{ name, coordinator } = { name: '', coordinator: { service: '' } }] = members;
  return [
    "Made by 'collective compose generate'; --help says what can be chosen. docs/getting-started-compose.md leads through it:",
    '  docker compose up -d',
    `  docker compose exec -T ${coordinator.service} collective token bootstrap | collective init --invitation -`,
    `  collective --context ${name} status`,
  ]
    .map((line) => ` ${line}`)
    .join('\n');
}
