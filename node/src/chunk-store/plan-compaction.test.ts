import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DEAD_SHARE_MIN, planCompaction, type SegmentState } from './plan-compaction.ts';
import { SEGMENT_HEADER_BYTES } from './segment.ts';

const SEGMENT_BYTES = 1_000_000;
const RULES = { segmentBytes: SEGMENT_BYTES, deadShareMin: DEAD_SHARE_MIN };
const EVERYTHING = { ...RULES, deadShareMin: 0 };

/** `[segment, bytes, dead bytes]`; the rest of the bytes, but for the header, counts. */
function sealed(...facts: readonly (readonly [number, number, number])[]): SegmentState[] {
  return facts.map(([segment, bytes, dead]) => ({
    segment,
    bytes,
    liveBytes: bytes - SEGMENT_HEADER_BYTES - dead,
    open: false,
  }));
}

function open(bytes: number, dead: number): SegmentState {
  return { segment: 99, bytes, liveBytes: bytes - SEGMENT_HEADER_BYTES - dead, open: true };
}

const NOTHING = { retire: false, remove: [], rewrite: [] };

describe('compaction plan', () => {
  const table: readonly [string, readonly SegmentState[], typeof RULES, ReturnType<typeof planCompaction>][] = [
    ['nothing for no segments', [], RULES, NOTHING],
    ['nothing where nothing is dead', sealed([1, 900_000, 0], [2, 900_000, 0]), RULES, NOTHING],
    ['nothing below the share', sealed([1, 900_000, 224_000]), RULES, NOTHING],
    ['a worn segment alone', sealed([1, 900_000, 226_000], [2, 900_000, 10]), RULES, { ...NOTHING, rewrite: [1] }],
    [
      'all that is dead, when asked for',
      sealed([1, 400_000, 8], [2, 400_000, 0]),
      EVERYTHING,
      { ...NOTHING, rewrite: [1] },
    ],
    [
      'what does not count at all is removed, not copied',
      sealed([1, 900_000, 900_000 - SEGMENT_HEADER_BYTES], [2, SEGMENT_HEADER_BYTES, 0]),
      RULES,
      { ...NOTHING, remove: [1, 2] },
    ],
    [
      'the most worn first, with what has room beside it',
      sealed([1, 900_000, 300_000], [2, 900_000, 800_000], [3, 900_000, 500_000], [4, 900_000, 400_000]),
      RULES,
      { ...NOTHING, rewrite: [2, 3, 4] },
    ],
    ['seven small segments stay', sealed(...smallOnes(7)), RULES, NOTHING],
    [
      'eight small segments become one',
      sealed(...smallOnes(8)),
      RULES,
      { ...NOTHING, rewrite: [1, 2, 3, 4, 5, 6, 7, 8] },
    ],
    ['the open segment is not copied', [open(900_000, 300_000)], RULES, NOTHING],
    [
      'the open segment is sealed when most of it is dead',
      [open(900_000, 451_000)],
      RULES,
      { ...NOTHING, retire: true },
    ],
    [
      'the open segment is sealed for any dead byte, when asked for',
      [open(900_000, 8)],
      EVERYTHING,
      { ...NOTHING, retire: true },
    ],
    ['an open segment without a record stays', [open(SEGMENT_HEADER_BYTES, 0)], EVERYTHING, NOTHING],
  ];
  for (const [what, segments, rules, plan] of table)
    test(`D4: ${what}`, () => assert.deepEqual(planCompaction(segments, rules), plan));

  test('D4: what is copied fits into one segment and gives something back, and repeated it comes to an end', () => {
    const states = fc.array(
      fc.record({
        bytes: fc.integer({ min: 64, max: SEGMENT_BYTES }),
        dead: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(states, fc.constantFrom(0, 0.02, DEAD_SHARE_MIN), (drawn, deadShareMin) => {
        const rules = { segmentBytes: SEGMENT_BYTES, deadShareMin };
        let segments = sealed(
          ...drawn.map(({ bytes, dead }, i): [number, number, number] => [
            i + 1,
            bytes,
            Math.floor((bytes - 64) * dead),
          ]),
        );
        let next = segments.length + 1;
        for (let steps = 0; ; steps++) {
          assert.ok(steps < 200, 'it ends');
          const { remove, rewrite } = planCompaction(segments, rules);
          if (remove.length + rewrite.length === 0) break;
          const sources = segments.filter(({ segment }) => rewrite.includes(segment));
          const liveBytes = sources.reduce((sum, state) => sum + state.liveBytes, 0);
          const bytes = SEGMENT_HEADER_BYTES + liveBytes;
          assert.ok(bytes <= SEGMENT_BYTES, 'it fits');
          if (rewrite.length > 0)
            assert.ok(bytes < sources.reduce((sum, state) => sum + state.bytes, 0), 'it gives something back');
          segments = segments.filter(({ segment }) => !rewrite.includes(segment) && !remove.includes(segment));
          if (rewrite.length > 0) segments.push({ segment: next++, bytes, liveBytes, open: false });
        }
        for (const { bytes, liveBytes } of segments)
          assert.ok(bytes - SEGMENT_HEADER_BYTES - liveBytes <= bytes * deadShareMin, 'nothing worn is left');
      }),
      { numRuns: 300 },
    );
  });
});

function smallOnes(count: number): [number, number, number][] {
  return Array.from({ length: count }, (_unused, i) => [i + 1, 50_000, 0]);
}
