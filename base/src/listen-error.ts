/** Why a server of ours could not listen, in words that name what to change. */
import { CollectiveError } from './errors/index.ts';

/** `address`: as it was given, `host:port`. */
export function listenError(address: string, cause: unknown): CollectiveError {
  const what = `Listen on ${address}`;
  switch ((cause as NodeJS.ErrnoException | undefined)?.code) {
    case 'EADDRINUSE':
      return new CollectiveError('address_in_use', `${what}: another program uses this port`);
    case 'EACCES':
      return new CollectiveError('permission_denied', `${what}: this user may not use this port`, {
        cause,
        todo: 'Choose a port above 1023, or let the user who runs this program use it.',
      });
    case 'EADDRNOTAVAIL':
      return new CollectiveError('unavailable', `${what}: this machine has no such address`, {
        todo: 'Name an address of this machine; 0.0.0.0 and :: stand for all of them.',
      });
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new CollectiveError('unavailable', `${what}: nobody knows this name`, {
        cause,
        todo: 'Name an address of this machine; 0.0.0.0 and :: stand for all of them.',
      });
    default:
      return new CollectiveError('unavailable', what, { cause });
  }
}
