/** A name in the member that gets a new link in one step: made aside and renamed over it, so that readers see old or new. */
import { CollectiveError } from '@collective/base/errors';
import type { Files } from '@collective/client';
import { baseName, joinRemote, parentOf } from '../remote-path.ts';
import { asideName } from './aside-name.ts';

export async function replaceName(
  files: Files,
  path: string,
  make: (aside: string) => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  const aside = joinRemote(parentOf(path), asideName(baseName(path)));
  await make(aside);
  try {
    await files.rename(aside, path, { mode: 'replace', signal });
  } catch (cause) {
    if (!(cause instanceof CollectiveError)) throw cause;
    throw new CollectiveError(cause.code, `Put a link in place of ${path}`, { cause });
  } finally {
    // Between two names of one file a rename does nothing, and one that failed leaves its source.
    await files.remove(aside, { force: true, permanent: true, signal });
  }
}
