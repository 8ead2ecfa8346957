/** `--advertise`: the addresses of a node by listener (D10). A bare address counts for all listeners. */
import { CollectiveError } from '@collective/base/errors';

export interface Advertised {
  readonly listener: string;
  readonly host: string;
  readonly port?: number;
}

const LISTENERS = ['internal', 'external'] as const;

export function advertised(list: string, what: string): Advertised[] {
  const found = new Map<string, Advertised>();
  for (const part of list.split(',').map((one) => one.trim())) {
    const match = /^(?:([a-z]+)=)?(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s=]+))(?::([0-9]{1,5}))?$/.exec(part);
    const [, listener, address, name, port] = match ?? [];
    const known = LISTENERS.find((one) => one === listener);
    if (match === null || (listener !== undefined && known === undefined) || Number(port ?? 0) > 65_535) {
      throw new CollectiveError(
        'invalid_argument',
        `Read '${part}' as ${what}: it is host, host:port, internal=host:port or external=host:port`,
      );
    }
    const host = address ?? name ?? '';
    for (const one of known === undefined ? LISTENERS : [known]) {
      // What is said of one listener is stronger than what is said of all.
      if (known === undefined && found.has(one)) continue;
      found.set(one, { listener: one, host, ...(port === undefined ? {} : { port: Number(port) }) });
    }
  }
  return [...found.values()];
}
