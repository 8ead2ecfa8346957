/**
 * The ledger against all records that lie on an imagined disk: whatever is written, copied and removed, a start that finds the
 * same records must come to the same result (D4).
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ChunkId } from '@collective/base/ids';
import { type Random, randomBelow, SeededRandom } from '@collective/base/random';
import { EntryList, type SidecarEntry } from './entry-list.ts';
import { selectNeeded } from './needed-records.ts';
import { recordBytesOf } from './record.ts';
import { RecordLedger } from './record-ledger.ts';
import { scratchId } from './scratch-chunk.ts';

const CHUNKS = 12;
const ids = Array.from({ length: CHUNKS }, (_unused, i) => scratchId(i));

/** Segments with their records, and a ledger that was told of each change. */
class ImaginedDisk {
  readonly segments = new Map<number, SidecarEntry[]>();
  readonly ledger = new RecordLedger();
  #sequence = 100;
  #active = 1;

  constructor() {
    this.ledger.settle();
    this.#begin();
  }

  get active(): number {
    return this.#active;
  }

  put(chunk: ChunkId, rawLength: number): void {
    const entry = this.#append({ kind: 'chunk', chunk, rawLength, storedLength: rawLength + 24 });
    this.ledger.put(chunk, { segment: this.#active, ...entry });
  }

  forget(chunk: ChunkId): void {
    if (!this.ledger.index.has(chunk)) return;
    const { offset } = this.#append({ kind: 'tombstone', chunk, rawLength: 0, storedLength: 0 });
    this.ledger.forgotten(chunk, { segment: this.#active, offset });
  }

  retire(): void {
    this.#active++;
    this.#begin();
  }

  /** Copies what counts to a new segment, with whatever `between` does meanwhile. After a crash only `removed` of the originals are gone. */
  compact(sources: readonly number[], between: () => void = () => undefined, removed = sources): void {
    const copies: { readonly from: number; readonly entry: SidecarEntry; readonly offset: number }[] = [];
    let offset = 64;
    const records = sources.map((segment) => ({ segment, entries: EntryList.of(this.entries(segment)) }));
    for (const [i, needed] of allSteps(selectNeeded(this.ledger, records)).entries())
      for (const entry of needed) {
        copies.push({ from: sources[i] ?? 0, entry, offset });
        offset += recordBytesOf(entry);
      }
    between();
    if (copies.length > 0) {
      const to = ++this.#active;
      this.segments.set(
        to,
        copies.map((copy) => ({ ...copy.entry, offset: copy.offset })),
      );
      this.ledger.segmentHasSize(to, offset);
      for (const copy of copies) this.ledger.copied(copy.from, copy.entry, { segment: to, offset: copy.offset });
      this.retire();
    }
    for (const source of removed) this.remove(source);
  }

  remove(segment: number): void {
    allSteps(this.ledger.removed(segment, EntryList.of(this.entries(segment))));
    this.segments.delete(segment);
  }

  entries(segment: number): SidecarEntry[] {
    return this.segments.get(segment) ?? assert.fail(`no segment ${segment}`);
  }

  /** What a start makes of it. */
  found(): RecordLedger {
    const ledger = new RecordLedger();
    for (const [segment, entries] of [...this.segments].sort(([a], [b]) => a - b)) {
      ledger.segmentHasSize(segment, this.#sizeOf(entries));
      for (const entry of entries) ledger.found(segment, entry);
    }
    ledger.settle();
    return ledger;
  }

  #begin(): void {
    this.segments.set(this.#active, []);
    this.ledger.segmentHasSize(this.#active, 64);
  }

  #append(facts: Omit<SidecarEntry, 'offset' | 'sequence'>): SidecarEntry {
    const entries = this.entries(this.#active);
    const entry = { ...facts, offset: this.#sizeOf(entries), sequence: ++this.#sequence };
    entries.push(entry);
    this.ledger.segmentHasSize(this.#active, this.#sizeOf(entries));
    return entry;
  }

  #sizeOf(entries: readonly SidecarEntry[]): number {
    const last = entries.at(-1);
    return last === undefined ? 64 : last.offset + recordBytesOf(last);
  }
}

function allSteps<T>(steps: Generator<void, T, undefined>): T {
  for (let step = steps.next(); ; step = steps.next()) if (step.done === true) return step.value;
}

function factsOf(ledger: RecordLedger): unknown {
  return {
    chunks: ids.map((chunk) => ledger.index.get(chunk)),
    dead: ids.map((chunk) => ledger.deadRecords(chunk)),
    segments: ledger.segments().map(({ segment, bytes }) => ({ segment, bytes })),
    usedBytes: ledger.usedBytes,
    digest: ledger.index.inventoryDigest,
    graves: ledger.graveCount,
  };
}

function someWork(disk: ImaginedDisk, random: Random, present: Set<ChunkId>): void {
  for (let i = randomBelow(random, 4); i > 0; i--) {
    const chunk = ids[randomBelow(random, CHUNKS)] ?? assert.fail();
    if (randomBelow(random, 2) === 0) {
      disk.put(chunk, 1 + randomBelow(random, 500));
      present.add(chunk);
    } else {
      disk.forget(chunk);
      present.delete(chunk);
    }
  }
}

describe('record ledger', () => {
  test('D4: a start comes to what was known, after any puts, forgets, compactions and crashes in the middle of one', () => {
    for (let seed = 1; seed <= 150; seed++) {
      const random = new SeededRandom(seed);
      const disk = new ImaginedDisk();
      const present = new Set<ChunkId>();
      for (let step = 0; step < 60; step++) {
        const choice = randomBelow(random, 8);
        if (choice < 5) someWork(disk, random, present);
        else if (choice === 5) disk.retire();
        else {
          const sealed = [...disk.segments.keys()].filter((segment) => segment !== disk.active);
          const sources = sealed.filter(() => randomBelow(random, 3) === 0);
          const crashes = choice === 7 && randomBelow(random, 2) === 0;
          // In their order, so a crash leaves the last of them.
          const removed = crashes ? sources.slice(0, randomBelow(random, sources.length + 1)) : sources;
          disk.compact(sources, () => someWork(disk, random, present), removed);
        }
        const found = disk.found();
        assert.deepEqual(factsOf(found), factsOf(disk.ledger), `seed ${seed}, step ${step}`);
        assert.deepEqual(found.index.list(undefined, 100), [...present].sort(), `seed ${seed}, step ${step}`);
        // A start may keep a tombstone longer: of an older one it cannot tell that the last dead records are younger.
        for (const { segment, liveBytes } of found.segments())
          assert.ok(liveBytes >= (disk.ledger.segmentUse(segment)?.liveBytes ?? 0), `seed ${seed}, step ${step}`);
      }
    }
  });

  test('D4: when all chunks are forgotten, compaction leaves nothing, tombstones neither', () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new SeededRandom(seed);
      const disk = new ImaginedDisk();
      for (let step = 0; step < 30; step++) {
        someWork(disk, random, new Set());
        if (randomBelow(random, 4) === 0) disk.retire();
      }
      for (const chunk of ids) disk.forget(chunk);
      disk.retire();
      for (let round = 0; round < 3; round++)
        for (const { segment } of disk.ledger.segments()) if (disk.entries(segment).length > 0) disk.compact([segment]);
      assert.equal(disk.ledger.graveCount, 0);
      assert.deepEqual([...disk.segments.values()].flat(), []);
    }
  });

  test('D4: a tombstone stays as long as a dead record of its chunk does, wherever that lies', () => {
    const disk = new ImaginedDisk();
    const chunk = scratchId(1);
    disk.put(chunk, 10);
    disk.retire();
    disk.forget(chunk);
    disk.put(chunk, 10);
    disk.retire();
    disk.forget(chunk);
    disk.retire();
    // Segment 2 holds the younger dead record and the older tombstone, segment 1 the older dead record.
    assert.equal(disk.ledger.segmentUse(2)?.liveBytes, 0);
    disk.remove(2);
    assert.equal(disk.ledger.segmentUse(3)?.liveBytes, 128, 'its tombstone keeps the record of segment 1 dead');
    assert.equal(disk.found().index.has(chunk), false);
    disk.remove(1);
    assert.equal(disk.ledger.segmentUse(3)?.liveBytes, 0);
  });

  test('D4: a tombstone and all that it covers in one segment go together', () => {
    const disk = new ImaginedDisk();
    const [kept, gone] = [scratchId(1), scratchId(2)];
    disk.put(kept, 10);
    disk.put(gone, 10);
    disk.forget(gone);
    disk.retire();
    disk.compact([1]);
    assert.deepEqual(
      [...disk.segments.values()].flat().map(({ kind }) => kind),
      ['chunk'],
    );
  });

  test('D4: a tombstone copied forward does not touch the chunk that was put after it', () => {
    const disk = new ImaginedDisk();
    const chunk = scratchId(1);
    disk.put(chunk, 10);
    disk.retire();
    disk.forget(chunk);
    disk.retire();
    disk.put(chunk, 20);
    disk.retire();
    disk.compact([2]);
    assert.equal(disk.found().index.get(chunk)?.rawLength, 20);
    assert.deepEqual(factsOf(disk.found()), factsOf(disk.ledger));
  });
});
