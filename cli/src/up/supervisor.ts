/**
 * The parts of one member as child processes: coordinator first, then the nodes, each waited for until it is ready; kept
 * running; stopped all at once. What goes wrong with one part for good stops the whole: half a member is no member.
 */
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Clock } from '@collective/base/clock';
import { formatDurationMs } from '@collective/base/duration';
import { type CollectiveError, toCollectiveError } from '@collective/base/errors';
import { type Running, SERVER_EXIT } from '@collective/base/lifecycle';
import { coordinatorPorts, nodePorts } from './layout.ts';
import { Part, type PartCommand } from './part.ts';
import { waitReady } from './readiness.ts';
import { RotatingLog } from './rotating-log.ts';
import type { UpPart } from './state-file.ts';
import { coordinatorArgs, nodeArgs, type UpPlan } from './up-plan.ts';

const READY_WITHIN_MS = 60_000;

export interface SupervisorOptions {
  readonly plan: UpPlan;
  readonly clock: Clock;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A sentence for the person who watches. */
  readonly tell: (line: string) => void;
  /** Process ids or states changed. */
  readonly changed: () => void;
}

export class Supervisor implements Running {
  readonly failed: Promise<CollectiveError>;
  readonly #options: SupervisorOptions;
  readonly #parts: Part[] = [];
  readonly #logs: RotatingLog[] = [];
  readonly #fail: (error: CollectiveError) => void;
  #stopping = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    const failed = Promise.withResolvers<CollectiveError>();
    this.failed = failed.promise;
    this.#fail = failed.resolve;
  }

  /** Resolves when every part is ready; rejects with the reason of the part that cannot be. */
  async start(signal: AbortSignal): Promise<void> {
    const { plan, tell } = this.#options;
    await mkdir(plan.folder.logs, { recursive: true, mode: 0o700 });
    const coordinator = await this.#begin('coordinator', coordinatorArgs(plan), coordinatorPorts(plan.portBase));
    await this.#ready(coordinator, signal);
    tell('coordinator is ready');
    const nodes: Part[] = [];
    for (const [i, name] of plan.nodeNames.entries()) {
      nodes.push(await this.#begin(name, nodeArgs(plan, i + 1, name), nodePorts(plan.portBase, i + 1)));
    }
    await Promise.all(
      nodes.map(async (node) => {
        await this.#ready(node, signal);
        tell(`${node.command.name} is ready`);
      }),
    );
    signal.throwIfAborted();
    this.#options.changed();
  }

  parts(): UpPart[] {
    return this.#parts.map(({ command, pid, restarts }) => ({ name: command.name, pid, ...command.ports, restarts }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#parts.map((part) => part.stop()));
    await Promise.all(this.#logs.map((log) => log.close()));
  }

  async #begin(name: string, args: readonly string[], ports: PartCommand['ports']): Promise<Part> {
    const { plan, clock, tell, changed } = this.#options;
    const log = await RotatingLog.open(plan.folder.log(name));
    this.#logs.push(log);
    const command: PartCommand = {
      name,
      program: process.execPath,
      args: [...process.execArgv, fileURLToPath(new URL('../main.ts', import.meta.url)), ...args],
      env: partEnvironment(this.#options.env),
      cwd: plan.folder.root,
      ports,
    };
    const part = new Part(command, clock, log, {
      started: () => changed(),
      restarting: ({ exit }, afterMs) => {
        tell(
          `${name} ${howEnded(exit)}; starting it again in ${formatDurationMs(afterMs)} (log: ${plan.folder.log(name)})`,
        );
      },
    });
    this.#parts.push(part);
    void part.run().catch((thrown: unknown) => {
      if (!this.#stopping) this.#fail(toCollectiveError(thrown, `Run ${name}`));
    });
    return part;
  }

  async #ready(part: Part, signal: AbortSignal): Promise<void> {
    const { name, ports } = part.command;
    const done = new AbortController();
    const gaveUp = this.failed.then((error) => {
      throw error;
    });
    try {
      const ready = waitReady(
        this.#options.clock,
        { name, healthPort: ports.healthPort },
        READY_WITHIN_MS,
        AbortSignal.any([signal, done.signal]),
      );
      await Promise.race([ready, gaveUp]);
    } finally {
      done.abort();
      gaveUp.catch(() => undefined);
    }
    part.markReady();
  }
}

function howEnded(exit: number | undefined): string {
  if (exit === undefined) return 'was killed';
  return exit === SERVER_EXIT.noSpace ? 'has no room left on its disk' : `ended with exit code ${exit}`;
}

/** Parts are told everything by flags; what the person's environment says to servers is not meant for them. */
function partEnvironment(env: SupervisorOptions['env']): Record<string, string | undefined> {
  const kept = Object.entries(env).filter(
    ([name]) => !name.startsWith('COLLECTIVE_') || name === 'COLLECTIVE_LOG_LEVEL',
  );
  return Object.fromEntries(kept);
}
