/**
 * Listens for bulk connections: mutual TLS, the peer named by its certificate and of our own member (T1, T3). A peer that does
 * not pass is cut before one of its bytes is read as a frame.
 */
import type { AddressInfo, Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { Clock, Timer } from '@collective/base/clock';
import { listenError } from '@collective/base/listen-error';
import { type Log, silentLog } from '@collective/base/log';
import { guardConnection } from '../tls/connection-guard.ts';
import { identifySocketPeer, type PeerIdentity } from '../tls/peer-identity.ts';
import { secureContextOptions, type Trust } from '../tls/trust-files.ts';
import type { BulkConnection } from './connection.ts';
import { TlsBulkConnection } from './tls-connection.ts';

const HANDSHAKE_WITHIN_MS = 5_000;
const CLOSE_WITHIN_MS = 5_000;
/** Sockets of one listener, handshakes included. */
export const CONNECTIONS_MAX = 4_096;
/** A socket read takes up to this; the default of 64 KiB would pause and resume the socket all the time. */
const RECEIVE_HIGH_WATER_BYTES = 1024 * 1024;

export interface TlsBulkAcceptorOptions {
  readonly trust: Trust;
  readonly clock: Clock;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly log?: Log;
  /** From the moment that a peer's certificate does not count any more; default 5 s. */
  readonly closeWithinMs?: number;
  accept(connection: BulkConnection, peer: PeerIdentity): void;
}

export class TlsBulkAcceptor implements AsyncDisposable {
  readonly #server: Server;
  readonly #options: TlsBulkAcceptorOptions;
  readonly #log: Log;
  readonly #sockets = new Set<Socket>();
  #stopFollowing: () => void = () => undefined;

  static async listen(options: TlsBulkAcceptorOptions): Promise<TlsBulkAcceptor> {
    const acceptor = new TlsBulkAcceptor(options);
    await acceptor.#listen();
    return acceptor;
  }

  private constructor(options: TlsBulkAcceptorOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLog;
    this.#server = createServer({
      ...secureContextOptions(options.trust.current),
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: HANDSHAKE_WITHIN_MS,
      highWaterMark: RECEIVE_HIGH_WATER_BYTES,
      noDelay: true,
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.on('connection', (socket) => this.#remember(socket));
    this.#server.on('secureConnection', (socket) => this.#accept(socket));
    this.#server.on('tlsClientError', (error, socket) => {
      this.#log.warn({ from: socket.remoteAddress, why: error.message }, 'bulk handshake refused');
      // A handshake that took too long is reported and left open.
      socket.destroy();
    });
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** No new connections from now on; those that stand go on. */
  stopAccepting(): void {
    this.#server.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopFollowing();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #listen(): Promise<void> {
    const { host, port, trust } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenError(`${host}:${port}`, error)));
      this.#server.listen({ host, port }, resolve);
    });
    this.#server.on('error', (error) => this.#log.error({ err: error }, 'bulk listener failed'));
    this.#stopFollowing = trust.onChange((set) => this.#server.setSecureContext(secureContextOptions(set)));
  }

  #remember(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #accept(socket: TLSSocket): void {
    const { trust, clock, accept } = this.#options;
    this.#remember(socket);
    // Until the connection has the socket, an error has no other listener and would end the process.
    socket.on('error', ignoreLate);
    let peer: PeerIdentity;
    try {
      peer = identifySocketPeer(
        socket,
        { trustDomain: trust.current.id.trustDomain, roots: trust.current.roots },
        clock,
      );
    } catch (error) {
      this.#log.warn({ from: socket.remoteAddress, err: error }, 'bulk peer refused');
      socket.destroy();
      return;
    }
    const connection = new TlsBulkConnection(peer.uri);
    connection.attach(socket, { emitsData: true });
    // A peer that follows its certificates has left before; one that does not is cut when what it began may have ended.
    let timer: Timer | undefined;
    const close = (): void => {
      timer = clock.setTimer(this.#options.closeWithinMs ?? CLOSE_WITHIN_MS, () => connection.close());
    };
    const unguard = guardConnection({ peer, trust, clock, close });
    socket.once('close', () => {
      unguard();
      timer?.cancel();
    });
    accept(connection, peer);
  }
}

function ignoreLate(): void {
  // The connection learns of it by 'close'.
}
