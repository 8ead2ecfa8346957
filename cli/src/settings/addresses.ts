/** Small agreements between the two server commands about addresses and what must be given. */
import { CollectiveError } from '@collective/base/errors';
import { environmentOf, flagOf, type HostPort } from './settings.ts';

/** `:7431` means all addresses of the machine. */
export function bindAddress({ host, port }: HostPort): HostPort {
  return { host: host === '' ? '::' : host, port };
}

export function missingSetting(server: string, key: string): CollectiveError {
  return new CollectiveError(
    'config_invalid',
    `Start ${server}: '${key}' is missing (${flagOf(key)}, key '${key}' in the file, or ${environmentOf(key)})`,
  );
}
