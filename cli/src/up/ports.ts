/** Looks whether ports are free before anything is started: a clear sentence instead of two children that fail. */
import { createServer } from 'node:net';
import { CollectiveError } from '@collective/base/errors';
import { listenError } from '@collective/base/listen-error';

export interface WantedPort {
  readonly port: number;
  readonly host: string;
  /** `the coordinator`, `node-1`. */
  readonly what: string;
}

export async function checkPortsFree(wanted: readonly WantedPort[], portBase: number): Promise<void> {
  for (const { port, host, what } of wanted) {
    const error = await tryListen(port, host);
    if (error === undefined) continue;
    if (error.code === 'EADDRINUSE') {
      throw new CollectiveError(
        'address_in_use',
        `Listen on port ${port} for ${what}: another program uses it; --port-base N (now ${portBase}) moves all ports of this member`,
        { details: { port } },
      );
    }
    throw listenError(`${host}:${port} for ${what}`, error);
  }
}

function tryListen(port: number, host: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
