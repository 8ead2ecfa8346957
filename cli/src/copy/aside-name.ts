/** A hidden name beside the one that is to be replaced in one step, and that nobody else has. */
import { NAME_BYTES_MAX } from '@collective/base/limits';
import { SystemRandom } from '@collective/base/random';

const MARK_BYTES = 6;
const random = new SystemRandom();

export function asideName(name: string): string {
  const ending = `.${Buffer.from(random.bytes(MARK_BYTES)).toString('hex')}.new`;
  let kept = name;
  while (Buffer.byteLength(kept) + ending.length + 1 > NAME_BYTES_MAX) kept = [...kept].slice(0, -1).join('');
  return `.${kept}${ending}`;
}
