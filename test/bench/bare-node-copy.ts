/**
 * One end of a bare copy of a file between two processes, as two nodes would make it without anything of ours: one reads the
 * file and sends it through mutual TLS, the other writes it to a file of its own and syncs that. Read, send, receive and
 * write go on beside each other, in pieces of 1 MiB.
 */
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import type { SocketConstructorOpts } from 'node:net';
import { type ConnectionOptions, connect, createServer, type TLSSocket } from 'node:tls';
import { secureContextOptions } from '@collective/protocol/tls/trust-files';
import { parseTrustSet, type TrustPems } from '@collective/protocol/tls/trust-set';

const PIECE_BYTES = 1024 * 1024;
/** Pieces that are received and not written yet. */
const WAITING_MAX = 8;

export type CopyEnd = { readonly pems: TrustPems; readonly path: string } & (
  | { readonly end: 'source' }
  | { readonly end: 'target'; readonly port: number; readonly bytes: number }
);

process.once('message', async (start: CopyEnd) => {
  const context = secureContextOptions(parseTrustSet(start.pems, 'bench'));
  if (start.end === 'target') {
    await receive(connectTo(start.port, context, start.bytes), start.path, start.bytes);
    process.send?.('stored');
    return;
  }
  const server = createServer({ ...context, requestCert: true }, (socket) => void send(socket, start.path));
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as { port: number }).port));
});

async function send(socket: TLSSocket, path: string): Promise<void> {
  const file = await open(path);
  const memory = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)];
  const readAt = (i: number) => file.read(memory[i % 2] as Buffer, 0, PIECE_BYTES, i * PIECE_BYTES);
  let next = readAt(0);
  for (let i = 0; ; i++) {
    const { bytesRead, buffer } = await next;
    if (bytesRead === 0) break;
    next = readAt(i + 1);
    await new Promise<void>((sent) => socket.write(buffer.subarray(0, bytesRead), () => sent()));
  }
  await file.close();
  socket.end();
}

interface Arriving {
  readonly socket: TLSSocket;
  readonly full: Buffer<ArrayBuffer>[];
  readonly spare: Buffer<ArrayBuffer>[];
  wake: () => void;
}

/** Reads straight into pieces, with no memory for each read. */
function connectTo(port: number, context: object, bytes: number): Arriving {
  let piece = Buffer.alloc(PIECE_BYTES);
  let filled = 0;
  let left = bytes;
  const options: ConnectionOptions & Pick<SocketConstructorOpts, 'onread'> = {
    ...context,
    host: '127.0.0.1',
    port,
    checkServerIdentity: () => undefined,
    onread: {
      buffer: () => piece.subarray(filled),
      callback: (count: number) => {
        filled += count;
        left -= count;
        if (filled === PIECE_BYTES || left === 0) {
          arriving.full.push(piece.subarray(0, filled));
          piece = arriving.spare.pop() ?? Buffer.alloc(PIECE_BYTES);
          filled = 0;
          arriving.wake();
        }
        return arriving.full.length < WAITING_MAX;
      },
    },
  };
  const arriving: Arriving = {
    socket: connect(options),
    full: [],
    spare: [],
    wake: () => undefined,
  };
  return arriving;
}

async function receive(arriving: Arriving, path: string, bytes: number): Promise<void> {
  const { socket, full, spare } = arriving;
  await once(socket, 'secureConnect');
  process.send?.('connected');
  const file: FileHandle = await open(path, 'wx');
  for (let at = 0; at < bytes; ) {
    if (full.length === 0)
      await new Promise<void>((resolve) => {
        arriving.wake = resolve;
      });
    const pieces = full.splice(0);
    socket.resume();
    await file.writev(pieces, at);
    for (const piece of pieces) {
      at += piece.length;
      spare.push(Buffer.from(piece.buffer, 0, PIECE_BYTES));
    }
  }
  await file.datasync();
  await file.close();
  socket.destroy();
}
