/**
 * The life of a server process: start its parts, run until it is asked to stop, stop them within a deadline. SIGTERM and
 * SIGINT ask; asked again a moment later, it ends at once. What ends by itself (a failed disk, a broken invariant) ends the process with
 * a code, so that whoever watches it starts it again: nothing is half alive.
 *
 * Who creates, disposes: the parts are one AsyncDisposable (use `AsyncDisposableStack` to build it from many).
 */
import type { Clock, Timer } from './clock.ts';
import { CollectiveError, ERROR_CODES, toCollectiveError } from './errors/index.ts';
import type { Log } from './log.ts';

/** Exit codes of a server. Supervisors start it again after all but the first. */
export const SERVER_EXIT = {
  stopped: 0,
  /** As commands end without room: a new start helps as soon as there is some. */
  noSpace: ERROR_CODES.no_space.exit,
  /** A part reported that it cannot go on; a new start may. */
  failed: 69,
  /** A defect: an exception that nobody caught. */
  crashed: 70,
  /** It did not stop within its deadline. */
  stopTimedOut: 75,
} as const;

/** Terminals and npm deliver one Ctrl-C twice; what comes this soon is the same wish. */
const SAME_WISH_MS = 300;

export interface Running extends AsyncDisposable {
  /** Resolves with the reason when a part cannot go on; the process then stops what is left and ends with `failed`. */
  readonly failed?: Promise<CollectiveError>;
}

export interface ServeOptions {
  readonly log: Log;
  readonly clock: Clock;
  /** From the request to stop until the process is ended by force, also when it has not finished its start. */
  readonly stopWithinMs: number;
  /** Starts all parts. `stopping` is aborted when the process is asked to stop, also in the middle of the start. */
  start(stopping: AbortSignal): Promise<Running>;
  /** A second way to be asked, e.g. the end of the process that supervises this one. */
  readonly stopOn?: AbortSignal;
}

/** Runs until asked to stop; the result is the exit code. What `start` throws is thrown on: nothing runs then. */
export async function serve(options: ServeOptions): Promise<number> {
  const { log, clock, stopWithinMs } = options;
  const stopping = new AbortController();
  const asked = Promise.withResolvers<string>();
  let force: Timer | undefined;
  const endInTime = (): void => {
    force ??= clock.setTimer(
      stopWithinMs,
      () => {
        log.error({ stopWithinMs }, 'stop took too long');
        process.exit(SERVER_EXIT.stopTimedOut);
      },
      { background: true },
    );
  };
  const ask = (why: string): void => {
    endInTime();
    stopping.abort(new CollectiveError('shutting_down', `Stop because of ${why}`));
    asked.resolve(why);
  };
  let askedAtMs = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (!stopping.signal.aborted) {
      askedAtMs = clock.bootMs();
      ask(signal);
    } else if (clock.bootMs() - askedAtMs > SAME_WISH_MS) {
      process.exit(128 + (signal === 'SIGINT' ? 2 : 15));
    }
  };
  const onDefect = (thrown: unknown): void => {
    log.fatal({ err: thrown }, 'defect');
    process.exit(SERVER_EXIT.crashed);
  };
  const onStop = (): void => ask(String(options.stopOn?.reason ?? 'its supervisor'));

  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('uncaughtException', onDefect);
  process.on('unhandledRejection', onDefect);
  if (options.stopOn?.aborted) onStop();
  else options.stopOn?.addEventListener('abort', onStop, { once: true });
  try {
    const running = await options.start(stopping.signal);
    const failed = (running.failed ?? new Promise<never>(() => undefined)).then((error) => ({ error }));
    const end = await Promise.race([asked.promise.then((why) => ({ why })), failed]);
    if ('error' in end) log.error({ err: end.error }, 'part failed');
    else log.info({ why: end.why }, 'stopping');

    endInTime();
    try {
      await running[Symbol.asyncDispose]();
    } catch (thrown) {
      log.error({ err: toCollectiveError(thrown, 'Stop the process') }, 'stop failed');
      return SERVER_EXIT.failed;
    }
    log.info({}, 'stopped');
    if (!('error' in end)) return SERVER_EXIT.stopped;
    return end.error.code === 'no_space' ? SERVER_EXIT.noSpace : SERVER_EXIT.failed;
  } finally {
    force?.cancel();
    process.off('SIGTERM', onSignal);
    process.off('SIGINT', onSignal);
    process.off('uncaughtException', onDefect);
    process.off('unhandledRejection', onDefect);
    options.stopOn?.removeEventListener('abort', onStop);
  }
}
