import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkRow } from '@collective/coordinator/tables/gen/tables';
import { type Forgetting, whyNotForget } from './judged-orders.ts';

const PLACE = { node: 'n1', disk: 'disk-n1' };
const SINCE = { seconds: 1, nanos: 0 };
const GARBAGE = { since: SINCE, condemned: false, storedBytes: 0, gone: false };
const NOTE = { since: SINCE, leaving: false, forgotten: undefined };

function row(references: number, ...replicas: { node: string; disk: string }[]): ChunkRow {
  return { references, replicas } as ChunkRow;
}

function why(of: Partial<Forgetting>): string | undefined {
  return whyNotForget({ place: PLACE, row: undefined, garbage: undefined, note: undefined, ...of });
}

test('D8: a replica that is named never goes, whatever else rows say', () => {
  assert.match(why({ row: row(1, PLACE) }) ?? '', /is named/);
  assert.match(why({ row: row(1, PLACE), garbage: { ...GARBAGE, condemned: true } }) ?? '', /is named/);
  assert.match(why({ row: row(1, PLACE), note: { ...NOTE, leaving: true } }) ?? '', /is named/);
});

test('D8: a copy too many of a named chunk goes when it was marked as leaving', () => {
  const elsewhere = { node: 'n1', disk: 'another' };
  assert.match(why({ row: row(1, elsewhere) }) ?? '', /not marked/);
  assert.match(why({ row: row(1, elsewhere), note: NOTE }) ?? '', /not marked/);
  assert.equal(why({ row: row(1, elsewhere), note: { ...NOTE, leaving: true } }), undefined);
});

test('D2: what nothing names goes when it was condemned, or leaves already', () => {
  for (const unnamed of [undefined, row(0, PLACE)]) {
    assert.match(why({ row: unnamed }) ?? '', /not condemned/);
    assert.match(why({ row: unnamed, garbage: GARBAGE, note: NOTE }) ?? '', /not condemned/);
    assert.equal(why({ row: unnamed, garbage: { ...GARBAGE, condemned: true } }), undefined);
    assert.equal(why({ row: unnamed, note: { ...NOTE, leaving: true } }), undefined);
  }
});
