/** `host:port` of a coordinator as people write it. */
import { CollectiveError } from '@collective/base/errors';

/** Checks and answers the address in the form that gRPC takes. */
export function parseCoordinatorAddress(text: string): string {
  const found = /^(\[[0-9a-fA-F:.]+\]|[^\s:/[\]]+):(\d{1,5})$/.exec(text);
  const port = Number(found?.[2]);
  if (found === null || port < 1 || port > 65_535)
    throw new CollectiveError(
      'invalid_argument',
      `Use '${text}' as a coordinator: it must be HOST:PORT such as 'localhost:7420' or '[::1]:7420'`,
    );
  return text;
}
