/**
 * The chunk store alone through many lives. The model knows of each chunk its bytes and whether its put was answered and
 * reported stable; the next life must have the former after SIGKILL and the latter after power loss (D3), byte by byte,
 * must count what it still has as stable, and must never go back with its incarnation. What was forgotten must never come back,
 * whatever compaction does meanwhile (D4).
 */
import assert from 'node:assert/strict';
import { type ChunkId, chunkIdOf, type InodeNumber } from '@collective/base/ids';
import { randomBelow, randomUnit } from '@collective/base/random';
import type { PutResult } from '@collective/node/chunk-store/chunk-store';
import { FileChunkStore } from '@collective/node/chunk-store/file-chunk-store';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import type { Life, LivingProgram } from './process-lives.ts';

const EPOCH = { generation: 7, start: 1 };
const CHUNK_BYTES_MAX = 3_000;
const SEGMENT_BYTES = 12_000;

interface KnownChunk {
  readonly bytes: Buffer;
  sequence: number;
  /** 'put': it may be here or not. */
  state: 'put' | 'written' | 'stable' | 'gone';
}

export class LivingChunkStore implements LivingProgram {
  readonly #chunks = new Map<ChunkId, KnownChunk>();
  /** With an operation under way. */
  readonly #busy = new Set<ChunkId>();
  #incarnation = 0;
  #number = 0;

  async live({ world, clock, disk, random }: Life): Promise<'ended' | 'failed'> {
    let opened: FileChunkStore | undefined;
    let refused: unknown;
    FileChunkStore.open({
      disk,
      clock,
      random,
      capacityBytes: 10_000_000,
      reserveBytes: 100_000,
      segmentBytes: SEGMENT_BYTES,
    }).then(
      (store) => {
        opened = store;
      },
      (error: unknown) => {
        refused = error;
      },
    );
    await world.until(() => opened !== undefined || refused !== undefined || disk.dead);
    if (refused !== undefined) {
      assert.equal(
        (refused as { code?: string }).code,
        'disk_failed',
        `the chunk store refuses to open: ${String(refused)}`,
      );
      return 'failed';
    }
    if (opened === undefined) return 'ended';
    const store = opened;
    assert.ok(store.incarnation > this.#incarnation, `incarnation ${store.incarnation} after ${this.#incarnation}`);
    this.#incarnation = store.incarnation;
    let breach: unknown;
    const note = (error: unknown): void => {
      breach ??= error;
    };
    let checked = false;
    this.#check(store).then(() => {
      checked = true;
    }, note);
    await world.until(() => checked || breach !== undefined || disk.dead);
    if (breach !== undefined) throw breach;

    for (let step = 0; step < 40 && !disk.dead && !store.failed.aborted; step++) {
      const choice = randomBelow(random, 14);
      const idle = this.#idleChunk(randomBelow(random, this.#number + 1));
      if (choice < 6) {
        const id = (choice === 0 ? idle : undefined) ?? chunkIdOf(EPOCH, ++this.#number);
        const fresh = random.bytes(1 + randomBelow(random, CHUNK_BYTES_MAX));
        const waits = randomBelow(random, 3) === 0;
        this.#alone(id, () => this.#put(store, id, fresh, waits)).catch(note);
      } else if (choice < 10) {
        if (idle !== undefined) this.#alone(idle, () => this.#forget(store, idle)).catch(note);
      } else if (choice === 10) {
        const state = idle === undefined ? undefined : this.#chunks.get(idle)?.state;
        if (idle !== undefined && (state === 'written' || state === 'stable'))
          this.#alone(idle, () => this.#read(store, idle)).catch(note);
      } else if (choice === 11) {
        for (const known of this.#chunks.values())
          if (known.state === 'written' && known.sequence <= store.stableSequence) known.state = 'stable';
      } else if (choice === 12) {
        this.#compact(store).catch(note);
      }
      await world.advance(randomUnit(random) * 200);
      if (breach !== undefined) throw breach;
    }
    return store.failed.aborted ? 'failed' : 'ended';
  }

  died(kept: 'written' | 'stable'): void {
    this.#busy.clear();
    for (const known of this.#chunks.values())
      if (known.state === 'put' || (known.state === 'written' && kept === 'stable')) known.state = 'put';
  }

  #idleChunk(number: number): ChunkId | undefined {
    const id = chunkIdOf(EPOCH, number);
    return this.#chunks.has(id) && !this.#busy.has(id) ? id : undefined;
  }

  async #alone(id: ChunkId, act: () => Promise<void>): Promise<void> {
    this.#busy.add(id);
    await act();
    this.#busy.delete(id);
  }

  async #forget(store: FileChunkStore, id: ChunkId): Promise<void> {
    const known = this.#chunks.get(id);
    assert.ok(known !== undefined);
    if (known.state !== 'gone') known.state = 'put';
    try {
      await store.forget([id]);
    } catch (thrown) {
      assert.equal((thrown as { code?: string }).code, 'disk_failed', `forget ${id}: ${String(thrown)}`);
      return;
    }
    assert.equal(store.has(id), false, `chunk ${id} was forgotten and is here`);
    known.state = 'gone';
  }

  async #compact(store: FileChunkStore): Promise<void> {
    try {
      await store.compact();
    } catch (thrown) {
      assert.equal((thrown as { code?: string }).code, 'disk_failed', `compact: ${String(thrown)}`);
    }
  }

  async #put(store: FileChunkStore, id: ChunkId, fresh: Buffer, waits: boolean): Promise<void> {
    const known = this.#chunks.get(id) ?? { bytes: fresh, sequence: 0, state: 'put' };
    this.#chunks.set(id, known);
    if (known.state === 'gone') known.state = 'put';
    const { frames, rawLength, digest } = encodeChunk([known.bytes], { compress: true });
    const facts = { chunk: id, inode: 5 as InodeNumber, block: 0, rawLength, digest, epoch: EPOCH };
    let result: PutResult;
    try {
      result = await store.put(facts, frames);
    } catch (thrown) {
      assert.equal((thrown as { code?: string }).code, 'disk_failed', `put ${id}: ${String(thrown)}`);
      return;
    }
    if (known.state !== 'put' && result.sequence !== known.sequence)
      assert.fail(`chunk ${id} has sequence ${result.sequence} after ${known.sequence}`);
    known.sequence = result.sequence;
    if (known.state === 'put') known.state = 'written';
    if (!waits) return;
    try {
      await store.whenStable(result.sequence);
    } catch (thrown) {
      assert.equal((thrown as { code?: string }).code, 'disk_failed', `wait for ${id}: ${String(thrown)}`);
      return;
    }
    known.state = 'stable';
  }

  async #read(store: FileChunkStore, id: ChunkId): Promise<void> {
    const known = this.#chunks.get(id);
    assert.ok(known !== undefined);
    assert.ok(store.has(id), `chunk ${id} was ${known.state} and is missing`);
    const described = await store.describe(id);
    assert.equal(described.rawLength, known.bytes.length);
    const { frames } = encodeChunk([known.bytes], { compress: true });
    const stored: Buffer[] = [];
    for await (const piece of store.read(id, 0, known.bytes.length)) stored.push(Buffer.from(piece));
    assert.deepEqual(Buffer.concat(stored), Buffer.concat(frames), `bytes of chunk ${id}`);
    known.sequence = described.sequence;
  }

  /** Everything that must be there is there; whatever else is there is right, and counts as stable from now on. */
  async #check(store: FileChunkStore): Promise<void> {
    for (const [id, known] of this.#chunks) {
      if (known.state === 'gone') assert.equal(store.has(id), false, `chunk ${id} was forgotten and is here again`);
      if ((known.state === 'put' || known.state === 'gone') && !store.has(id)) continue;
      await this.#read(store, id);
      known.state = 'stable';
    }
    const ids = store.list(undefined, 10_000);
    for (const id of ids) assert.ok(this.#chunks.has(id), `chunk ${id} was never put`);
    assert.equal(store.stats().chunkCount, ids.length);
  }
}
