/**
 * The order of a listing. By name where that costs nothing to speak of; a directory with more entries is shown in the order
 * of creation, as it is read, unless an order was asked for.
 */
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';

export const SORT_KEYS = ['name', 'size', 'time', 'none'] as const;
export type SortKey = (typeof SORT_KEYS)[number];

/** More are not held back for the sake of an order that nobody asked for. */
export const SORTED_UNASKED_MAX = 10_000;
/** Sorting gathers all entries in memory. */
export const SORTED_ENTRIES_MAX = 1_000_000;

export interface Sortable {
  readonly name: string;
  readonly attributes?: { readonly sizeBytes: number; readonly modified: Timestamp };
}

export async function* inOrder<Entry extends Sortable>(
  entries: AsyncIterable<Entry>,
  order: { readonly key?: SortKey; readonly reverse?: boolean },
  where: string,
): AsyncGenerator<Entry, void, undefined> {
  if (order.key === 'none') {
    yield* entries;
    return;
  }
  const bound = order.key === undefined && !order.reverse ? SORTED_UNASKED_MAX : SORTED_ENTRIES_MAX;
  const gathered: Entry[] = [];
  let tooMany = false;
  for await (const entry of entries) {
    if (tooMany) {
      yield entry;
      continue;
    }
    gathered.push(entry);
    if (gathered.length <= bound) continue;
    if (bound === SORTED_ENTRIES_MAX) {
      throw new CollectiveError('range', `Sort ${where}: it has more than ${SORTED_ENTRIES_MAX} entries`, {
        todo: 'List it without an order, or with --sort none.',
      });
    }
    tooMany = true;
    yield* gathered.splice(0);
  }
  gathered.sort(comparison(order.key ?? 'name'));
  yield* order.reverse ? gathered.reverse() : gathered;
}

function comparison(key: SortKey): (a: Sortable, b: Sortable) => number {
  const byName = (a: Sortable, b: Sortable): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  switch (key) {
    case 'size':
      return (a, b) => (b.attributes?.sizeBytes ?? 0) - (a.attributes?.sizeBytes ?? 0) || byName(a, b);
    case 'time':
      return (a, b) => {
        const [one, other] = [a.attributes?.modified, b.attributes?.modified];
        if (one === undefined || other === undefined) return byName(a, b);
        return other.seconds - one.seconds || other.nanos - one.nanos || byName(a, b);
      };
    default:
      return byName;
  }
}
