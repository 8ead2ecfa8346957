/**
 * A port of the loopback that leads to a port of a pod. Each connection to it opens one of its own to the pod, so a pod that
 * was restarted is reached again by dialling again. Others on this machine may dial it too: they meet mutual TLS there, as
 * everybody in the cluster does.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { CollectiveError, toCollectiveError } from '@collective/base/errors';
import type { KubeApi } from './kube-api.ts';
import { PodConnection, type PodPort } from './pod-connection.ts';

/** A client holds two to a node and one to the coordinator; more are a mistake. */
const CONNECTIONS_MAX = 64;

export class PodForward implements AsyncDisposable {
  readonly #api: KubeApi;
  readonly #target: PodPort;
  readonly #server: Server;
  readonly #connections = new Set<PodConnection>();
  /** Opened before anybody dialled, as the proof that the way is open. */
  #spare: PodConnection | undefined;
  #lastFailure: CollectiveError | undefined;
  #closed = false;

  /** Throws when the way to the pod is not open now. */
  static async open(api: KubeApi, target: PodPort): Promise<PodForward> {
    const forward = new PodForward(api, target);
    await forward.probe();
    try {
      await forward.#listen();
      return forward;
    } catch (thrown) {
      await forward[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  private constructor(api: KubeApi, target: PodPort) {
    this.#api = api;
    this.#target = target;
    this.#server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => this.#lead(socket));
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Why the last connection that failed did so. */
  get lastFailure(): CollectiveError | undefined {
    return this.#lastFailure;
  }

  /** Opens the connection that the next caller will have. */
  async probe(): Promise<void> {
    if (this.#spare?.isOpen) return;
    this.#spare = await this.#open();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#spare?.close();
    for (const connection of this.#connections) connection.close();
    if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #lead(socket: Socket): void {
    const spare = this.#spare;
    this.#spare = undefined;
    // Who hangs up meanwhile is found closed below.
    socket.on('error', () => undefined);
    const opening = spare?.isOpen ? Promise.resolve(spare) : this.#open();
    opening.then(
      (connection) => {
        if (socket.destroyed || this.#closed) {
          socket.destroy();
          connection.close();
          return;
        }
        this.#connections.add(connection);
        socket.once('close', () => this.#connections.delete(connection));
        connection.join(socket, (failure) => {
          this.#lastFailure = failure;
        });
        socket.resume();
      },
      () => socket.destroy(),
    );
  }

  async #open(): Promise<PodConnection> {
    try {
      const connection = await PodConnection.open(this.#api, this.#target);
      this.#lastFailure = undefined;
      return connection;
    } catch (thrown) {
      this.#lastFailure = toCollectiveError(thrown, `Forward a port to pod ${this.#target.pod}`, 'unavailable');
      throw this.#lastFailure;
    }
  }

  async #listen(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once('error', (cause) =>
      reject(new CollectiveError('unavailable', 'Listen on the loopback for a forwarded port', { cause })),
    );
    this.#server.listen({ host: '127.0.0.1', port: 0 }, resolve);
    await promise;
  }
}
