/** Directories of any size, page by page; the next page is under way while one is used. */
import { DIRECTORY_PAGE_ENTRIES_MAX } from '@collective/base/limits';
import type { DirectoryPage, DirectoryEntry as WireEntry } from '@collective/protocol/gen/session';
import { expectResult } from '../session/operation-kinds.ts';
import type { Session } from '../session/session.ts';

const PAGE_ENTRIES = Math.min(1_000, DIRECTORY_PAGE_ENTRIES_MAX);

export async function* directoryPages(
  session: Session,
  inode: number,
  options: { withAttributes: boolean; signal: AbortSignal | undefined },
): AsyncGenerator<WireEntry[], void, undefined> {
  const ask = (after: number): Promise<DirectoryPage> => {
    const value = { inode, after, limit: PAGE_ENTRIES, withAttributes: options.withAttributes };
    const page = session
      .call({ $case: 'readDirectory', value }, { signal: options.signal })
      .then((reply) => expectResult(reply, 'directory'));
    page.catch(() => undefined);
    return page;
  };
  let underWay: Promise<DirectoryPage> | undefined = ask(0);
  while (underWay !== undefined) {
    const page: DirectoryPage = await underWay;
    const last = page.entries.at(-1);
    underWay = page.end || last === undefined ? undefined : ask(last.cookie);
    yield page.entries;
  }
}
