/**
 * The listener of the coordinator's port: TLS, and then two ways in (T3). Whoever shows a certificate of this member goes to the
 * server for peers. Everybody else, who can have no more than one call to make (`Enrol`), goes to a server with small
 * bounds of its own, and there is a bound of how many such strangers are let in at once: the oldest gives way, so that
 * connections that are only held open keep nobody out.
 */

import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { type AddressInfo, createServer as createListener, isIP, type Server as Listener, type Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { formatHostPort } from '@collective/base/host-port';
import { listenError } from '@collective/base/listen-error';
import type { Log } from '@collective/base/log';
import { secureContextOptions, type Trust } from '@collective/protocol/tls/trust-files';
import { isIssuedBy } from '@collective/protocol/tls/trust-set';

const HANDSHAKE_WITHIN_MS = 5_000;
/** Sockets of one address that is listened on, handshakes included. */
const CONNECTIONS_MAX = 4_096;
const STRANGERS_MAX = 64;
const APPLICATION_PROTOCOL = 'h2';

export interface FrontDoorOptions {
  readonly trust: Trust;
  readonly log: Log;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** Let in at once. */
  readonly strangersMax?: number | undefined;
  /** Has a certificate that a root of this member signed. Whose it is has not been looked at. */
  peer(socket: TLSSocket, rootFingerprint256: string): void;
  /** Has none. */
  stranger(socket: TLSSocket): void;
}

export class FrontDoor implements AsyncDisposable {
  readonly #options: FrontDoorOptions;
  readonly #tls: Server;
  readonly #listeners: Listener[] = [];
  readonly #sockets = new Set<Socket>();
  /** Connections of peers, by the root of the leaf that each has shown (T6). */
  readonly #peers = new Map<string, number>();
  /** Oldest first. */
  readonly #strangers = new Set<TLSSocket>();
  readonly #stopFollowing: () => void;
  #port: number;

  /** Throws `address_in_use`, `unavailable`. */
  static async open(options: FrontDoorOptions): Promise<FrontDoor> {
    const door = new FrontDoor(options);
    try {
      await door.#listen();
      return door;
    } catch (error) {
      await door[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(options: FrontDoorOptions) {
    const { trust, log } = options;
    this.#options = options;
    this.#port = options.port;
    this.#tls = createServer({
      ...secureContextOptions(trust.current),
      requestCert: true,
      // Not demanded, for `Enrol` has none; who has none that we trust is a stranger.
      rejectUnauthorized: false,
      ALPNProtocols: [APPLICATION_PROTOCOL],
      handshakeTimeout: HANDSHAKE_WITHIN_MS,
    });
    this.#tls.on('secureConnection', (socket) => this.#receive(socket));
    this.#tls.on('tlsClientError', (error, socket) => {
      log.debug({ from: socket.remoteAddress, why: error.message }, 'handshake refused');
      // A handshake that took too long is reported and left open.
      socket.destroy();
    });
    this.#stopFollowing = trust.onChange((set) => this.#tls.setSecureContext(secureContextOptions(set)));
  }

  get port(): number {
    return this.#port;
  }

  get connectionsByRoot(): { root: string; count: number }[] {
    return [...this.#peers].map(([root, count]) => ({ root, count }));
  }

  /** No new connections from now on; resolves when those that stand have ended. */
  async close(): Promise<void> {
    this.#stopFollowing();
    await Promise.all(
      this.#listeners.map((listener) => new Promise<void>((resolve) => listener.close(() => resolve()))),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** On every address that the name stands for: `localhost` is two on most machines. */
  async #listen(): Promise<void> {
    const { host, port } = this.#options;
    const given = formatHostPort({ host, port });
    const addresses = await addressesOf(host).catch((error: unknown) => {
      throw listenError(given, error);
    });
    let refused: NodeJS.ErrnoException | undefined;
    for (const address of addresses) {
      try {
        await this.#listenOn(address);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // A name may stand for an address of a family that this machine does not have.
        if (code !== 'EADDRNOTAVAIL' && code !== 'EAFNOSUPPORT') throw listenError(given, error);
        refused = error as NodeJS.ErrnoException;
      }
    }
    if (this.#listeners.length === 0) throw listenError(given, refused);
  }

  async #listenOn(host: string): Promise<void> {
    const listener = createListener({ noDelay: true });
    listener.maxConnections = CONNECTIONS_MAX;
    listener.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      this.#tls.emit('connection', socket);
    });
    await once(listener.listen({ host, port: this.#port }), 'listening');
    this.#port = (listener.address() as AddressInfo).port;
    listener.on('error', (error) => this.#options.log.error({ err: error }, 'listener failed'));
    this.#listeners.push(listener);
  }

  #receive(socket: TLSSocket): void {
    // Until a server has the socket, an error has no other listener and would end the process.
    socket.on('error', ignoreLate);
    if (socket.alpnProtocol !== APPLICATION_PROTOCOL) {
      socket.destroy();
      return;
    }
    const root = socket.authorized ? this.#rootOf(socket) : undefined;
    if (root !== undefined) {
      this.#count(root, socket);
      this.#options.peer(socket, root);
      return;
    }
    this.#strangers.add(socket);
    socket.once('close', () => this.#strangers.delete(socket));
    const [oldest] = this.#strangers;
    if (this.#strangers.size > (this.#options.strangersMax ?? STRANGERS_MAX)) oldest?.destroy();
    this.#options.stranger(socket);
  }

  /** Undefined: the roots have changed since the handshake began. */
  #rootOf(socket: TLSSocket): string | undefined {
    const leaf = socket.getPeerX509Certificate();
    if (leaf === undefined) return undefined;
    return this.#options.trust.current.roots.find((root) => isIssuedBy(leaf, root))?.fingerprint256;
  }

  #count(root: string, socket: TLSSocket): void {
    this.#peers.set(root, (this.#peers.get(root) ?? 0) + 1);
    socket.once('close', () => {
      const left = (this.#peers.get(root) ?? 1) - 1;
      if (left > 0) this.#peers.set(root, left);
      else this.#peers.delete(root);
    });
  }
}

async function addressesOf(host: string): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host];
  const found = await lookup(host, { all: true });
  return [...new Set(found.map(({ address }) => address))];
}

function ignoreLate(): void {
  // The server learns of it by 'close'.
}
