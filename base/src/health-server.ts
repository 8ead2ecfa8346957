/** Plain HTTP for probes and metrics (T3: nothing secret). `/livez`: the process can go on; `/readyz`: it can serve. An edge. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { listenError } from './listen-error.ts';

const REQUEST_WITHIN_MS = 5_000;

/** A registry of prom-client fits. */
export interface MetricsSource {
  readonly contentType: string;
  metrics(): Promise<string>;
}

export interface HealthServerOptions {
  readonly host: string;
  readonly port: number;
  readonly registry: MetricsSource;
  /** Undefined when well, else what is wrong. */
  live(): string | undefined;
  ready(): string | undefined;
}

export class HealthServer implements AsyncDisposable {
  readonly #options: HealthServerOptions;
  readonly #server: Server;

  static async listen(options: HealthServerOptions): Promise<HealthServer> {
    const health = new HealthServer(options);
    await health.#listen();
    return health;
  }

  private constructor(options: HealthServerOptions) {
    this.#options = options;
    this.#server = createServer(
      { requestTimeout: REQUEST_WITHIN_MS, headersTimeout: REQUEST_WITHIN_MS },
      (request, response) => {
        void this.#answer(request.url ?? '', response);
      },
    );
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #listen(): Promise<void> {
    const { host, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenError(`${host}:${port} for health checks`, error)));
      this.#server.listen({ host, port }, resolve);
    });
  }

  async #answer(url: string, response: ServerResponse): Promise<void> {
    const { registry, live, ready } = this.#options;
    const path = url.split('?', 1)[0];
    if (path === '/metrics') {
      response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics());
      return;
    }
    if (path !== '/livez' && path !== '/readyz') {
      response.writeHead(404).end('not found\n');
      return;
    }
    const trouble = path === '/livez' ? live() : ready();
    response.writeHead(trouble === undefined ? 200 : 503, { 'content-type': 'text/plain' }).end(`${trouble ?? 'ok'}\n`);
  }
}
