/**
 * Random operations of several sessions at once, against a map. The view answers late and in its own order, the cache holds
 * ten entries, scans want fewer rows than there are: so entries are driven out, reads race with batches, and pages of the
 * view are merged with what is newer in memory. An operation that comes to its end compares all it read with the map as it is
 * at that moment, and then changes both.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomBelow, SeededRandom } from '@collective/base/random';
import fc from 'fast-check';
import { type EngineLife, EngineWorld, session, TEXTS } from './engine-world.ts';
import type { OperationRun } from './operation-run.ts';

const NAMES = [
  'a',
  'a\0',
  'aa',
  'ab',
  'b',
  'ba',
  'c',
  'ca',
  'cb',
  'd',
  'da',
  'e',
  'f',
  'fa',
  'fb',
  'g',
  'h',
  'i',
  'z',
  'z\xff',
];

interface Step {
  readonly by: number;
  readonly gets: readonly string[];
  readonly scan: { readonly from: string; readonly to: string; readonly limit: number } | undefined;
  readonly changes: readonly { readonly name: string; readonly value: string | undefined }[];
  readonly scanAfter: boolean;
  readonly throws: boolean;
  readonly advanceMs: number;
}

const name = fc.constantFrom(...NAMES);
const step: fc.Arbitrary<Step> = fc.record({
  by: fc.integer({ min: 1, max: 3 }),
  gets: fc.array(name, { maxLength: 4 }),
  scan: fc.option(
    fc.record({
      from: fc.constantFrom('', ...NAMES),
      to: fc.constantFrom('zz', ...NAMES),
      limit: fc.integer({ min: 0, max: 6 }),
    }),
    { nil: undefined },
  ),
  changes: fc.array(fc.record({ name, value: fc.option(fc.string({ maxLength: 4 }), { nil: undefined, freq: 2 }) }), {
    maxLength: 4,
  }),
  scanAfter: fc.boolean(),
  throws: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
  advanceMs: fc.constantFrom(0, 0, 0, 1, 7, 60),
});

const THROWN = new RangeError('this one changes nothing');

function scanned(model: ReadonlyMap<string, string>, { from, to, limit }: NonNullable<Step['scan']>): string[] {
  return [...model]
    .filter(([key]) => key >= from && key < to)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, limit)
    .map(([key, value]) => `${key}=${value}`);
}

/** The operation of a step; it compares with the model and changes it, at the end of its last run. */
function operationOf({ gets, scan, changes, scanAfter, throws }: Step, model: Map<string, string>) {
  return (tx: OperationRun): void => {
    const readScan = (): string[] =>
      scan === undefined
        ? []
        : tx
            .scan(TEXTS, `t${scan.from}`, `t${scan.to}`, scan.limit)
            .map(({ key, value }) => `${key.slice(1)}=${value}`);
    const expect = (of: ReadonlyMap<string, string>): string[] => (scan === undefined ? [] : scanned(of, scan));

    const before = [gets.map((key) => tx.get(TEXTS, key)), readScan()];
    const next = new Map(model);
    for (const { name, value } of changes) {
      if (value === undefined) tx.remove(TEXTS, name);
      else tx.put(TEXTS, value, name);
      if (value === undefined) next.delete(name);
      else next.set(name, value);
    }
    const after = scanAfter ? readScan() : undefined;
    assert.deepEqual(before, [gets.map((key) => model.get(key)), expect(model)]);
    if (after !== undefined) assert.deepEqual(after, expect(next), 'with its own writes');
    if (throws) throw THROWN;
    for (const { name } of changes) {
      const value = next.get(name);
      if (value === undefined) model.delete(name);
      else model.set(name, value);
    }
  };
}

async function run(life: EngineLife, steps: readonly Step[], model: Map<string, string>): Promise<void> {
  const running: Promise<unknown>[] = [];
  for (const step of steps) {
    const operation = operationOf(step, model);
    running.push(
      life.engine.execute(operation, { session: session(step.by) }).then(
        (outcome) => life.engine.firm(outcome, step.by === 1 ? 'stable' : 'written'),
        (error) => {
          if (error !== THROWN) throw error;
        },
      ),
    );
    await life.clock.advance(step.advanceMs);
  }
  await life.clock.finish(Promise.all(running));
  assert.deepEqual(life.fatal, []);
}

test('M3: what operations see is what a map would show them, with late answers and a cache of ten entries', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { maxLength: 30 }), { minLength: 1, maxLength: 3 }),
      fc.nat(),
      async (lives, seed) => {
        const random = new SeededRandom(seed);
        const world = new EngineWorld();
        const model = new Map<string, string>();
        for (const steps of lives) {
          const life = await world.start({
            writeMs: 1,
            syncMs: randomBelow(random, 20),
            storeMs: () => randomBelow(random, 4) ** 2 * 5,
            segmentBytes: 2_000,
            engine: { cacheEntriesMax: 10, overlayEntriesMax: randomBelow(random, 2) === 0 ? 8 : 1_000 },
          });
          assert.deepEqual(await life.texts(), Object.fromEntries(model), 'after a start');
          await run(life, steps, model);
          await life.settle();
          await life.clock.advance(1_000);
          assert.ok(life.engine.memory.cache <= 10);
          assert.equal(life.engine.memory.overlay, 0, 'the view has caught up');
          if (randomBelow(random, 2) === 0) await life.close();
          else world.powerLoss(seed);
        }
      },
    ),
    // A failure is made smaller for so long.
    { numRuns: 150, interruptAfterTimeLimit: 60_000 },
  );
});
