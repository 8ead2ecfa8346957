/**
 * The connection for unary calls. It is shown one certificate for as long as it stands, so a changed identity gets a
 * connection of its own, and calls under way end on the one before (T6): otherwise a program that runs for months would
 * go on with a leaf, and trust in a server's leaf, of an authority that is given up meanwhile.
 *
 * Nor does it outlive a call that failed without a connection. gRPC sets no end to a dial that nobody answers, as when the coordinator
 * has just moved to another machine, and fails every call until the kernel gives up, after two minutes; the next call dials anew.
 */
import type { Clock } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import { AdminClient } from '@collective/protocol/gen/admin';
import { channelCredentials, dialOptions } from '@collective/protocol/tls/grpc-credentials';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import type { ExpectedServer } from '@collective/protocol/tls/spiffe-id';
import type { Trust } from '@collective/protocol/tls/trust-files';
import { connectivityState, InterceptingCall, type Interceptor, status as outcome } from '@grpc/grpc-js';

export interface AdminClientsOptions {
  readonly address: string;
  readonly expected: ExpectedServer;
  readonly trust: Trust;
  readonly clock: Clock;
}

export class AdminClients implements Disposable {
  readonly #options: AdminClientsOptions;
  readonly #unsubscribe: () => void;
  #current: CountedClient;

  constructor(options: AdminClientsOptions) {
    this.#options = options;
    this.#current = new CountedClient(options);
    this.#unsubscribe = options.trust.onChange(() => this.#replace());
  }

  get current(): AdminClient {
    if (this.#current.isStuck) this.#replace();
    return this.#current.client;
  }

  #replace(): void {
    const before = this.#current;
    this.#current = new CountedClient(this.#options);
    before.closeWhenIdle();
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
    this.#current.close();
  }
}

/** Connects when it is first used. A closed channel fails what has not reached its connection yet, so calls are counted. */
class CountedClient {
  readonly client: AdminClient;
  #calls = 0;
  #isStuck = false;
  #leaving = false;
  #closed = false;

  constructor({ address, expected, trust, clock }: AdminClientsOptions) {
    const count: Interceptor = (options, next) => {
      let isUnderWay = true;
      return new InterceptingCall(next(options), {
        start: (metadata, _listener, start) => {
          this.#calls++;
          start(metadata, {
            onReceiveStatus: (status, tell) => {
              isUnderWay = false;
              this.#calls--;
              this.#isStuck ||= status.code !== outcome.OK && this.#isDialling;
              tell(status);
              this.#closeIfIdle();
            },
          });
        },
        // Its status comes later than the caller goes on.
        cancel: (cancel) => {
          this.#isStuck ||= isUnderWay && this.#isDialling;
          cancel();
        },
      });
    };
    // A channel that is closed while it waits to dial again dials once more, and would keep what it gets for ever.
    const refuseUnwanted = ({ uri }: PeerIdentity): void => {
      if (this.#closed)
        throw new CollectiveError('interrupted', `Connect to ${uri}: the connection was closed meanwhile`);
    };
    this.client = new AdminClient(address, channelCredentials(trust, expected, clock, refuseUnwanted), {
      ...dialOptions(expected),
      interceptors: [count],
    });
  }

  /** A call has failed while there was no connection. */
  get isStuck(): boolean {
    return this.#isStuck;
  }

  closeWhenIdle(): void {
    this.#leaving = true;
    this.#closeIfIdle();
  }

  close(): void {
    this.#closed = true;
    this.client.close();
  }

  get #isDialling(): boolean {
    const state = this.client.getChannel().getConnectivityState(false);
    return state === connectivityState.CONNECTING || state === connectivityState.TRANSIENT_FAILURE;
  }

  #closeIfIdle(): void {
    if (this.#leaving && this.#calls === 0) this.close();
  }
}
