/**
 * A bad network between a program and a server: it passes bytes on, cuts all connections when told, or goes silent and keeps
 * them open, as a machine does that lost its power.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class TcpProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #silent = false;

  static async to(port: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(port);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  private constructor(port: number) {
    this.#server = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      // What was silenced hears nothing of the server any more, not even that it hung up.
      let silenced = false;
      const pass = (from: Socket, to: Socket, hangsUp: () => boolean): void => {
        this.#sockets.add(from);
        from.on('data', (piece: Buffer) => {
          silenced ||= this.#silent;
          if (!this.#silent) to.write(piece);
        });
        from.once('end', () => {
          if (hangsUp()) to.end();
        });
        from.once('close', () => {
          this.#sockets.delete(from);
          if (hangsUp()) to.destroy();
        });
        // What breaks here closes both ends, which is what they are told.
        from.on('error', () => undefined);
      };
      pass(near, far, () => true);
      pass(far, near, () => !silenced);
    });
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Every connection breaks; new ones are taken. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Bytes are swallowed from now on, and connections stay open; `speak` lets those pass that come after. */
  silence(): void {
    this.#silent = true;
  }

  speak(): void {
    this.#silent = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }
}
