/**
 * From the flags of a command to a member: which context, which address, for how long, and the end of the session in
 * every case. The client is loaded here, when the first command needs it.
 */
import { resolve } from 'node:path';
import { formatDurationMs } from '@collective/base/duration';
import { CollectiveError } from '@collective/base/errors';
import type { Admin, ConnectOptions, Member, ResolvedContext } from '@collective/client';
import type { Command } from 'commander';
import { type Shell, say } from './shell.ts';
import { type GlobalOptions, globalOptions } from './verb.ts';
import { VERSION } from './version.ts';
import { openWay, type Way } from './way.ts';

/** Restarts take less. */
const TELL_AFTER_MS = 500;

export interface MemberSession {
  readonly member: Member;
  readonly files: Member['files'];
  readonly admin: Member['admin'];
  readonly context: ResolvedContext;
  readonly globals: GlobalOptions;
  /** Ends with Ctrl-C and with `--timeout`. */
  readonly signal: AbortSignal;
}

export interface AdminSession {
  readonly admin: Admin;
  readonly context: ResolvedContext;
  readonly globals: GlobalOptions;
  readonly signal: AbortSignal;
}

/** For commands that only ask the coordinator about itself: no session is opened, so they work also when files do not. */
export async function withAdmin<T>(
  shell: Shell,
  command: Command,
  use: (session: AdminSession) => Promise<T>,
  { identity }: { readonly identity?: string } = {},
): Promise<T> {
  const globals = globalOptions(command);
  return await withDeadline(shell, globals, async (signal) => {
    const context =
      identity === undefined ? await chosenContext(shell, globals) : await contextOf(shell, globals, identity);
    const { connectAdmin } = await import('@collective/client');
    await using way = await openWay(shell, context, signal);
    using connection = await connectAdmin({ ...connectOptions(context), ...way.changes });
    return await explainedBy(way, use({ admin: connection.admin, context, globals, signal }));
  });
}

export async function withMember<T>(
  shell: Shell,
  command: Command,
  use: (session: MemberSession) => Promise<T>,
): Promise<T> {
  const globals = globalOptions(command);
  return await withDeadline(shell, globals, async (signal) => {
    const context = await chosenContext(shell, globals);
    await using way = await openWay(shell, context, signal);
    const changes = { ...noteWaiting(shell, context, globals), ...way.changes };
    await using member = await explainedBy(way, connectTo(context, signal, changes));
    const { files, admin } = member;
    return await explainedBy(way, use({ member, files, admin, context, globals, signal }));
  });
}

async function explainedBy<T>(way: Way, attempt: Promise<T>): Promise<T> {
  try {
    return await attempt;
  } catch (thrown) {
    throw way.explain(thrown);
  }
}

/** Runs with a signal that also ends at `--timeout`. */
export async function withDeadline<T>(
  shell: Shell,
  globals: GlobalOptions,
  use: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { timeoutMs } = globals;
  if (timeoutMs === undefined) return await use(shell.signal);
  const late = new AbortController();
  const timer = shell.clock.setTimer(timeoutMs, () =>
    late.abort(new CollectiveError('deadline_exceeded', `Finish within --timeout ${formatDurationMs(timeoutMs)}`)),
  );
  try {
    return await use(AbortSignal.any([shell.signal, late.signal]));
  } finally {
    timer.cancel();
  }
}

/** The context that the flags name, with the address that they may put in place of its own. */
export async function chosenContext(shell: Shell, globals: GlobalOptions): Promise<ResolvedContext> {
  const { ContextStore, contextLocation } = await import('@collective/client');
  const context = await new ContextStore(contextLocation(shell.env)).get(globals.context);
  return globals.coordinator === undefined ? context : { ...context, coordinator: globals.coordinator, via: undefined };
}

/** For programs that are given a folder with a certificate, and no contexts: whose it is stands in the certificate. */
async function contextOf(shell: Shell, { coordinator }: GlobalOptions, folder: string): Promise<ResolvedContext> {
  if (coordinator === undefined)
    throw new CollectiveError('config_invalid', 'Use --identity: --coordinator says where its member is');
  const { TrustFiles } = await import('@collective/protocol/tls/trust-files');
  const credentials = resolve(shell.cwd, folder);
  using trust = await TrustFiles.load(credentials, { clock: shell.clock });
  const { trustDomain } = trust.current.id;
  return { name: trustDomain, current: false, coordinator, trustDomain, credentials, listener: 'internal' };
}

/** A session, or an error that says why the coordinator could not be reached, also where `--timeout` ended the waiting. */
export async function connectTo(
  context: ResolvedContext,
  signal: AbortSignal,
  changes: Partial<ConnectOptions> = {},
): Promise<Member> {
  const { connect } = await import('@collective/client');
  let reason: CollectiveError | undefined;
  const onConnectFailed = (error: CollectiveError): void => {
    reason = error;
    changes.onConnectFailed?.(error);
  };
  try {
    return await connect({ ...connectOptions(context), ...changes, onConnectFailed }, { signal });
  } catch (thrown) {
    if (thrown !== signal.reason || !(thrown instanceof CollectiveError)) throw thrown;
    throw new CollectiveError(
      thrown.code,
      `Reach the coordinator of ${context.trustDomain} at ${context.coordinator}: ${thrown.message}`,
      { cause: reason ?? thrown },
    );
  }
}

/** A coordinator that restarts is waited for; who watches is told for what. */
function noteWaiting(shell: Shell, context: ResolvedContext, globals: GlobalOptions): Partial<ConnectOptions> {
  const startedMs = shell.clock.bootMs();
  let told = globals.quiet;
  return {
    onConnectFailed: (error) => {
      if (told || shell.clock.bootMs() - startedMs < TELL_AFTER_MS) return;
      told = true;
      void say(shell, `Waiting for the coordinator of ${context.trustDomain}. ${error.message}.`);
    },
  };
}

export function connectOptions({ coordinator, trustDomain, credentials, listener }: ResolvedContext): ConnectOptions {
  return { coordinator, trustDomain, credentials, listener, program: `collective/${VERSION}` };
}
