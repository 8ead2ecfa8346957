import { CollectiveError } from '@collective/base/errors';
import { BLOCK_BYTES, FILE_BYTES_MAX } from '@collective/base/limits';
import { encodeChunk } from '@collective/protocol/bulk/encode-chunk';
import {
  type ChunkCommit,
  FallocateMode,
  type Lock,
  LockFamily,
  LockType,
  PromiseKind,
  type Slice,
  type Attributes as WireAttributes,
} from '@collective/protocol/gen/session';
import type {
  Attributes,
  CallOptions,
  FileHandle,
  HeldLock,
  LockGrant,
  LockRequest,
  MutationOptions,
  ReadOptions,
  SetAttributes,
} from '../api.ts';
import { expectResult } from '../session/operation-kinds.ts';
import { readBorrowed, readRange, readWhole } from '../transfer/download.ts';
import { mustStoreAgain } from '../transfer/upload.ts';
import { attributesOf } from './attributes.ts';
import { about, aboutEach, type FileContext, NEVER_ABORTED, settingsOf } from './file-context.ts';
import { blockToFold, foldBlock } from './fold-block.ts';
import { wireChanges } from './set-attributes.ts';

const READ_BYTES_MAX = 64 * 1024 * 1024;
const BLOCKS_AT_ONCE = 16;
/** Reading and writing 4 MiB again for so many commits costs less than they cost each other. */
const FOLD_AFTER_PIECES = 256;
const COUNTED_BLOCKS_MAX = 4_096;
/** Of one commit: each after what was in its way was removed. A write spans this many blocks at most. */
const COMMIT_TRIES_MAX = BLOCKS_AT_ONCE + 4;
/** The largest number of the wire: to the end of the file, however it grows. */
const LOCK_TO_END = Number.MAX_SAFE_INTEGER;

export class OpenFile implements FileHandle {
  readonly inode: number;
  readonly path: string;
  readonly #context: FileContext;
  /** As of the last look; a file moves into another one when that is made or dissolved (M9). */
  #realm: number;
  readonly #writable: boolean;
  /** Session generations in which locks are held: after a lost session their holder must hear of it. */
  #lockGeneration: number | undefined;
  #closed = false;
  /** Commits since the last fold, by block. */
  readonly #pieces = new Map<number, number>();
  /** Settles when the fold under way is over; never rejects. */
  #folding: Promise<void> = Promise.resolve();

  constructor(context: FileContext, path: string, attributes: WireAttributes, writable: boolean) {
    this.#context = context;
    this.path = path;
    this.inode = attributes.inode;
    this.#realm = attributes.realm;
    this.#writable = writable;
    context.open.opened(this.inode);
  }

  /**
   * From here on the inode outlives its last name (M8). Noted here before the coordinator is told, so that its question
   * meanwhile is answered rightly. Throws `stale` when the inode has gone since it was looked up.
   */
  async announce(signal: AbortSignal | undefined): Promise<void> {
    const { session } = this.#context;
    if (session.holdsPromise(this.inode, PromiseKind.PROMISE_OPEN)) return;
    try {
      await session.call(
        { $case: 'getAttributes', value: { inode: this.inode, opens: true } },
        { signal, fresh: true },
      );
    } catch (error) {
      this.#closed = true;
      this.#context.open.closed(this.inode);
      throw error;
    }
  }

  attributes(options: CallOptions = {}): Promise<Attributes> {
    return this.#do('Look at', async () => {
      const reply = await this.#context.session.call(
        { $case: 'getAttributes', value: { inode: this.inode, opens: false } },
        { signal: options.signal },
      );
      return attributesOf(expectResult(reply, 'attributes'));
    });
  }

  setAttributes(changes: SetAttributes, options: MutationOptions = {}): Promise<Attributes> {
    return this.#do('Change the attributes of', async () => {
      const value = wireChanges(this.inode, changes);
      const reply = await this.#context.session.call({ $case: 'setAttributes', value }, settingsOf(options));
      return attributesOf(expectResult(reply, 'attributes'));
    });
  }

  read(offset: number, length: number, options: CallOptions = {}): Promise<Buffer> {
    return this.#do('Read', async () => {
      checkRange(offset, length);
      if (length > READ_BYTES_MAX)
        throw new CollectiveError('range', `Read ${length} bytes at once: at most ${READ_BYTES_MAX}`);
      const range = { inode: this.inode, offset, end: offset + length };
      return await readWhole(this.#context.download, range, options.signal ?? NEVER_ABORTED);
    });
  }

  stream(options: ReadOptions = {}): AsyncIterable<Buffer> {
    const offset = options.offset ?? 0;
    const end = options.length === undefined ? FILE_BYTES_MAX : offset + options.length;
    const range = { inode: this.inode, offset, end };
    return aboutEach(
      'Read',
      this.path,
      async function* (this: OpenFile) {
        this.#check();
        checkRange(offset, options.length ?? 0);
        const read = options.borrow ? readBorrowed : readRange;
        yield* read(this.#context.download, range, options.signal ?? NEVER_ABORTED);
      }.bind(this),
    );
  }

  write(offset: number, bytes: Uint8Array, options: MutationOptions = {}): Promise<void> {
    return this.#change('Write', async () => {
      checkRange(offset, bytes.length);
      if (offset + bytes.length > FILE_BYTES_MAX)
        throw new CollectiveError('too_large', `Write up to offset ${offset + bytes.length}`);
      const parts = cutAtBlocks(offset, bytes);
      for (let from = 0; from < parts.length; from += BLOCKS_AT_ONCE) {
        const stored = await this.#storeParts(parts.slice(from, from + BLOCKS_AT_ONCE), options);
        await this.#commit(stored, options, { append: false });
      }
    });
  }

  append(bytes: Uint8Array, options: MutationOptions = {}): Promise<number> {
    return this.#change('Append to', async () => {
      if (bytes.length > BLOCK_BYTES)
        throw new CollectiveError('range', `Append ${bytes.length} bytes at once: at most ${BLOCK_BYTES}`);
      if (bytes.length === 0) return (await this.attributes(options)).sizeBytes;
      const stored = await this.#storeParts([{ offset: 0, bytes }], options);
      return await this.#commit(stored, options, { append: true });
    });
  }

  truncate(sizeBytes: number, options: MutationOptions = {}): Promise<void> {
    return this.#change('Truncate', async () => {
      checkRange(sizeBytes, 0);
      const value = wireChanges(this.inode, { sizeBytes });
      await this.#context.session.call({ $case: 'setAttributes', value }, settingsOf(options));
    });
  }

  punchHole(offset: number, length: number, options: MutationOptions = {}): Promise<void> {
    return this.#change('Make a hole in', async () => {
      checkRange(offset, length);
      const value = { inode: this.inode, mode: FallocateMode.FALLOCATE_PUNCH_HOLE, offset, length };
      await this.#context.session.call({ $case: 'fallocate', value }, settingsOf(options));
    });
  }

  sync(options: CallOptions = {}): Promise<void> {
    return this.#do('Sync', async () => {
      await this.#context.session.call({ $case: 'sync', value: { inode: this.inode } }, { signal: options.signal });
    });
  }

  lock(request: LockRequest, options: CallOptions = {}): Promise<LockGrant> {
    return this.#do('Lock', async () => {
      const lock = wireLock(request, request.type === 'read' ? LockType.LOCK_READ : LockType.LOCK_WRITE);
      const wait = request.wait ?? false;
      const reply = await this.#context.session.call(
        { $case: 'setLock', value: { inode: this.inode, lock, wait } },
        { signal: options.signal, unlimited: wait },
      );
      this.#lockGeneration ??= this.#context.session.generation;
      return { fence: expectResult(reply, 'lock').fence };
    });
  }

  unlock(request: Omit<LockRequest, 'type' | 'wait'>, options: CallOptions = {}): Promise<void> {
    return about('Unlock', this.path, async () => {
      const isWhole = request.start === undefined && request.end === undefined;
      const lost = this.#lockGeneration !== undefined && this.#lockGeneration !== this.#context.session.generation;
      if (isWhole) this.#lockGeneration = undefined;
      if (lost && isWhole) return;
      const value = { inode: this.inode, lock: wireLock(request, LockType.LOCK_UNLOCK), wait: false };
      await this.#context.session.call({ $case: 'setLock', value }, { signal: options.signal });
    });
  }

  testLock(request: LockRequest, options: CallOptions = {}): Promise<HeldLock | undefined> {
    return this.#do('Test a lock of', async () => {
      const lock = wireLock(request, request.type === 'read' ? LockType.LOCK_READ : LockType.LOCK_WRITE);
      const reply = await this.#context.session.call(
        { $case: 'getLock', value: { inode: this.inode, lock } },
        { signal: options.signal },
      );
      const { conflict } = expectResult(reply, 'lock');
      return conflict === undefined ? undefined : heldLock(conflict);
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#folding;
    const { isLast, held } = this.#context.open.closed(this.inode);
    if (isLast) this.#context.session.forgetLater(this.inode);
    if (!held || this.#context.session.state === 'closed') return;
    await about('Close', this.path, () =>
      this.#context.session.call({ $case: 'release', value: { inode: this.inode } }, { durability: 'written' }),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A realm that was dissolved long ago is not known any more: then it is asked where the file is now. */
  async #storeParts(parts: readonly Part[], options: MutationOptions): Promise<StoredPart[]> {
    try {
      return await this.#storeIn(this.#realm, parts, options);
    } catch (error) {
      if (!(error instanceof CollectiveError) || error.code !== 'stale') throw error;
      const reply = await this.#context.session.call(
        { $case: 'getAttributes', value: { inode: this.inode, opens: false } },
        { signal: options.signal },
      );
      const { realm } = expectResult(reply, 'attributes');
      if (realm === this.#realm) throw error;
      this.#realm = realm;
      return await this.#storeIn(realm, parts, options);
    }
  }

  async #storeIn(realm: number, parts: readonly Part[], options: MutationOptions): Promise<StoredPart[]> {
    const { inFlight, chunks } = this.#context.upload;
    const stop = new AbortController();
    const signal = AbortSignal.any([options.signal ?? NEVER_ABORTED, stop.signal]);
    const store = async ({ offset, bytes }: Part): Promise<StoredPart> => {
      await inFlight.acquire(bytes.length, signal);
      try {
        const encoded = encodeChunk([bytes], { compress: this.#context.compresses(realm) });
        const place = {
          realm,
          inode: this.inode,
          block: Math.floor(offset / BLOCK_BYTES),
          stable: (options.durability ?? 'stable') === 'stable',
        };
        return {
          offset,
          length: bytes.length,
          store: () => chunks.store(encoded, place, signal),
          commit: await chunks.store(encoded, place, signal),
        };
      } finally {
        inFlight.release(bytes.length);
      }
    };
    const storing = parts.map(store);
    try {
      return await Promise.all(storing);
    } catch (error) {
      stop.abort(error);
      for (const one of await Promise.allSettled(storing))
        if (one.status === 'fulfilled') chunks.giveUp(one.value.commit);
      throw error;
    }
  }

  async #commit(parts: readonly StoredPart[], options: MutationOptions, how: { append: boolean }): Promise<number> {
    const send = async (): Promise<number> => {
      const slices: Slice[] = parts.map(({ offset, length, commit }) => ({
        offset,
        length,
        chunk: commit.chunk,
        chunkOffset: 0,
      }));
      const reply = await this.#context.session.call(
        {
          $case: 'commitSlices',
          value: {
            inode: this.inode,
            slices,
            chunks: parts.map(({ commit }) => commit),
            mtime: undefined,
            append: how.append,
            sizeAtLeast: 0,
            expected: [],
            clearSetId: true,
          },
        },
        settingsOf(options),
      );
      return expectResult(reply, 'committed').offset;
    };
    const { chunks } = this.#context.upload;
    for (let tries = 1; ; tries++) {
      await this.#folding;
      try {
        const start = await send();
        for (const { commit } of parts) chunks.committed(commit);
        this.#countPieces(parts.map(({ offset }) => Math.floor((start + offset) / BLOCK_BYTES)));
        return start;
      } catch (error) {
        const block = blockToFold(error);
        const again = mustStoreAgain(error);
        const over = tries >= COMMIT_TRIES_MAX || (block === undefined && !again);
        if (over || again) for (const { commit } of parts) chunks.giveUp(commit);
        if (over) throw error;
        if (block !== undefined) await this.#fold(block);
        if (again) for (const part of parts) part.commit = await part.store();
      }
    }
  }

  /** Many small pieces make every further commit to their block dearer, so now and then they become one. */
  #countPieces(blocks: readonly number[]): void {
    for (const block of blocks) {
      const pieces = (this.#pieces.get(block) ?? 0) + 1;
      if (pieces < FOLD_AFTER_PIECES) {
        if (this.#pieces.size >= COUNTED_BLOCKS_MAX) this.#pieces.clear();
        this.#pieces.set(block, pieces);
        continue;
      }
      this.#pieces.delete(block);
      // All that was written is committed; if this fails, the coordinator says when a fold must be.
      this.#fold(block).catch(() => undefined);
    }
  }

  /** Own commits wait meanwhile: they would change the block and spoil the fold. */
  async #fold(block: number): Promise<void> {
    await this.#folding;
    const folding = foldBlock(this.#context, this.inode, block, NEVER_ABORTED);
    this.#folding = folding.then(
      () => undefined,
      () => undefined,
    );
    await folding;
  }

  #change<T>(what: string, act: () => Promise<T>): Promise<T> {
    return this.#do(what, async () => {
      if (!this.#writable)
        throw new CollectiveError('invalid_argument', "Change a file that was opened with access 'read'");
      return await act();
    });
  }

  #do<T>(what: string, act: () => Promise<T>): Promise<T> {
    return about(what, this.path, async () => {
      this.#check();
      return await act();
    });
  }

  #check(): void {
    if (this.#closed) throw new CollectiveError('invalid_argument', 'Use a file handle that was closed');
    if (this.#lockGeneration !== undefined && this.#lockGeneration !== this.#context.session.generation)
      throw new CollectiveError(
        'session_lost',
        'Use a file whose lock was lost with the session: unlock it or open it again',
      );
  }
}

interface Part {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface StoredPart {
  readonly offset: number;
  readonly length: number;
  commit: ChunkCommit;
  readonly store: () => Promise<ChunkCommit>;
}

function cutAtBlocks(offset: number, bytes: Uint8Array): Part[] {
  const parts: Part[] = [];
  for (let done = 0; done < bytes.length; ) {
    const at = offset + done;
    const length = Math.min(bytes.length - done, BLOCK_BYTES - (at % BLOCK_BYTES));
    parts.push({ offset: at, bytes: bytes.subarray(done, done + length) });
    done += length;
  }
  return parts;
}

function checkRange(offset: number, length: number): void {
  for (const [name, value] of [
    ['offset', offset],
    ['length', length],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new CollectiveError('invalid_argument', `Use ${value} as ${name}: it must be a whole number from 0 on`);
  }
}

function wireLock(request: Omit<LockRequest, 'type' | 'wait'>, type: LockType): Lock {
  return {
    family: request.family === 'bsd' ? LockFamily.LOCK_BSD : LockFamily.LOCK_POSIX,
    type,
    owner: request.owner ?? 0,
    start: request.start ?? 0,
    end: request.end ?? LOCK_TO_END,
    pid: 0,
  };
}

function heldLock(lock: Lock): HeldLock {
  return {
    type: lock.type === LockType.LOCK_READ ? 'read' : 'write',
    family: lock.family === LockFamily.LOCK_BSD ? 'bsd' : 'posix',
    owner: lock.owner,
    start: lock.start,
    end: lock.end,
    pid: lock.pid,
  };
}
