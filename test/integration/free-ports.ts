/** Ports that nobody listens on now. Whoever takes one must be able to bear that somebody else was quicker. */
import { createServer } from 'node:net';
import { SystemClock } from '@collective/base/system-clock';

const TRIES_MAX = 2_000;
const clock = new SystemClock();

/** Below the range from which the kernel takes ports for outgoing connections, so that a part finds its own again. */
export async function freePorts(count: number): Promise<number[]> {
  const free: number[] = [];
  let port = 10_000 + ((process.pid * 131 + Math.floor(clock.bootMs())) % 20_000);
  for (let tries = 0; free.length < count; tries++) {
    if (tries > TRIES_MAX) throw new Error(`Find free ports: too few in ${TRIES_MAX} tries`);
    if (await isFree(port)) free.push(port);
    port = port >= 31_000 ? 10_000 : port + 1;
  }
  return free;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
