/** The output formats of every command that prints data: kubectl's names with kubectl's meaning. */
import { CollectiveError } from '@collective/base/errors';

export const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const;
export type Format = (typeof FORMATS)[number];

export function parseFormat(text: string): Format {
  const found = FORMATS.find((format) => format === text);
  if (found === undefined) {
    throw new CollectiveError('invalid_argument', `Print as '${text}': the formats are ${FORMATS.join(', ')}`);
  }
  return found;
}
