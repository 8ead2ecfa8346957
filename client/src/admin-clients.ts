/**
 * The connection for unary calls. It is shown one certificate for as long as it stands, so a changed identity gets a
 * connection of its own, and calls under way end on the one before (T6): otherwise a program that runs for months would
 * go on with a leaf, and trust in a server's leaf, of an authority that is given up meanwhile.
 */
import type { Clock } from '@collective/base/clock';
import { AdminClient } from '@collective/protocol/gen/admin';
import { channelCredentials, dialOptions } from '@collective/protocol/tls/grpc-credentials';
import type { ExpectedServer } from '@collective/protocol/tls/spiffe-id';
import type { Trust } from '@collective/protocol/tls/trust-files';

export interface AdminClientsOptions {
  readonly address: string;
  readonly expected: ExpectedServer;
  readonly trust: Trust;
  readonly clock: Clock;
}

export class AdminClients implements Disposable {
  readonly #options: AdminClientsOptions;
  readonly #unsubscribe: () => void;
  #current: AdminClient;

  constructor(options: AdminClientsOptions) {
    this.#options = options;
    this.#current = this.#dial();
    this.#unsubscribe = options.trust.onChange(() => {
      const before = this.#current;
      this.#current = this.#dial();
      before.close();
    });
  }

  get current(): AdminClient {
    return this.#current;
  }

  [Symbol.dispose](): void {
    this.#unsubscribe();
    this.#current.close();
  }

  /** Connects when it is first used. */
  #dial(): AdminClient {
    const { address, expected, trust, clock } = this.#options;
    return new AdminClient(address, channelCredentials(trust, expected, clock), dialOptions(expected));
  }
}
