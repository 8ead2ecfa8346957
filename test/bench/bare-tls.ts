/** The other end of a bare TLS copy, as a process of its own: receives and drops, or sends, as much as it is told. */
import { createServer } from 'node:tls';
import { secureContextOptions } from '@collective/protocol/tls/trust-files';
import { parseTrustSet, type TrustPems } from '@collective/protocol/tls/trust-set';

const WRITE_BYTES = 1024 * 1024;

process.once('message', (start: { pems: TrustPems; mode: 'receive' | 'send'; bytes: number }) => {
  const server = createServer(
    { ...secureContextOptions(parseTrustSet(start.pems, 'bench')), requestCert: true, highWaterMark: WRITE_BYTES },
    (socket) => {
      socket.on('error', () => process.exit(1));
      if (start.mode === 'receive') {
        let left = start.bytes;
        socket.on('data', (piece: Buffer) => {
          left -= piece.length;
          if (left <= 0) socket.end('k');
        });
        return;
      }
      const block = Buffer.alloc(WRITE_BYTES, 7);
      let left = start.bytes;
      const send = (): void => {
        if (left <= 0) {
          socket.end();
          return;
        }
        left -= block.length;
        socket.write(block, send);
      };
      socket.once('data', send);
    },
  );
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as { port: number }).port));
});
