/**
 * Opens session streams over gRPC. Each stream has a connection of its own: a new try dials at once instead of waiting for
 * the channel's own back-off, and takes the identity files as they are then (T4). When they change it is closed, and the
 * session goes on over the next (T6).
 */
import type { Clock } from '@collective/base/clock';
import { FilesClient } from '@collective/protocol/gen/session';
import { clientLink } from '@collective/protocol/link/grpc-link';
import { DialledGuard } from '@collective/protocol/tls/dialled-guard';
import { channelCredentials, dialOptions } from '@collective/protocol/tls/grpc-credentials';
import type { ExpectedServer } from '@collective/protocol/tls/spiffe-id';
import type { Trust } from '@collective/protocol/tls/trust-files';
import { explained } from './explain-unavailable.ts';
import type { SessionConnector, SessionLink } from './session/session-connector.ts';

export class GrpcSessionConnector implements SessionConnector {
  readonly address: string;
  readonly #expected: ExpectedServer;
  readonly #trust: Trust;
  readonly #clock: Clock;

  constructor(options: { address: string; expected: ExpectedServer; trust: Trust; clock: Clock }) {
    this.address = options.address;
    this.#expected = options.expected;
    this.#trust = options.trust;
    this.#clock = options.clock;
  }

  async open(signal: AbortSignal): Promise<SessionLink> {
    signal.throwIfAborted();
    const guard = new DialledGuard({ trust: this.#trust, clock: this.#clock, giveUp: () => close() });
    const credentials = channelCredentials(this.#trust, this.#expected, this.#clock, (peer) => guard.secured(peer));
    const client = new FilesClient(this.address, credentials, dialOptions(this.#expected));
    const what = `Talk to the coordinator at ${this.address}`;
    const link = clientLink(client.session(), what, this.#clock);
    const close = (): void => {
      guard[Symbol.dispose]();
      link.close();
      client.close();
    };
    let answered = false;
    return {
      send: (message) => link.send(message),
      drained: () => link.drained(),
      receive: async (s) => {
        if (answered) return await link.receive(s);
        const own = this.#trust.current;
        const { bundlePem } = own;
        const dialled = { address: this.address, expected: this.#expected, bundlePem, clock: this.#clock, own };
        const message = await explained(link.receive(s), dialled);
        answered = true;
        return message;
      },
      close,
    };
  }
}
