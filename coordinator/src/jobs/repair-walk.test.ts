import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseChunkId } from '@collective/base/ids';
import fc from 'fast-check';
import { testChunk } from '../session/scripted-operations.ts';
import { REPAIR_ORDER } from '../tables/tables.ts';
import { RepairWalk, type Stretch } from './repair-walk.ts';

const keyOf = (sound: number, number: number): string =>
  REPAIR_ORDER.key(sound, parseChunkId(testChunk(number).toString('hex')));
const holds = ({ after, to }: Stretch, key: string): boolean => key > after && key <= to;

test('nothing is looked at before something is noted', () => {
  assert.equal(new RepairWalk().next(), undefined);
});

test('what was noted is looked at, once', () => {
  const walk = new RepairWalk();
  walk.noted(keyOf(1, 5));
  const stretch = walk.next();
  assert.ok(stretch !== undefined && holds(stretch, keyOf(1, 5)));
  walk.looked(stretch, undefined);
  assert.equal(walk.next(), undefined);
});

test('what is new and more endangered goes before the rest of a walk over all, which then goes on', () => {
  const walk = new RepairWalk();
  walk.all();
  const whole = walk.next() as Stretch;
  walk.looked(whole, keyOf(2, 100));
  walk.noted(keyOf(1, 7));
  const fresh = walk.next() as Stretch;
  assert.ok(holds(fresh, keyOf(1, 7)) && !fresh.isWhole);
  walk.looked(fresh, undefined);
  const rest = walk.next() as Stretch;
  assert.ok(rest.isWhole && !holds(rest, keyOf(2, 100)) && holds(rest, keyOf(2, 101)));
});

test('every note is looked at after it was written, however notes and looks follow each other', () => {
  const note = fc.record({ sound: fc.constantFrom(0, 1, 2, 255), number: fc.nat(50) });
  fc.assert(
    fc.property(fc.array(fc.oneof(note, fc.constant('look' as const)), { maxLength: 200, size: 'max' }), (steps) => {
      const walk = new RepairWalk();
      const waiting = new Set<string>();
      const look = (): boolean => {
        const stretch = walk.next();
        if (stretch === undefined) return false;
        const page = [...waiting].filter((key) => holds(stretch, key)).sort();
        const [first] = page;
        if (first !== undefined) waiting.delete(first);
        walk.looked(stretch, page.length > 1 ? first : undefined);
        return true;
      };
      for (const step of steps) {
        if (step === 'look') look();
        else {
          const key = keyOf(step.sound, step.number);
          walk.noted(key);
          waiting.add(key);
        }
      }
      for (let looks = 0; look(); looks++) assert.ok(looks < 1_000, 'it ends');
      assert.deepEqual([...waiting], []);
    }),
  );
});
