/**
 * Members of one compose file as a person on the same machine uses them: brought up by Compose, reached through the published
 * ports, with contexts made out of the coordinators' containers. What the project made is gone when it is disposed.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect, type Member } from '@collective/client';
import { compose } from '@collective/hack/kind/compose-program';
import { docker, type RunOptions } from '@collective/hack/kind/lab';
import { parse } from 'yaml';
import { CliWorld } from '../integration/cli-world.ts';
import { until } from '../until.ts';

/** Deadlines against hanging: nine programs start at once on a machine that others use too. */
const READY_WITHIN_MS = 240_000;
const CONNECT_WITHIN_MS = 120_000;
const LABEL = 'com.docker.compose.project';

interface ComposeService {
  readonly environment: Readonly<Record<string, string>>;
}

export interface Container {
  readonly id: string;
  readonly pid: number;
  readonly restarts: number;
  readonly details: ContainerDetails;
}

interface ContainerDetails {
  readonly Name: string;
  readonly RestartCount: number;
  readonly State: { readonly Pid: number; readonly Running: boolean; readonly Health: { readonly Status: string } };
  readonly Config: { readonly User: string; readonly Image: string };
  readonly HostConfig: {
    readonly ReadonlyRootfs: boolean;
    readonly CapDrop: readonly string[];
    readonly SecurityOpt: readonly string[];
    readonly Memory: number;
    readonly PidsLimit: number;
    readonly Privileged: boolean;
    readonly RestartPolicy: { readonly Name: string };
    readonly PortBindings: Readonly<Record<string, readonly { readonly HostIp: string }[]>>;
  };
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, { readonly IPAddress: string }>> };
}

export class ComposeProject implements AsyncDisposable {
  readonly name: string;
  readonly services: Readonly<Record<string, ComposeService>>;
  /** The person: a home of their own, with contexts by the names of members. */
  readonly person: CliWorld;
  readonly #file: string;
  readonly #env: Record<string, string> = {};

  static async open(name: string, file: string): Promise<ComposeProject> {
    const project = new ComposeProject(name, file, await CliWorld.create());
    // What a run left behind that was killed.
    await project.#remove();
    return project;
  }

  private constructor(name: string, file: string, person: CliWorld) {
    this.name = name;
    this.#file = file;
    this.person = person;
    ({ services: this.services } = parse(readFileSync(file, 'utf8'), { merge: true }) as {
      services: Record<string, ComposeService>;
    });
  }

  get members(): string[] {
    return Object.values(this.services).flatMap(({ environment }) => environment.COLLECTIVE_MEMBER ?? []);
  }

  nodesOf(member: string): string[] {
    return this.services[`${member}-coordinator`]?.environment.COLLECTIVE_INVITE_NODES?.split(',') ?? [];
  }

  async compose(args: readonly string[], options: Pick<RunOptions, 'inputFile'> = {}): Promise<string> {
    const given = ['--project-name', this.name, '--file', this.#file, ...args];
    const { stdout } = await compose(given, { ...options, env: this.#env });
    return String(stdout);
  }

  /** As a line in `.env` does. */
  useImage(image: string): void {
    this.#env.COLLECTIVE_IMAGE = image;
  }

  async up(): Promise<void> {
    await this.compose(['up', '--detach']);
  }

  /** The one command of the page: out of the coordinator's container into a context. */
  async becomeAdministrator(member: string): Promise<void> {
    const bootstrap = ['collective', 'token', 'bootstrap', '--wait', '2m'];
    const invitation = await this.compose(['exec', '-T', `${member}-coordinator`, ...bootstrap]);
    await this.person.ok(['init', '--invitation', '-'], { stdin: invitation });
  }

  async untilReady(): Promise<void> {
    for (const member of this.members) {
      const wanted = this.nodesOf(member)
        .map((node) => `${node} ready`)
        .join();
      let seen = '';
      await until(
        async () => {
          const { exit, out, err } = await this.person.here.run([
            ...['nodes', 'list', '--context', member],
            ...['--output', 'json', '--timeout', '30s'],
          ]);
          seen = exit === 0 ? nodesIn(out) : err;
          return seen === wanted;
        },
        `the nodes of ${member} are ready`,
        READY_WITHIN_MS,
        () => seen,
      );
    }
  }

  async connect(member: string): Promise<Member> {
    const { coordinator, credentials } = await this.contextOf(member);
    return await connect({
      coordinator,
      trustDomain: `${member}.home`,
      credentials,
      listener: 'external',
      connectWithinMs: CONNECT_WITHIN_MS,
      reconnectWithinMs: CONNECT_WITHIN_MS,
    });
  }

  async contextOf(member: string): Promise<{ readonly coordinator: string; readonly credentials: string }> {
    const listed = await this.person.here.ok(['config', 'get-contexts', member, '--output', 'json']);
    const [context] = JSON.parse(listed) as { coordinator: string; credentials: string }[];
    assert.ok(context !== undefined);
    return context;
  }

  async container(service: string): Promise<Container> {
    const id = (await this.compose(['ps', '--quiet', service])).trim();
    assert.match(id, /^[0-9a-f]{12,}$/, `${service} has one container`);
    const { stdout } = await docker(['inspect', id]);
    const [details] = JSON.parse(String(stdout)) as ContainerDetails[];
    assert.ok(details !== undefined);
    return { id, pid: details.State.Pid, restarts: details.RestartCount, details };
  }

  /** As docker says, who asks each by its own health check. */
  async untilHealthy(): Promise<void> {
    for (const service of Object.keys(this.services)) {
      let seen = '';
      await until(
        async () => {
          seen = (await this.container(service)).details.State.Health.Status;
          return seen === 'healthy';
        },
        `${service} is healthy`,
        READY_WITHIN_MS,
        () => seen,
      );
    }
  }

  /** As when it crashes: docker is not asked, and starts it again. */
  async crash(service: string): Promise<void> {
    const { pid, restarts } = await this.container(service);
    process.kill(pid, 'SIGKILL');
    await until(
      async () => {
        const now = await this.container(service);
        return now.restarts > restarts && now.details.State.Running;
      },
      `${service} runs again`,
      READY_WITHIN_MS,
    );
  }

  async exec(service: string, ...command: string[]): Promise<string> {
    const { id } = await this.container(service);
    return String((await docker(['exec', id, ...command])).stdout);
  }

  /** Containers, networks and volumes of the project, as docker counts them. */
  async leftovers(): Promise<string[]> {
    const filter = ['--filter', `label=${LABEL}=${this.name}`];
    const lists = await Promise.all([
      docker(['ps', '--all', '--format', 'container {{.Names}}', ...filter]),
      docker(['network', 'ls', '--format', 'network {{.Name}}', ...filter]),
      docker(['volume', 'ls', '--format', 'volume {{.Name}}', ...filter]),
    ]);
    return lists.flatMap(({ stdout }) => String(stdout).split('\n')).filter((line) => line !== '');
  }

  async logs(): Promise<string> {
    return await this.compose(['logs', '--no-color']);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#remove();
    await this.person[Symbol.asyncDispose]();
  }

  async #remove(): Promise<void> {
    await this.compose(['down', '--volumes', '--remove-orphans', '--timeout', '5']);
  }
}

function nodesIn(listed: string): string {
  const nodes = JSON.parse(listed) as readonly { readonly name: string; readonly state: string }[];
  return nodes
    .map(({ name, state }) => `${name} ${state}`)
    .sort()
    .join();
}
