/**
 * What apiserver and kubelet do for a forwarded port, without a cluster: a WebSocket to a pod's port becomes a connection to
 * a port of this machine. Real clusters prove that it is as here (level e2e); this proves what the client does when pods
 * restart, are missing, or may not be reached.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';

export interface ForwardedPod {
  /** Where a port of it really is. */
  port(port: number): number;
}

export class FakePortForward implements AsyncDisposable {
  readonly pods = new Map<string, ForwardedPod>();
  /** What else can be asked for, by its path. */
  readonly objects = new Map<string, object>();
  /** Connections that were opened, by pod. */
  readonly opened = new Map<string, number>();
  refusal: { readonly status: number; readonly message: string } | undefined;
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => 'v4.channel.k8s.io' });

  static async start(): Promise<FakePortForward> {
    const fake = new FakePortForward();
    await new Promise<void>((resolve) => fake.#server.listen({ host: '127.0.0.1', port: 0 }, resolve));
    return fake;
  }

  private constructor() {
    this.#server = createServer(({ url = '' }, response) => {
      const object = this.objects.get(url);
      if (object === undefined) response.writeHead(404).end();
      else response.setHeader('content-type', 'application/json').end(JSON.stringify(object));
    });
    this.#server.on('upgrade', (request, socket, head) => {
      const pod = podOf(request);
      const { status, message } = this.refusal ?? {
        status: this.pods.has(pod.name) ? 0 : 404,
        message: `pods "${pod.name}" not found`,
      };
      if (status !== 0) {
        const body = JSON.stringify({ kind: 'Status', status: 'Failure', message, code: status });
        socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`);
        return;
      }
      this.#sockets.handleUpgrade(request, socket as Socket, head, (webSocket) => this.#bridge(webSocket, pod));
    });
  }

  /** A kubeconfig for it. */
  get kubeconfig(): object {
    const { port } = this.#server.address() as AddressInfo;
    return {
      'current-context': 'fake',
      clusters: [{ name: 'fake', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'fake', user: { token: 'nothing' } }],
      contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'fake', namespace: 'photos' } }],
    };
  }

  /** As when its node or the pod itself restarts. */
  cutAll(): void {
    for (const webSocket of this.#sockets.clients) webSocket.terminate();
  }

  get openNow(): number {
    return this.#sockets.clients.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cutAll();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #bridge(webSocket: WebSocket, { name, port }: { name: string; port: number }): void {
    this.opened.set(name, (this.opened.get(name) ?? 0) + 1);
    const target = connect({ host: '127.0.0.1', port: this.pods.get(name)?.port(port) ?? 0 });
    const header = Buffer.alloc(3);
    header.writeUInt16LE(port, 1);
    webSocket.send(Buffer.from(header));
    webSocket.send(Buffer.from([1, ...header.subarray(1)]));
    webSocket.on('message', (message) => {
      const bytes = message as Buffer;
      if (bytes[0] === 0 && !target.write(bytes.subarray(1))) webSocket.pause();
    });
    target.on('drain', () => webSocket.resume());
    target.on('data', (piece) => {
      target.pause();
      webSocket.send(Buffer.concat([Buffer.from([0]), piece]), () => target.resume());
    });
    target.on('error', (error) => {
      const text = `error forwarding port ${port} to pod ${name}: ${error.message}`;
      webSocket.send(Buffer.concat([Buffer.from([1]), Buffer.from(text)]));
      webSocket.close();
    });
    target.on('close', () => webSocket.close());
    webSocket.on('close', () => target.destroy());
  }
}

function podOf({ url = '' }: IncomingMessage): { name: string; port: number } {
  const { pathname, searchParams } = new URL(url, 'http://fake');
  const name = /^\/api\/v1\/namespaces\/photos\/pods\/([^/]+)\/portforward$/.exec(pathname)?.[1] ?? '';
  return { name, port: Number(searchParams.get('ports')) };
}
