/**
 * A bidirectional gRPC call as a Link. Both directions are bounded: reading pauses while the reader lags, and a sender that
 * never waits for `drained` against a peer that does not read loses the link, not the process.
 */
import type { Clock, Timer } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { ClientDuplexStream, ServerDuplexStream, ServiceError } from '@grpc/grpc-js';
import { fromServiceError, toServiceError } from '../errors/grpc-status.ts';
import { Inbox } from './inbox.ts';
import type { Link } from './link.ts';

/** Unread messages above which reading from the network pauses, and below which it goes on. */
const INCOMING_MESSAGES_HIGH = 256;
const INCOMING_MESSAGES_LOW = 64;
/** Unsent messages above which the link is given up. */
const OUTGOING_MESSAGES_MAX = 16_384;
/** After our close the server has so long to end the call in order. */
const CLOSE_WITHIN_MS = 5_000;

export interface ServerLink<Out, In> extends Link<Out, In> {
  /** Ends the call with an error status. */
  refuse(error: unknown): void;
}

type Call<Out, In> = ClientDuplexStream<Out, In> | ServerDuplexStream<In, Out>;

/** `whileDoing` names the link in errors, e.g. "Session with coordinator.alice.home". */
export function clientLink<Out, In>(
  call: ClientDuplexStream<Out, In>,
  whileDoing: string,
  clock: Clock,
): Link<Out, In> {
  let closeTimer: Timer | undefined;
  let failure: ServiceError | undefined;
  let ended = false;
  let answered = false;
  const { inbox, send, drained, stop } = attach(call, whileDoing);
  // The status says how the call ended; 'end' says that everything before it was read. Either may come first.
  const settle = (): void => {
    if (!ended || !answered) return;
    closeTimer?.cancel();
    stop();
    if (failure === undefined) inbox.close();
    else inbox.break(fromServiceError(failure, whileDoing));
    call.end();
  };
  call.on('error', (error: ServiceError) => {
    failure = error;
  });
  call.on('status', () => {
    answered = true;
    settle();
  });
  call.on('end', () => {
    ended = true;
    settle();
  });
  return {
    send,
    drained,
    receive: (signal) => inbox.receive(signal),
    close: () => {
      if (!stop()) return;
      inbox.closeHere();
      call.resume();
      call.end();
      closeTimer = clock.setTimer(CLOSE_WITHIN_MS, () => call.cancel(), { background: true });
    },
  };
}

export function serverLink<Out, In>(call: ServerDuplexStream<In, Out>, whileDoing: string): ServerLink<Out, In> {
  const { inbox, send, drained, stop } = attach(call, whileDoing);
  const lose = (cause?: unknown): void => {
    stop();
    inbox.break(new CollectiveError('unavailable', `${whileDoing}: the other side is gone`, { cause }));
  };
  call.on('end', () => {
    // A broken connection ends the stream, too, before it says that it is broken: let it say so first.
    setImmediate(() => {
      // The client closed: nobody reads what would be sent from now on.
      stop();
      inbox.close();
      call.end();
    });
  });
  call.on('cancelled', () => lose());
  call.on('error', lose);
  return {
    send,
    drained,
    receive: (signal) => inbox.receive(signal),
    close: () => {
      if (!stop()) return;
      inbox.closeHere();
      call.resume();
      call.end();
    },
    refuse: (error) => {
      if (!stop()) return;
      inbox.closeHere();
      call.resume();
      call.emit('error', toServiceError(error, whileDoing));
    },
  };
}

interface Attached<Out, In> {
  readonly inbox: Inbox<In>;
  readonly send: (message: Out) => void;
  readonly drained: () => Promise<void>;
  /** No more sending; false if that was so before. */
  readonly stop: () => boolean;
}

/** What both sides have in common. */
function attach<Out, In>(call: Call<Out, In>, whileDoing: string): Attached<Out, In> {
  let open = true;
  let waiters: (() => void)[] = [];
  const release = (): void => {
    const released = waiters;
    waiters = [];
    for (const resolve of released) resolve();
  };
  const inbox = new Inbox<In>((waiting) => {
    if (waiting <= INCOMING_MESSAGES_LOW && call.isPaused()) call.resume();
  });
  call.on('data', (message: In) => {
    inbox.push(message);
    if (inbox.waiting >= INCOMING_MESSAGES_HIGH) call.pause();
  });
  call.on('drain', release);
  call.on('close', release);
  const stop = (): boolean => {
    const was = open;
    open = false;
    release();
    return was;
  };
  return {
    inbox,
    stop,
    send: (message) => {
      if (!open) return;
      if (call.writableLength >= OUTGOING_MESSAGES_MAX) {
        stop();
        inbox.break(
          new CollectiveError(
            'overloaded',
            `${whileDoing}: the other side does not read; ${OUTGOING_MESSAGES_MAX} messages wait`,
          ),
        );
        abandon(call);
        return;
      }
      call.write(message);
    },
    drained: () =>
      open && call.writableNeedDrain ? new Promise((resolve) => waiters.push(resolve)) : Promise.resolve(),
  };
}

function abandon<Out, In>(call: Call<Out, In>): void {
  if ('cancelled' in call) call.destroy();
  else call.cancel();
}
