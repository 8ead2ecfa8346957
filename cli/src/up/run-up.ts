/**
 * One run of `collective up`: take the folder, see that all can be had (member, room, ports), make what is missing
 * (certificates), start the parts, make the context, say what to try, and wait until asked to stop.
 */

import { FileDisk } from '@collective/base/disk/file-disk';
import { CollectiveError, errorChain } from '@collective/base/errors';
import { type Running, serve } from '@collective/base/lifecycle';
import { silentLog } from '@collective/base/log';
import { ExitWith } from '../exit-with.ts';
import { EXIT_INTERRUPTED } from '../output/errors.ts';
import type { Shell } from '../shell.ts';
import { makeUpContext } from './context.ts';
import { prepareIdentities } from './identities.ts';
import { coordinatorPorts, nodePorts, type UpFolder } from './layout.ts';
import { readMemberFile, writeMemberFile } from './member-file.ts';
import { checkPortsFree } from './ports.ts';
import { readState, removeState, type UpState, writeState } from './state-file.ts';
import { Supervisor } from './supervisor.ts';
import { checkRoom, planUp, type UpFlags, type UpPlan } from './up-plan.ts';
import { welcomeLines } from './welcome.ts';

const STOP_WITHIN_MS = 5_000;

export interface UpTalk {
  readonly tell: (line: string) => void;
}

export async function runUp(
  shell: Shell,
  folder: UpFolder,
  flags: UpFlags,
  userMember: string,
  { tell }: UpTalk,
): Promise<void> {
  let failure: CollectiveError | undefined;
  let asked = false;
  shell.releaseSignals();
  const exit = await serve({
    log: silentLog,
    clock: shell.clock,
    stopWithinMs: STOP_WITHIN_MS,
    start: async (stopping) => {
      stopping.addEventListener('abort', () => {
        asked = true;
        tell('stopping');
      });
      const running = await startAll(shell, folder, flags, userMember, tell, stopping);
      void running.failed?.then((error) => {
        failure = error;
      });
      return running;
    },
  }).catch((thrown: unknown) => {
    if (asked) return EXIT_INTERRUPTED;
    throw thrown;
  });
  if (failure !== undefined) throw failure;
  if (exit === 0) tell('stopped');
  else throw new ExitWith(exit);
}

async function startAll(
  shell: Shell,
  folder: UpFolder,
  flags: UpFlags,
  userMember: string,
  tell: (line: string) => void,
  stopping: AbortSignal,
): Promise<Running> {
  await using stack = new AsyncDisposableStack();
  const disk = await FileDisk.at(folder.root);
  const lock = await disk.lock('').catch(async (thrown: unknown) => {
    throw await inUse(thrown, folder, disk);
  });
  stack.defer(() => lock.release());
  // What an earlier run left behind names processes that are gone.
  await removeState(disk);

  const remembered = await readMemberFile(disk, folder.root);
  const plan = planUp(folder, flags, remembered, userMember);
  const note = checkRoom(plan, (await disk.space()).freeBytes, remembered !== undefined);
  if (note !== undefined) tell(note);
  await checkPortsFree(wantedPorts(plan), plan.portBase);
  await prepareIdentities(shell, plan, userMember);
  await writeMemberFile(disk, plan);
  stopping.throwIfAborted();

  let state: UpState['state'] = 'starting';
  let context: string | undefined;
  let written: Promise<void> = Promise.resolve();
  let unwritten = false;
  const noteState = (): void => {
    const { member, collective } = plan;
    written = written
      .then(() => writeState(disk, { pid: process.pid, state, member, collective, context, parts: supervisor.parts() }))
      .then(
        () => {
          unwritten = false;
        },
        (thrown: unknown) => {
          // A hint for others: told once, not at every restart on a full disk.
          if (!unwritten) tell(`could not write ${folder.stateFile}: ${errorChain(thrown).at(-1)}`);
          unwritten = true;
        },
      );
  };
  const supervisor = new Supervisor({ plan, clock: shell.clock, env: shell.env, tell, changed: () => noteState() });
  stack.defer(async () => {
    await written;
    await removeState(disk);
  });
  stack.use(supervisor);
  tell(`starting member ${plan.trustDomain} in ${folder.root}`);
  await supervisor.start(stopping);
  const made = await makeUpContext(shell, plan, stopping);
  context = made.name;
  state = 'ready';
  noteState();
  for (const line of welcomeLines(plan, made, shell.env)) tell(line);

  const parts = stack.move();
  return { failed: supervisor.failed, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

function wantedPorts(plan: UpPlan): Parameters<typeof checkPortsFree>[0] {
  const coordinator = coordinatorPorts(plan.portBase);
  return [
    { port: coordinator.port, host: plan.host, what: 'the coordinator' },
    { port: coordinator.healthPort, host: '127.0.0.1', what: "the coordinator's health" },
    ...plan.nodeNames.flatMap((name, i) => {
      const { port, healthPort } = nodePorts(plan.portBase, i + 1);
      return [
        { port, host: plan.host, what: name },
        { port: healthPort, host: '127.0.0.1', what: `the health of ${name}` },
      ];
    }),
  ];
}

async function inUse(thrown: unknown, folder: UpFolder, disk: FileDisk): Promise<unknown> {
  if (!(thrown instanceof CollectiveError) || thrown.code !== 'data_in_use') return thrown;
  const state = await readState(disk).catch(() => undefined);
  const who =
    state === undefined ? 'another process' : `process ${state.pid} (member ${state.member}.${state.collective})`;
  return new CollectiveError('data_in_use', `Start in ${folder.root}: ${who} runs there`, {
    todo: `'collective down --data ${folder.root}' stops it; --data names another folder.`,
  });
}
