import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { inOrder, SORTED_ENTRIES_MAX, SORTED_UNASKED_MAX, type Sortable } from './sort-entries.ts';

async function* from(entries: Iterable<Sortable>): AsyncGenerator<Sortable> {
  yield* entries;
}

async function names(entries: Iterable<Sortable>, order: Parameters<typeof inOrder>[1]): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of inOrder(from(entries), order, '/d')) found.push(name);
  return found;
}

function entry(name: string, sizeBytes: number, seconds: number): Sortable {
  return { name, attributes: { sizeBytes, modified: { seconds, nanos: 0 } } };
}

const ENTRIES = [entry('b', 1, 30), entry('a', 3, 10), entry('c', 2, 20), entry('d', 2, 20)];
const cases: { name: string; order: Parameters<typeof inOrder>[1]; want: string }[] = [
  { name: 'by name when nothing is asked', order: {}, want: 'abcd' },
  { name: 'as created', order: { key: 'none' }, want: 'bacd' },
  { name: 'the largest first, names among equals', order: { key: 'size' }, want: 'acdb' },
  { name: 'the newest first, names among equals', order: { key: 'time' }, want: 'bcda' },
  { name: 'turned round', order: { key: 'size', reverse: true }, want: 'bdca' },
  { name: 'names turned round', order: { reverse: true }, want: 'dcba' },
];

for (const { name, order, want } of cases) {
  test(`a listing is sorted ${name}`, async () => {
    assert.equal((await names(ENTRIES, order)).join(''), want);
  });
}

function* many(count: number): Generator<Sortable> {
  for (let i = 0; i < count; i++) yield { name: `n${count - i}` };
}

test('a directory that is too large to be sorted unasked comes in the order of creation, and nothing is lost', async () => {
  const created = [...many(SORTED_UNASKED_MAX + 5)].map(({ name }) => name);
  assert.deepEqual(await names(many(SORTED_UNASKED_MAX + 5), {}), created);
  assert.notDeepEqual((await names(many(SORTED_UNASKED_MAX), {}))[0], `n${SORTED_UNASKED_MAX}`);
});

test('an order that was asked for is kept or refused', async () => {
  const sorted = await names(many(SORTED_UNASKED_MAX + 5), { key: 'name' });
  assert.deepEqual(sorted.slice(0, 2), ['n1', 'n10']);
  await assert.rejects(
    names(many(SORTED_ENTRIES_MAX + 1), { key: 'name' }),
    (error) => error instanceof CollectiveError && error.code === 'range',
  );
});
