/**
 * Dials a node: TCP, TLS with our own certificate, then the check that it is this node (T2: DNS name and URI path). Each
 * connection takes the identity files as they are at that moment (T4).
 */
import type { SocketConstructorOpts } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import type { Clock } from '@collective/base/clock';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import { DialledGuard } from '../tls/dialled-guard.ts';
import { checkServerPeer, identifySocketPeer, type PinnedMember, serverCheck } from '../tls/peer-identity.ts';
import { type ExpectedServer, serverDnsName } from '../tls/spiffe-id.ts';
import { secureContextOptions, type Trust } from '../tls/trust-files.ts';
import type { BulkConnection, BulkConnector, BulkTarget } from './connection.ts';
import { TlsBulkConnection } from './tls-connection.ts';

export const CONNECT_WITHIN_MS = 5_000;
/** What is under way when certificates change has so long to end on the connection that it began on (T6). */
const OUTDATED_WITHIN_MS = 20_000;

export class TlsBulkConnector implements BulkConnector {
  readonly #trust: Trust;
  readonly #clock: Clock;
  readonly #connectWithinMs: number;

  constructor(options: { trust: Trust; clock: Clock; connectWithinMs?: number }) {
    this.#trust = options.trust;
    this.#clock = options.clock;
    this.#connectWithinMs = options.connectWithinMs ?? CONNECT_WITHIN_MS;
  }

  async connect(target: BulkTarget, signal: AbortSignal): Promise<BulkConnection> {
    signal.throwIfAborted();
    const what = `Connect to node ${target.name} at ${target.host}:${target.port}`;
    const expected: ExpectedServer = {
      trustDomain: this.#trust.current.id.trustDomain,
      role: 'node',
      name: target.name,
    };
    const connection = new TlsBulkConnection(target.name);
    const options: ConnectionOptions & Pick<SocketConstructorOpts, 'onread'> = {
      ...secureContextOptions(this.#trust.current),
      host: target.host,
      port: target.port,
      servername: serverDnsName(expected) ?? '',
      checkServerIdentity: serverCheck(() => this.#member(), expected, this.#clock),
      onread: connection.onread,
    };
    const guard = new DialledGuard({
      trust: this.#trust,
      clock: this.#clock,
      giveUp: () => {
        connection.outdate();
        const timer = this.#clock.setTimer(OUTDATED_WITHIN_MS, () => connection.close(), { background: true });
        socket.once('close', () => timer.cancel());
      },
    });
    const socket = connect(options);
    socket.once('close', () => guard[Symbol.dispose]());
    try {
      await this.#secured(socket, what, signal);
      const peer = checkServerPeer(identifySocketPeer(socket, this.#member(), this.#clock), expected);
      connection.attach(socket, { emitsData: false });
      guard.secured(peer);
      return connection;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  #member(): PinnedMember {
    return { trustDomain: this.#trust.current.id.trustDomain, roots: this.#trust.current.roots };
  }

  #secured(socket: TLSSocket, what: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void): void => {
        timer.cancel();
        signal.removeEventListener('abort', onAbort);
        socket.off('error', onError);
        socket.off('close', onClose);
        socket.off('secureConnect', onSecure);
        // An error between here and `attach` has no listener otherwise, and would end the process.
        socket.on('error', ignoreLate);
        finish();
      };
      const onAbort = (): void => settle(() => reject(signal.reason));
      const onError = (error: Error): void => settle(() => reject(translate(error, what)));
      const onClose = (): void =>
        settle(() => reject(new CollectiveError('unavailable', `${what}: the connection was closed`)));
      const onSecure = (): void => settle(resolve);
      const timer = this.#clock.setTimer(this.#connectWithinMs, () =>
        settle(() =>
          reject(new CollectiveError('unavailable', `${what}: no answer within ${this.#connectWithinMs} ms`)),
        ),
      );
      signal.addEventListener('abort', onAbort, { once: true });
      socket.once('error', onError);
      socket.once('close', onClose);
      socket.once('secureConnect', onSecure);
    });
  }
}

function ignoreLate(): void {
  // The connection learns of it by 'close'.
}

function translate(error: Error, what: string): CollectiveError {
  if (error instanceof CollectiveError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (/^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO|DEPTH_|SELF_SIGNED|PERMITTED|EXCLUDED)/.test(code))
    return new CollectiveError('unauthenticated', `${what}: its certificate was refused`, { cause: error });
  return toCollectiveError(error, what, 'unavailable');
}
