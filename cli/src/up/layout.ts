/**
 * Where `collective up` keeps things, and on which ports its parts listen. One folder a member:
 *
 *   member.json            whose folder this is, and how it was last started
 *   up.json                the supervisor that runs now: process ids, ports, state
 *   lock                   held while one runs
 *   coordinator/           authority, certificates, log and view of the coordinator
 *   nodes/<name>/          certificates and chunks of a node
 *   user/                  certificate of the person who started it
 *   logs/<part>.log        what the parts say
 */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

export const PORT_BASE_DEFAULT = 7420;
export const NODES_MAX = 16;
const NODE_PORT_OFFSET = 10;
const NODE_HEALTH_PORT_OFFSET = 30;
/** Ports from the base on that a member of the largest size uses. */
export const PORTS_USED = NODE_HEALTH_PORT_OFFSET + NODES_MAX + 1;

export interface PartPorts {
  readonly port: number;
  readonly healthPort: number;
}

export function coordinatorPorts(portBase: number): PartPorts {
  return { port: portBase, healthPort: portBase + 1 };
}

/** `number` counts from 1, as in the name: node-1 listens on 7431. */
export function nodePorts(portBase: number, number: number): PartPorts {
  return { port: portBase + NODE_PORT_OFFSET + number, healthPort: portBase + NODE_HEALTH_PORT_OFFSET + number };
}

export function nodeNames(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `node-${i + 1}`);
}

export class UpFolder {
  readonly root: string;

  constructor(root: string) {
    this.root = resolve(root);
  }

  get memberFile(): string {
    return join(this.root, 'member.json');
  }

  get stateFile(): string {
    return join(this.root, 'up.json');
  }

  get coordinator(): string {
    return join(this.root, 'coordinator');
  }

  node(name: string): string {
    return join(this.root, 'nodes', name);
  }

  get user(): string {
    return join(this.root, 'user');
  }

  get logs(): string {
    return join(this.root, 'logs');
  }

  log(part: string): string {
    return join(this.logs, `${part}.log`);
  }
}

/** `$XDG_DATA_HOME/collective/<member>`: several members of one person lie side by side. */
export function defaultUpFolder(env: Readonly<Record<string, string | undefined>>, member: string): string {
  const dataHome = env.XDG_DATA_HOME || join(env.HOME || homedir(), '.local', 'share');
  return join(dataHome, 'collective', member);
}

/** The user's name as a member name (T1): lowered, and what a DNS label does not allow made '-'. */
export function memberNameOf(userName: string): string {
  const cleaned = userName
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[\u0300-\u036f]/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 24)
    .replace(/^-+|-+$/g, '');
  return cleaned === '' ? 'member' : cleaned;
}
