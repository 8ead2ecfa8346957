/**
 * Which members, nodes and ports a compose file describes, decided from flags; nothing is written here. Every member has a
 * hundred ports of the host from the base on, laid out as `collective up` lays them out.
 */
import { isIP } from 'node:net';
import { formatByteSize, parseByteSize } from '@collective/base/byte-size';
import { CollectiveError } from '@collective/base/errors';
import { formatHostPort } from '@collective/base/host-port';
import { parseMemberName, trustDomainOf } from '@collective/base/ids';
import { coordinatorPorts, nodeNames, nodePorts } from '../up/layout.ts';

export interface ComposeFlags {
  /** A number, or names. */
  readonly members: number | readonly string[];
  readonly nodes: number;
  readonly image: string;
  readonly portBase: number;
  /** Address of the machine that ports are published on. */
  readonly host: string;
  readonly advertise?: string;
  /** A size as people write it: it is shown again. */
  readonly capacity: string;
  readonly collective: string;
}

export interface ComposeNode {
  readonly name: string;
  readonly service: string;
  readonly hostPort: number;
}

export interface ComposeMember {
  readonly name: string;
  readonly coordinator: { readonly service: string; readonly hostPort: number };
  readonly nodes: readonly ComposeNode[];
}

export interface ComposePlan {
  readonly image: string;
  readonly collective: string;
  readonly host: string;
  /** Under which people's machines reach the ports. */
  readonly advertise: string;
  readonly capacity: string;
  readonly members: readonly ComposeMember[];
}

/** Whom a number of members means, in this order. Docker's own pools of addresses hold some thirty networks: one a member. */
const NAMES =
  'alice bob carol dave erin frank grace heidi ivan judy kim leo mia nina oscar peggy quinn rupert sybil trent ursula victor wendy xavier'.split(
    ' ',
  );
export const COMPOSE_MEMBERS_MAX = NAMES.length;
/** A member's hundred ports hold more; one coordinator and one machine do not want more. */
export const COMPOSE_NODES_MAX = 64;
const PORTS_OF_A_MEMBER = 100;
/** A node keeps 64 MiB of it free. */
const CAPACITY_BYTES_MIN = 128 * 1024 * 1024;
const EVERYWHERE: ReadonlySet<string> = new Set(['0.0.0.0', '::']);
const IMAGE = /^[a-z0-9][\w./:@-]{0,254}$/;

/** Throws `range` or `invalid_argument` for what would not run, or would not be what was meant. */
export function planCompose(flags: ComposeFlags): ComposePlan {
  const { image, host, portBase, capacity, collective } = flags;
  const members = typeof flags.members === 'number' ? NAMES.slice(0, flags.members) : flags.members;
  refuse(
    members.length === 0 || members.length > COMPOSE_MEMBERS_MAX,
    'range',
    `it is 1 to ${COMPOSE_MEMBERS_MAX} members`,
  );
  refuse(flags.nodes < 1 || flags.nodes > COMPOSE_NODES_MAX, 'range', `it is 1 to ${COMPOSE_NODES_MAX} nodes a member`);
  for (const name of members) trustDomainOf(parseMemberName(name), collective);
  const portsEnd = portBase + members.length * PORTS_OF_A_MEMBER;
  refuse(
    portBase < 1 || portsEnd > 65_535,
    'range',
    `the ports of ${members.length} members end at ${portsEnd}; with --port-base up to ${65_535 - members.length * PORTS_OF_A_MEMBER} they fit`,
  );
  refuse(
    parseByteSize(capacity, '--capacity') < CAPACITY_BYTES_MIN,
    'range',
    `a node needs ${formatByteSize(CAPACITY_BYTES_MIN)} at least`,
  );
  refuse(!IMAGE.test(image), 'invalid_argument', `'${image}' is no name of an image`);
  refuse(isIP(host) === 0, 'invalid_argument', `--host takes an address, and '${host}' is none`);
  const advertise = flags.advertise ?? host;
  refuse(
    EVERYWHERE.has(advertise),
    'invalid_argument',
    `with --host ${host} others reach the ports under a name that only you know: give it by --advertise`,
  );
  // A name that could end the line or the list that it is written into.
  refuse(/[\s,="'${}]/.test(advertise) || advertise === '', 'invalid_argument', `'${advertise}' is no name of a host`);
  return {
    image,
    collective,
    host,
    advertise,
    capacity,
    members: members.map((name, index) => {
      const first = portBase + index * PORTS_OF_A_MEMBER;
      return {
        name,
        coordinator: { service: `${name}-coordinator`, hostPort: coordinatorPorts(first).port },
        nodes: nodeNames(flags.nodes).map((node, at) => ({
          name: node,
          service: `${name}-${node}`,
          hostPort: nodePorts(first, at + 1).port,
        })),
      };
    }),
  };
}

/** The address of a part as others reach it from outside. */
export function outside({ advertise }: Pick<ComposePlan, 'advertise'>, port: number): string {
  return formatHostPort({ host: advertise, port });
}

function refuse(isWrong: boolean, code: 'range' | 'invalid_argument', why: string): void {
  if (isWrong) throw new CollectiveError(code, `Generate a compose file: ${why}`);
}
