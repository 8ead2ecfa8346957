/**
 * What a start of `collective up` will do, decided from flags and from what the folder remembers; nothing is touched
 * here. Flags win over the folder, the folder over defaults; what a folder cannot become is refused with a reason.
 */

import { formatByteSize, parseByteSize } from '@collective/base/byte-size';
import { CollectiveError } from '@collective/base/errors';
import { formatHostPort } from '@collective/base/host-port';
import { parseMemberName, type TrustDomain, trustDomainOf } from '@collective/base/ids';
import { COLLECTIVE_DEFAULT } from '../trust-domain-flag.ts';
import {
  coordinatorPorts,
  NODES_MAX,
  nodeNames,
  nodePorts,
  PORT_BASE_DEFAULT,
  PORTS_USED,
  type UpFolder,
} from './layout.ts';
import type { MemberFile } from './member-file.ts';

export interface UpFlags {
  readonly member?: string;
  readonly collective?: string;
  readonly nodes?: number;
  readonly capacity?: number;
  readonly portBase?: number;
  readonly host: string;
  readonly advertise?: string;
}

export interface UpPlan extends MemberFile {
  readonly folder: UpFolder;
  readonly trustDomain: TrustDomain;
  /** Address that the parts bind. */
  readonly host: string;
  /** Name or address under which others reach them. */
  readonly advertise: string;
  readonly nodeNames: readonly string[];
}

const MiB = 1024 * 1024;
/** Below this a new member could hold next to nothing. */
const FREE_BYTES_MIN = 64 * MiB;
/** One that has data must start on the disk that it has filled: how else could something be removed? */
const FREE_BYTES_MIN_AGAIN = 8 * MiB;
/** A node keeps 64 MiB of it free. */
const CAPACITY_BYTES_MIN = 128 * MiB;
export const NODES_DEFAULT = 2;
export const CAPACITY_DEFAULT = '20GiB';
export const HOST_DEFAULT = '127.0.0.1';
const EVERYWHERE = ['0.0.0.0', '::'];

export function planUp(
  folder: UpFolder,
  flags: UpFlags,
  remembered: MemberFile | undefined,
  userMember: string,
): UpPlan {
  const member = flags.member ?? remembered?.member ?? userMember;
  const collective = flags.collective ?? remembered?.collective ?? COLLECTIVE_DEFAULT;
  const trustDomain = trustDomainOf(parseMemberName(member), collective);
  if (remembered !== undefined && (remembered.member !== member || remembered.collective !== collective)) {
    throw new CollectiveError(
      'wrong_member',
      `Start member ${trustDomain} in ${folder.root}: this folder holds ${remembered.member}.${remembered.collective}`,
    );
  }
  const nodes = flags.nodes ?? remembered?.nodes ?? NODES_DEFAULT;
  if (nodes > NODES_MAX)
    throw new CollectiveError('range', `Start ${nodes} nodes: on one machine at most ${NODES_MAX}`);
  if (remembered !== undefined && nodes < remembered.nodes) {
    throw new CollectiveError(
      'invalid_argument',
      `Start ${nodes} nodes in ${folder.root}: it has ${remembered.nodes}, and what lies on the others would be out of reach`,
    );
  }
  const portBase = flags.portBase ?? remembered?.portBase ?? PORT_BASE_DEFAULT;
  if (portBase < 1 || portBase + PORTS_USED > 65_535) {
    throw new CollectiveError('range', `Use port base ${portBase}: it lies between 1 and ${65_535 - PORTS_USED}`);
  }
  const capacityBytes = flags.capacity ?? remembered?.capacityBytes ?? parseByteSize(CAPACITY_DEFAULT);
  if (capacityBytes < CAPACITY_BYTES_MIN)
    throw new CollectiveError(
      'invalid_argument',
      `Give ${formatByteSize(capacityBytes)} for each node: ${formatByteSize(CAPACITY_BYTES_MIN)} are the least`,
    );
  const { host } = flags;
  if (EVERYWHERE.includes(host) && flags.advertise === undefined) {
    throw new CollectiveError(
      'invalid_argument',
      `Listen on ${host}: give --advertise NAME, under which others reach this machine`,
    );
  }
  return {
    folder,
    member,
    collective,
    trustDomain,
    nodes,
    portBase,
    capacityBytes,
    host,
    advertise: flags.advertise ?? host,
    nodeNames: nodeNames(nodes),
  };
}

/** Throws `no_space` when the disk is full; a sentence when the nodes promise more than it has. `again`: there is data. */
export function checkRoom(plan: UpPlan, freeBytes: number, again: boolean): string | undefined {
  const least = again ? FREE_BYTES_MIN_AGAIN : FREE_BYTES_MIN;
  if (freeBytes < least) {
    throw new CollectiveError(
      'no_space',
      `Start in ${plan.folder.root}: its disk has ${formatByteSize(freeBytes)} left, at least ${formatByteSize(least)} are needed to run`,
      {
        todo: again
          ? 'Make room on this disk.'
          : 'Make room on this disk, or name a folder on another one with --data.',
      },
    );
  }
  if (plan.nodes * plan.capacityBytes <= freeBytes) return undefined;
  return `note: ${plan.nodes} nodes of ${formatByteSize(plan.capacityBytes)} are more than the ${formatByteSize(freeBytes)} that the disk has left; nodes stop taking data before it is full`;
}

/** Where the parts of this machine find each other. */
function localHost({ host }: UpPlan): string {
  return EVERYWHERE.includes(host) ? HOST_DEFAULT : host;
}

/** The arguments with which each part is started. */
export function coordinatorArgs(plan: UpPlan): string[] {
  const { port, healthPort } = coordinatorPorts(plan.portBase);
  return [
    'coordinator',
    '--json',
    '--stop-with-stdin',
    '--auto-tls',
    ...['--member', plan.member],
    ...['--collective', plan.collective],
    ...['--data', plan.folder.coordinator],
    ...['--listen', formatHostPort({ host: plan.host, port })],
    ...['--health-listen', `127.0.0.1:${healthPort}`],
  ];
}

export function nodeArgs(plan: UpPlan, number: number, name: string): string[] {
  const { port, healthPort } = nodePorts(plan.portBase, number);
  return [
    'node',
    '--json',
    '--stop-with-stdin',
    ...['--coordinator', formatHostPort({ host: localHost(plan), port: coordinatorPorts(plan.portBase).port })],
    ...['--data', plan.folder.node(name)],
    ...['--capacity', String(plan.capacityBytes)],
    ...['--listen', formatHostPort({ host: plan.host, port })],
    ...['--advertise', formatHostPort({ host: plan.advertise, port })],
    ...['--health-listen', `127.0.0.1:${healthPort}`],
  ];
}
