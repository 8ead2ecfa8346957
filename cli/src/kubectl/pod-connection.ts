/**
 * One TCP connection to a port of a pod, through apiserver and kubelet, as a WebSocket (what `kubectl port-forward` opens).
 * Each message begins with the number of a channel: 0 carries bytes, 1 why the kubelet could not go on; the first message of
 * each holds the port only. Back-pressure goes through in both directions: neither side's bytes gather here.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { CollectiveError } from '@collective/base/errors';
import WebSocket from 'ws';
import type { KubeApi } from './kube-api.ts';
import { refusalError, unreachableError } from './kube-errors.ts';

const PROTOCOL = 'v4.channel.k8s.io';
const DATA = 0;
const ERROR = 1;
const OPEN_WITHIN_MS = 15_000;
const UNSENT_BYTES_HIGH = 1024 * 1024;
const UNSENT_BYTES_LOW = 256 * 1024;
const REFUSAL_BYTES_MAX = 64 * 1024;

export interface PodPort {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
}

export class PodConnection {
  readonly #webSocket: WebSocket;
  readonly #what: string;
  readonly #begun = new Set<number>();

  /** Throws what the apiserver refuses; a pod whose port nobody listens on is told later, by `failed`. */
  static async open(api: KubeApi, { namespace, pod, port }: PodPort): Promise<PodConnection> {
    const what = `Forward a port to pod ${namespace}/${pod}`;
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/portforward?ports=${port}`;
    const { url, options } = await api.connectionOptions(path);
    url.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:';
    const webSocket = new WebSocket(url, [PROTOCOL], {
      ...options,
      handshakeTimeout: OPEN_WITHIN_MS,
      perMessageDeflate: false,
      allowSynchronousEvents: true,
    } as WebSocket.ClientOptions);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    webSocket.once('open', () => {
      // Nothing is lost before somebody listens.
      webSocket.pause();
      resolve();
    });
    webSocket.once('unexpected-response', (request, response: IncomingMessage) => {
      readRefusal(response).then(
        (refusal) => reject(refusalError(what, refusal)),
        (cause: unknown) => reject(unreachableError(what, api.cluster.server, cause)),
      );
      response.once('close', () => request.destroy());
    });
    webSocket.on('error', (cause) => reject(unreachableError(what, api.cluster.server, cause)));
    await promise;
    return new PodConnection(webSocket, what);
  }

  private constructor(webSocket: WebSocket, what: string) {
    this.#webSocket = webSocket;
    this.#what = what;
  }

  get isOpen(): boolean {
    return this.#webSocket.readyState === WebSocket.OPEN;
  }

  /** The two are one from now on: either end closes both. */
  join(socket: Socket, failed: (error: CollectiveError) => void): void {
    const webSocket = this.#webSocket;
    webSocket.on('message', (message) => {
      const bytes = message as Buffer;
      const channel = bytes[0];
      if (channel !== DATA && channel !== ERROR) return;
      const isFirst = !this.#begun.has(channel);
      this.#begun.add(channel);
      const content = bytes.subarray(isFirst ? 3 : 1);
      if (content.length === 0) return;
      if (channel === ERROR) {
        failed(new CollectiveError('unavailable', `${this.#what}: ${content.toString('utf8').trim()}`));
        socket.destroy();
        webSocket.close();
      } else if (!socket.write(content)) webSocket.pause();
    });
    socket.on('drain', () => webSocket.resume());
    socket.on('data', (piece: Buffer) => {
      if (!this.isOpen) return;
      const message = Buffer.allocUnsafe(piece.length + 1);
      message[0] = DATA;
      message.set(piece, 1);
      webSocket.send(message, () => {
        if (webSocket.bufferedAmount < UNSENT_BYTES_LOW) socket.resume();
      });
      if (webSocket.bufferedAmount > UNSENT_BYTES_HIGH) socket.pause();
    });
    webSocket.once('close', () => socket.end());
    // There is no half of a connection here.
    socket.once('end', () => webSocket.close());
    socket.once('close', () => webSocket.close());
    socket.on('error', () => webSocket.close());
    webSocket.resume();
  }

  close(): void {
    this.#webSocket.terminate();
  }
}

async function readRefusal(response: IncomingMessage): Promise<{ status: number; message?: string }> {
  const status = response.statusCode ?? 0;
  let text = '';
  for await (const piece of response) {
    text += String(piece);
    if (text.length > REFUSAL_BYTES_MAX) break;
  }
  try {
    return { status, message: (JSON.parse(text) as { message?: string }).message };
  } catch {
    return { status, message: text.trim().slice(0, 200) || undefined };
  }
}
